import { z } from 'zod';
import { AppError } from '../errors.ts';

/** What of the gateway's replies is a line of a table for people; `--json` and the commands for one thing have the rest. */

const figures = z.record(z.string(), z.unknown());
const advice = z.object({
  model: z.string(),
  gpu: z.string().nullable(),
  tokens_per_second: figures,
  usd_per_hour: figures,
  usd_per_million_tokens: figures,
  utilisation: figures,
  recommended: figures,
  verdict: z.string(),
});
const advised = z.object({ data: z.array(advice) });

/** One line a pool; the command with a model has the rest, with sources and reasons. */
export function shortenAdvice(body: unknown): unknown {
  const parsed = advised.safeParse(body);
  if (!parsed.success) return body;
  return {
    data: parsed.data.data.map((one) => ({
      model: one.model,
      gpu: one.gpu,
      'tokens/s': one.tokens_per_second['output'],
      'costs $/h': one.usd_per_hour['costs'],
      'earns $/h': one.usd_per_hour['earns_today'],
      '$/M full': one.usd_per_million_tokens['full'],
      '$/M today': one.usd_per_million_tokens['today'],
      'in use': percent(one.utilisation['today']),
      'even at': breakEven(one.utilisation['break_even']),
      'ceiling to set': one.recommended['ceiling_usd_per_hour'],
      '$/M to ask': one.recommended['output_usd_per_million'],
      verdict: one.verdict,
    })),
  };
}

function percent(share: unknown): string | null {
  return typeof share === 'number' ? `${Number((share * 100).toPrecision(3))} %` : null;
}

/** More than all that its replicas can do brings nothing, at these prices. */
function breakEven(share: unknown): string | null {
  return typeof share === 'number' && share > 1 ? 'never' : percent(share);
}

const pooled = z
  .object({
    id: z.string(),
    spec: z.record(z.string(), z.unknown()),
    state: z.record(z.string(), z.unknown()).optional(),
  })
  .loose();
const listed = z.object({ data: z.array(pooled) });
const LISTED = ['engine', 'price', 'replicas', 'ceiling_usd_per_hour'];
const STATES = ['phase', 'paused', 'pause_reason', 'ready', 'waiting', 'in_flight'];

/** All settings of all pools are no table that fits a terminal; `show` has them. */
export function shortenPools(body: unknown): unknown {
  const parsed = listed.safeParse(body);
  if (!parsed.success) return body;
  return {
    data: parsed.data.data.map(({ id, spec, state, ...rest }) => ({
      id,
      source: rest['source'],
      ...(state && pick(state, STATES)),
      ...pick(spec, LISTED),
    })),
  };
}

/** After a pause or its end: whether it worked, not every setting, nor the phase, which the next tick makes. */
export function shortenSwitch(body: unknown): unknown {
  const parsed = pooled.safeParse(body);
  if (!parsed.success || !parsed.data.state) return body;
  return { id: parsed.data.id, ...pick(parsed.data.state, STATES.slice(1)) };
}

const decided = z.object({ data: z.array(z.record(z.string(), z.unknown())) });

/** The reason is what is read: it has the rest of the line, and what it is about one column. */
export function shortenDecisions(body: unknown): unknown {
  const parsed = decided.safeParse(body);
  if (!parsed.success) return body;
  return {
    data: parsed.data.data.map((one) => ({
      at: one['at'],
      pool: one['pool'],
      kind: one['kind'],
      about: one['lease'] ?? one['order'] ?? one['replica'] ?? one['provider'],
      reason: one['reason'],
    })),
  };
}

const provider = z.looseObject({ id: z.string() });
const providers = z.object({ data: z.array(provider) });
const SHOWN = ['id', 'market', 'listed', 'capacity', 'used', 'asks_usd_per_hour', 'leases', 'failures', 'disputes'];

/** A line each, or all of one, on every market that has it. */
export function shortenProviders(body: unknown, id?: string): unknown {
  const parsed = providers.safeParse(body);
  if (!parsed.success) return body;
  if (id === undefined) {
    const columns = [...SHOWN, 'quarantined_until', 'why'];
    return { data: parsed.data.data.map((one) => pick(one, columns)) };
  }
  const data = parsed.data.data.filter((one) => one.id === id);
  if (data.length === 0) throw new AppError('not_found', `there is no provider ${id}`);
  return { data };
}

function pick(row: Readonly<Record<string, unknown>>, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(keys.map((key) => [key, row[key]]));
}
