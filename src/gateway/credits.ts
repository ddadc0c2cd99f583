import type { Context } from 'hono';
import { AppError } from '../errors.ts';
import { usdNumber } from '../units.ts';
import { identify } from './caller.ts';
import type { AppDeps, AppEnv } from './deps.ts';

/** GET /v1/credits, as OpenRouter has it. */
export async function showCredits(context: Context<AppEnv>, deps: AppDeps): Promise<Response> {
  const { customer } = identify(context, deps);
  const balance = await deps.ledger.ask({ op: 'balance', customer });
  if (!balance) throw new AppError('not_found', 'this account is gone');
  return context.json({ data: { total_credits: usdNumber(balance.credits), total_usage: usdNumber(balance.used) } });
}

/** GET /v1/generation?id=: what became of one request; its own account's only. */
export async function showGeneration(context: Context<AppEnv>, deps: AppDeps): Promise<Response> {
  const { customer } = identify(context, deps);
  const id = context.req.query('id') ?? '';
  const usage = id === '' ? null : await deps.ledger.ask({ op: 'usage', request: id.slice(0, 128) });
  if (!usage || usage.customer !== customer)
    throw new AppError('not_found', 'there is no such generation', { param: 'id' });
  const { tokens, detail, status } = usage;
  return context.json({
    data: {
      id: usage.request,
      model: usage.model,
      created_at: new Date(usage.atMs).toISOString(),
      status,
      cancelled: status === 'cancelled',
      finish_reason: detail.finish ?? null,
      error: detail.error ?? null,
      streamed: detail.stream ?? false,
      tokens_prompt: tokens.inputTokens,
      tokens_cached: tokens.cachedTokens,
      tokens_completion: tokens.outputTokens,
      total_cost: usdNumber(usage.charged),
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
