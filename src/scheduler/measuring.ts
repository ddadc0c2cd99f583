import { describeError } from '../errors.ts';
import type { PoolSpec } from '../spec.ts';
import type { Ms } from '../units.ts';
import { Condemning, speedEvidence } from './condemning.ts';
import { mismatchOf, promisedSpeed, slownessOf } from './holding.ts';
import type { Measured, Parts } from './parts.ts';
import type { Pool } from './pool/pools.ts';
import type { Target } from './pool/slot.ts';
import type { SpeedSample } from './pool/speed-meter.ts';
import type { ReplicaRecord } from './records.ts';
import { isCurrent } from './turnover.ts';

/** Questions right after it got ready, apart from each other; then one now and then. */
const FIRST = 3;
const FIRST_MS: Ms = 20_000;
const LATER_MS: Ms = 3_600_000;
const QUESTION_MS: Ms = 60_000;
/** An answer with hardly another beside it shows what one stream gets; so many of them make one measure. */
const ALONE = 1.25;
const ALONE_ANSWERS = 8;
const MEASURES_KEPT = 10;
/** Of fewer tokens, or in less time, the network is measured. */
const TOKENS_LEAST = 16;
const LEAST_MS: Ms = 5;

/** How fast replicas are: by what their answers show, and by questions of our own while they have nothing else to do. */
export class Measuring {
  readonly #parts: Parts;
  readonly #condemning: Condemning;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#condemning = new Condemning(parts);
  }

  /** What answers have shown since the last look. */
  async look(pool: Pool): Promise<void> {
    const { fleet } = this.#parts;
    const { spec, speeds } = pool.router;
    // What is told by a replica of another description is no measure of this one.
    const samples = speeds.take().filter(({ replica }) => {
      const record = fleet.find(replica);
      return record !== undefined && isCurrent(record, spec) && fleet.notes(replica).tokenPrice === null;
    });
    if (samples.length === 0) return;
    fleet.book.speeds(spec.id, samples);
    for (const { replica, streams, tokensPerS } of samples) {
      if (streams <= ALONE) fleet.notes(replica).alone.push(tokensPerS);
    }
    for (const id of new Set(samples.map(({ replica }) => replica))) {
      const record = fleet.find(id);
      const { alone } = fleet.notes(id);
      if (!record || alone.length < ALONE_ANSWERS) continue;
      await this.#measured(record, pool, { tokensPerS: median(alone.splice(0)), prefillTokensPerS: null, gpu: null });
    }
  }

  /** A question of our own, when it is time for one and it has nothing to do. Nobody waits for it. */
  ask(record: ReplicaRecord, pool: Pool, target: Target): void {
    const { clock, fleet, log, measure, signal } = this.#parts;
    const { router } = pool;
    const notes = fleet.notes(record.id);
    const load = router.load(record.id);
    if (!measure || router.spec.kind !== 'chat' || target.tokenPrice || !isCurrent(record, router.spec)) return;
    if (load?.inFlight !== 0 || load.suspectMs !== null || clock.now() < notes.measureNextMs) return;
    notes.measured += 1;
    notes.measureNextMs = clock.now() + (notes.measured < FIRST ? FIRST_MS : LATER_MS);
    const late = new AbortController();
    const cancel = clock.timer(QUESTION_MS, () => late.abort(new Error(`no answer within ${QUESTION_MS / 1000} s`)));
    const { arrivals } = router.stats;
    measure(target, router.spec, AbortSignal.any([signal, late.signal]))
      .then((seen) => {
        // With others at work, it is no measure of the machine.
        if (router.stats.arrivals !== arrivals) return undefined;
        notes.heardMs = clock.now();
        return this.#answered(record, pool, seen);
      })
      .catch((error: unknown) => {
        if (!signal.aborted) log(`replica ${record.id} was not measured: ${describeError(error)}`);
      })
      .finally(cancel);
  }

  async #answered(record: ReplicaRecord, pool: Pool, seen: Measured): Promise<void> {
    const { clock, fleet } = this.#parts;
    const { spec } = pool.router;
    const { inputTokens, outputTokens, firstMs, totalMs, gpu, memoryBytes } = seen;
    const mismatch = mismatchOf({ gpu, memoryBytes }, spec);
    if (mismatch !== null) {
      const what = gpu === null ? 'bytes of its GPU' : 'name of its GPU';
      const measured = [{ what, value: gpu ?? memoryBytes ?? '', atMs: clock.now() }];
      await this.#condemning.condemn(record, 'wrong_hardware', { reason: mismatch, measured });
    }
    // A short question has shown what the way there and back takes.
    const readMs = firstMs - (fleet.notes(record.id).probeMs ?? 0);
    const prefillTokensPerS = readMs < LEAST_MS ? null : (inputTokens * 1000) / readMs;
    if (prefillTokensPerS !== null) fleet.book.prefill(spec.id, prefillTokensPerS);
    const ms = totalMs - firstMs;
    if (outputTokens < TOKENS_LEAST || ms < LEAST_MS) return;
    const tokensPerS = ((outputTokens - 1) * 1000) / ms;
    const sample: SpeedSample = { replica: record.id, streams: 1, tokensPerS, ms };
    fleet.book.speeds(spec.id, [sample]);
    await this.#measured(record, pool, { tokensPerS, prefillTokensPerS, gpu });
  }

  /** One measure of one stream: into the records, to the router, and held against what was promised. */
  async #measured(
    record: ReplicaRecord,
    pool: Pool,
    seen: { readonly tokensPerS: number; readonly prefillTokensPerS: number | null; readonly gpu: string | null },
  ): Promise<void> {
    const { clock, fleet } = this.#parts;
    const { spec } = pool.router;
    const { market, provider } = record;
    const { measures } = fleet.notes(record.id);
    const atMs = clock.now();
    measures.push(seen.tokensPerS);
    if (measures.length > MEASURES_KEPT) measures.shift();
    const mean = fleet.book.pool(spec.id).rates.streamTokensPerS;
    if (market !== null && provider !== null) {
      const promisedTokensPerS = promisedSpeed(spec) ?? mean;
      const gpu = seen.gpu ?? orderedGpu(spec);
      fleet.book.measured({ market, provider }, { pool: spec.id, ...seen, gpu, atMs, promisedTokensPerS });
    }
    if (mean !== null) pool.router.paced(record.id, median(measures) / mean);
    const reason = slownessOf(measures, spec);
    if (reason === null) return;
    const measured = measures.slice(-3).map((value) => speedEvidence(value, spec, atMs));
    await this.#condemning.condemn(record, 'slow', { reason, measured });
  }
}

/** Where one was asked for, it is that one until its engine says otherwise. */
function orderedGpu({ hardware }: PoolSpec): string | null {
  const [first, ...others] = hardware.gpu;
  return first && others.length === 0 ? first.model : null;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
