import type { Context } from 'hono';
import { AppError } from '../errors.ts';
import type { Pool } from '../scheduler/pool/pools.ts';
import type { Price } from '../spec.ts';
import { describeSla } from '../spec/sla.ts';
import { formatPricePerToken, formatUsd } from '../units.ts';
import { HonoCall } from './call.ts';
import { identify } from './caller.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { wakeFeeOf } from './wake-fee.ts';

/** OpenAI's model object with what a buyer of tokens asks besides (OpenRouter's names where it has them). */
function describeModel({ router }: Pool): Record<string, unknown> {
  const { spec, stats, expectedStartMs } = router;
  return {
    id: spec.id,
    object: 'model',
    created: Math.floor(spec.loadedAtMs / 1000),
    owned_by: 'underbid',
    kind: spec.kind,
    pricing: describePrice(spec.price),
    context_length: spec.contextTokens,
    quantization: spec.quantization,
    state: stats.ready > 0 ? 'warm' : 'cold',
    expected_start_s: stats.ready > 0 ? 0 : expectedStartMs === null ? null : Math.ceil(expectedStartMs / 1000),
    trust: spec.trust,
    // What is promised of answers; null: nothing.
    sla: spec.sla ? describeSla(spec.sla) : null,
    ...describeWakes(router),
  };
}

/** Of a pool that is not woken for everybody: what wakes it. */
function describeWakes(router: Pool['router']): Record<string, unknown> {
  const { wake } = router.spec;
  if (!wake || wake.needs.length === 0) return {};
  const fee = wakeFeeOf(router);
  return { wakes_for: wake.needs, ...(fee === null ? {} : { wake_fee_usd: formatUsd(fee) }) };
}

/** USD per token, under OpenRouter's names. */
export function describePrice({ inputPico, cachedInputPico, outputPico }: Price): Record<string, string> {
  return {
    prompt: formatPricePerToken(inputPico),
    completion: formatPricePerToken(outputPico),
    input_cache_read: formatPricePerToken(cachedInputPico),
  };
}

/** GET /v1/models: those the key may use. */
export function listModels(context: Context<AppEnv>, deps: AppDeps): Response {
  const { settings } = identify(new HonoCall(context, deps), deps);
  const allowed = deps.pools.list().filter(({ router }) => settings.models?.includes(router.spec.id) ?? true);
  return context.json({ object: 'list', data: allowed.map(describeModel) });
}

/** GET /v1/models/{id}; ids may contain slashes, written plain or as %2F. */
export function showModel(context: Context<AppEnv>, deps: AppDeps): Response {
  const { settings } = identify(new HonoCall(context, deps), deps);
  const id = decodePath(context.req.path.slice('/v1/models/'.length));
  const pool = deps.pools.get(id);
  if (!pool || !(settings.models?.includes(id) ?? true)) {
    throw new AppError('model_not_found', `there is no model ${id.slice(0, 128)}`, { param: 'model' });
  }
  return context.json(describeModel(pool));
}

/** A path's rest as an id. @throws AppError `invalid_request` on a broken escape */
export function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new AppError('invalid_request', 'the path is not valid');
  }
}
