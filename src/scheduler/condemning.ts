import type { PoolSpec } from '../spec.ts';
import { breachOf, type Measurement } from '../spec/dispute.ts';
import type { EpochMs, Ms } from '../units.ts';
import { fileDispute } from './disputing.ts';
import type { Parts } from './parts.ts';
import type { ReplicaRecord } from './records.ts';

/** Machines that are not replaced: they were not won by an order, so no order brings a better one. */
const STANDING: ReadonlySet<string | null> = new Set(['owned', 'api']);
/** Of one pool, in so long: if all that comes is too slow, the promise is wrong, and each change costs a start-up. */
const MOST = 3;
const MOST_MS: Ms = 3_600_000;

/** A machine that answers and is not what was ordered: blamed, disputed, and followed by another before it goes. */
export class Condemning {
  readonly #parts: Parts;
  readonly #lately = new Map<string, readonly EpochMs[]>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async condemn(
    replica: ReplicaRecord,
    cause: 'slow' | 'wrong_hardware',
    { reason, measured }: { readonly reason: string; readonly measured: readonly Measurement[] },
  ): Promise<void> {
    const { clock, fleet, decide, signal } = this.#parts;
    const record = fleet.find(replica.id);
    if (record?.state !== 'ready' || record.condemned || STANDING.has(record.market) || signal.aborted) return;
    const nowMs = clock.now();
    const lately = (this.#lately.get(record.pool) ?? []).filter((atMs) => nowMs - atMs < MOST_MS);
    if (lately.length >= MOST) return;
    this.#lately.set(record.pool, [...lately, nowMs]);
    const condemned = { cause, reason: reason.slice(0, 500), atMs: nowMs };
    const saving = fleet.save({ ...record, condemned });
    fleet.book.condemned({ ...record, condemned });
    await saving;
    const { id, pool, leaseId, provider } = record;
    await decide({ pool, kind: 'replica.condemned', reason, detail: { replica: id, lease: leaseId, provider, cause } });
    const breach = breachOf({ kind: cause, reason, fromMs: record.readyMs ?? nowMs, toMs: nowMs, measured });
    await fileDispute(this.#parts, record, breach);
  }
}

/** A stream's speed as evidence. */
export function speedEvidence(value: number, spec: PoolSpec, atMs: EpochMs): Measurement {
  return {
    what: 'tokens/s of one stream',
    value: Math.round(value * 10) / 10,
    promised: spec.slo.tokensPerSecond,
    atMs,
  };
}
