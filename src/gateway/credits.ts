import type { Context } from 'hono';
import { AppError } from '../errors.ts';
import type { CapView, SpendReset } from '../ledger/access.ts';
import { maxBig, usdNumber } from '../units.ts';
import { HonoCall } from './call.ts';
import { identify, rateLimitsOf } from './caller.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { describePrice } from './models.ts';

/** GET /v1/credits, as OpenRouter has it. */
export async function showCredits(context: Context<AppEnv>, deps: AppDeps): Promise<Response> {
  const { customer } = identify(new HonoCall(context, deps), deps);
  const balance = await deps.ledger.ask({ op: 'balance', customer });
  if (!balance) throw new AppError('not_found', 'this account is gone');
  // Credit that expired is no credit any more: what is left is always the one less the other.
  const credits = balance.used + balance.posted;
  const sla = (await deps.slaCredits?.(customer)) ?? [];
  const data = { total_credits: usdNumber(credits), total_usage: usdNumber(balance.used) };
  return context.json({ data: sla.length > 0 ? { ...data, sla_credits: sla } : data });
}

/** As OpenRouter names the windows; a limit for ever has none. */
const RESETS: Record<SpendReset, string | null> = { none: null, day: 'daily', week: 'weekly', month: 'monthly' };

/** GET /v1/key: the caller's own key, as OpenRouter has it. Keys that it was rotated from count with it. */
export async function showKey(context: Context<AppEnv>, deps: AppDeps): Promise<Response> {
  const caller = identify(new HonoCall(context, deps), deps);
  const spending = await deps.ledger.ask({ op: 'spending', key: caller.key, atMs: deps.clock.now() });
  if (!spending) throw new AppError('not_found', 'this key is gone');
  const { total, day, week, month, cap, project } = spending;
  const { requestsPerMinute, tokensPerMinute, concurrency } = rateLimitsOf(caller.settings, deps.limits);
  return context.json({
    data: {
      label: caller.name,
      ...viewCap(cap),
      usage: usdNumber(total),
      usage_daily: usdNumber(day),
      usage_weekly: usdNumber(week),
      usage_monthly: usdNumber(month),
      expires_at: caller.endsMs === null ? null : new Date(caller.endsMs).toISOString(),
      models: caller.settings.models,
      trust: caller.settings.trust ?? null,
      regions: caller.settings.regions ?? null,
      providers: caller.settings.providers ?? null,
      wake_fee_max: typeof caller.settings.wakeFeeMax === 'bigint' ? usdNumber(caller.settings.wakeFeeMax) : null,
      project: project === null ? null : { name: project.name, ...viewCap(project) },
      rate_limit: { requests_per_minute: requestsPerMinute, tokens_per_minute: tokensPerMinute, concurrency },
    },
  });
}

/** `held` is what requests in flight may still cost: it is neither used nor free. */
function viewCap({ limit, reset, spent, held, resetsMs }: CapView): Record<string, unknown> {
  return {
    limit: limit === null ? null : usdNumber(limit),
    limit_remaining: limit === null ? null : usdNumber(maxBig(0n, limit - spent - held)),
    limit_reset: RESETS[reset],
    limit_resets_at: resetsMs === null ? null : new Date(resetsMs).toISOString(),
    held: usdNumber(held),
  };
}

/** GET /v1/generation?id=: what became of one request; its own account's only. */
export async function showGeneration(context: Context<AppEnv>, deps: AppDeps): Promise<Response> {
  const { customer } = identify(new HonoCall(context, deps), deps);
  const id = context.req.query('id') ?? '';
  const usage = id === '' ? null : await deps.ledger.ask({ op: 'usage', request: id.slice(0, 128) });
  if (!usage || usage.customer !== customer) {
    const message = id === '' ? 'which generation? ask with ?id=chatcmpl-…' : 'there is no such generation';
    throw new AppError('not_found', message, { param: 'id' });
  }
  const { tokens, detail, status } = usage;
  return context.json({
    data: {
      id: usage.request,
      model: usage.model,
      created_at: new Date(usage.atMs - (status === 'recovered' ? 0 : (detail.totalMs ?? 0))).toISOString(),
      status,
      cancelled: status === 'cancelled',
      finish_reason: detail.finish ?? null,
      error: detail.error ?? null,
      // Not known of one that the gateway's own end cut off.
      streamed: detail.stream ?? null,
      tokens_prompt: tokens.inputTokens,
      tokens_cached: tokens.cachedTokens,
      tokens_completion: tokens.outputTokens,
      // The price at that time: with the tokens it makes the charge, whatever the pool costs now.
      pricing: usage.price === null ? null : describePrice(usage.price),
      total_cost: usdNumber(usage.charged + usage.wakeFee),
      // Of it, for having the pool woken.
      wake_fee: usdNumber(usage.wakeFee),
      lease: detail.lease ?? null,
      provider: detail.provider ?? null,
      market: detail.market ?? null,
      resumed: detail.resumed ?? 0,
      waited_ms: detail.waitedMs ?? 0,
      cold_start_ms: detail.coldStartMs ?? 0,
      first_token_ms: detail.firstTokenMs ?? null,
      total_ms: detail.totalMs ?? null,
    },
  });
}
