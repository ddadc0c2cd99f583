import { describeError } from '../../errors.ts';
import type { PoolSpec } from '../../spec.ts';
import type { CanarySpec } from '../../spec/canary.ts';
import { breachOf, type Breach } from '../../spec/dispute.ts';
import { reaches } from '../../spec/trust.ts';
import type { EpochMs, Ms } from '../../units.ts';
import { marketOf, type Parts } from '../parts.ts';
import type { Pool } from '../pool/pools.ts';
import type { Target } from '../pool/slot.ts';
import type { ReplicaRecord } from '../records.ts';
import { distance } from './distance.ts';
import { calibrationOf, isWanted, type HonestDistance } from './honest.ts';
import type { Asked, CanaryMeans } from './means.ts';
import { drawFrom, makeQuestion } from './questions.ts';
import { breachAt, isBreach, NO_EVIDENCE, weigh, type Calibration, type Evidence } from './sequential-test.ts';

interface Trial {
  dueMs: EpochMs;
  busy: boolean;
  evidence: Evidence;
  readonly distances: { readonly distance: number; readonly atMs: EpochMs }[];
}

const ANSWER_MS: Ms = 60_000;
const SHOWN_MAX = 20;
/** Of random bytes for one question: more than it draws. */
const BYTES = 512;

/**
 * Asks replicas now and then what a trusted model server is asked, too, and holds their log-probabilities against its. A
 * replica that is further from it than honest ones are is disputed when a sequential test says so, never by one answer.
 */
export class Canaries {
  readonly #parts: Parts;
  readonly #means: CanaryMeans;
  readonly #trials = new Map<string, Trial>();
  readonly #honest = new Map<string, HonestDistance[]>();
  readonly #calibrated = new Map<string, Calibration>();
  readonly #told = new Map<string, string>();
  readonly #found = new Map<string, Breach>();

  constructor(parts: Parts, means: CanaryMeans) {
    this.#parts = parts;
    this.#means = means;
  }

  /** The breach that was found on a lease; it is given once. */
  found({ leaseId }: Target): Breach | null {
    const breach = this.#found.get(leaseId) ?? null;
    this.#found.delete(leaseId);
    return breach;
  }

  /** A look at a ready replica: it is asked when it is due. Takes as long as its answer does. */
  async look(record: ReplicaRecord, pool: Pool, target: Target): Promise<void> {
    const { spec } = pool.router;
    const { canary = null } = spec;
    // What an API runs is its own business, and embeddings have no log-probabilities.
    if (canary === null || spec.kind !== 'chat' || target.tokenPrice || isReference(record, canary)) return;
    const trial = this.#trialOf(target.leaseId, canary);
    if (trial.busy || this.#parts.clock.now() < trial.dueMs) return;
    // Traffic goes first: a full machine is asked later.
    if ((pool.router.load(record.id)?.inFlight ?? 0) >= target.slots) return;
    trial.busy = true;
    try {
      trial.dueMs = this.#parts.clock.now() + this.#pause(canary);
      const breach = await this.#compare({ record, spec, target, canary, trial });
      if (breach) this.#found.set(target.leaseId, breach);
    } catch (error) {
      if (!this.#parts.signal.aborted) await this.#tell(record, `no comparison: ${describeError(error)}`);
    } finally {
      trial.busy = false;
    }
  }

  async #compare(from: {
    readonly record: ReplicaRecord;
    readonly spec: PoolSpec;
    readonly target: Target;
    readonly canary: CanarySpec;
    readonly trial: Trial;
  }): Promise<Breach | null> {
    const { record, spec, target, canary, trial } = from;
    const { clock, signal } = this.#parts;
    const reference = await this.#reference(record.pool, spec, canary);
    if (reference === null) {
      await this.#tell(record, 'no comparison: there is neither a reference nor an owned server of the pool');
      return null;
    }
    const question = makeQuestion(drawFrom(this.#means.random(BYTES)), canary.tokens);
    const late = new AbortController();
    const cancel = clock.timer(ANSWER_MS, () => late.abort(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
    const both = AbortSignal.any([signal, late.signal]);
    try {
      const { ask } = this.#means;
      const [mine, theirs] = await Promise.all([
        ask(target, spec, question, both),
        ask(reference, spec, question, both),
      ]);
      const found = distance(mine, theirs);
      return found === null ? null : await this.#judge(from, found);
    } finally {
      cancel();
      trial.dueMs = Math.max(trial.dueMs, clock.now());
    }
  }

  async #judge(
    from: { record: ReplicaRecord; spec: PoolSpec; target: Target; canary: CanarySpec; trial: Trial },
    found: number,
  ): Promise<Breach | null> {
    const { record, spec, target, canary, trial } = from;
    const nowMs = this.#parts.clock.now();
    const id = referenceId(record, spec, target);
    const calibration = await this.#calibration(id, { record, canary, distance: found });
    if (calibration === null) return null;
    trial.distances.push({ distance: found, atMs: nowMs });
    if (trial.distances.length > SHOWN_MAX) trial.distances.shift();
    trial.evidence = weigh(trial.evidence, found, calibration);
    if (!isBreach(trial.evidence, canary.falseAlarm)) return null;
    this.#trials.delete(target.leaseId);
    return breachOfTrial(trial, calibration, { record, canary, nowMs });
  }

  /** Null while it is being gathered: then the distance goes into it, where its provider is believed. */
  async #calibration(
    id: string,
    from: { readonly record: ReplicaRecord; readonly canary: CanarySpec; readonly distance: number },
  ): Promise<Calibration | null> {
    const { record, canary, distance: found } = from;
    const key = `${id} ${canary.calibrate} ${canary.distances} ${canary.falseAlarm}`;
    const known = this.#calibrated.get(key);
    if (known) return known;
    const loaded = this.#honest.get(id) ?? (await this.#means.rows.load(id));
    // Another answer may have come while the disk was asked.
    const samples = this.#honest.get(id) ?? loaded;
    this.#honest.set(id, samples);
    const before = calibrationOf(samples, canary);
    if (typeof before !== 'string') {
      this.#calibrated.set(key, before);
      return before;
    }
    if (before === 'they disagree') {
      await this.#tell(record, 'providers that ought to be alike answer differently: nobody is judged');
      return null;
    }
    const { provider } = record;
    const believed = canary.calibrate === 'first' || reaches(record.trust ?? 'any', 'audited');
    if (!believed || provider === null || !isWanted(samples, provider, canary)) return null;
    samples.push({ provider, distance: found });
    await this.#means.rows.save(id, samples, this.#parts.clock.now());
    return null;
  }

  /** The operator's own, or the pool's replica on a server of the operator's. */
  async #reference(pool: string, spec: PoolSpec, { reference }: CanarySpec): Promise<Asked | null> {
    if (reference !== null) {
      const apiKey = reference.key === null ? null : this.#means.keyOf(reference.key);
      return { url: reference.url, apiKey, engine: spec.engine, model: reference.model ?? spec.model };
    }
    for (const record of this.#parts.fleet.ofPool(pool)) {
      if (record.market !== 'owned' || record.state !== 'ready' || record.leaseId === null) continue;
      const status = await marketOf(this.#parts, record)?.status(record.leaseId);
      const { url = null, apiKey = null, model, engine } = status?.delivery ?? {};
      if (url === null) continue;
      const runs = record.runs ?? spec;
      return { url, apiKey, engine: engine ?? runs.engine, model: model ?? runs.model };
    }
    return null;
  }

  #trialOf(lease: string, canary: CanarySpec): Trial {
    const known = this.#trials.get(lease);
    if (known) return known;
    const live = new Set(this.#parts.fleet.active().map(({ leaseId }) => leaseId));
    for (const old of this.#trials.keys()) if (!live.has(old)) this.#trials.delete(old);
    const dueMs = this.#parts.clock.now() + this.#pause(canary);
    const trial: Trial = { dueMs, busy: false, evidence: NO_EVIDENCE, distances: [] };
    this.#trials.set(lease, trial);
    return trial;
  }

  /** Exponential, so that no answer tells when the next question comes; at least a tenth of the mean, so that it is bounded. */
  #pause({ everyMs }: CanarySpec): Ms {
    const draw = drawFrom(this.#means.random(4))();
    return Math.round(everyMs * (0.1 - 0.9 * Math.log(1 - draw)));
  }

  /** Once, until something else is to be said of the pool. */
  async #tell({ pool, id, leaseId }: ReplicaRecord, reason: string): Promise<void> {
    if (this.#told.get(pool) === reason) return;
    this.#told.set(pool, reason);
    await this.#parts.decide({ pool, kind: 'canary.idle', reason, detail: { replica: id, lease: leaseId } });
  }
}

/** The server that answers are held against is not held against itself. */
function isReference({ market }: ReplicaRecord, { reference }: CanarySpec): boolean {
  return reference === null && market === 'owned';
}

/** What honest answers depend on: weights, GPU, engine. */
function referenceId({ pool, runs }: ReplicaRecord, { hardware }: PoolSpec, { engine }: Target): string {
  const gpu = hardware.gpu.map(({ model }) => model).join('+') || 'cpu';
  return `${pool} ${runs?.version ?? ''} ${gpu}x${hardware.gpus} ${engine}`;
}

function breachOfTrial(
  { evidence, distances }: Trial,
  { threshold, hitShare, count }: Calibration,
  { record, canary, nowMs }: { readonly record: ReplicaRecord; readonly canary: CanarySpec; readonly nowMs: EpochMs },
): Breach {
  const round = (value: number): number => Number(value.toPrecision(4));
  const { canaries, hits, peak } = evidence;
  return breachOf({
    kind: 'wrong_weights',
    reason:
      `its log-probabilities are not those of the weights: ${hits} of ${canaries} answers differ from the reference by more ` +
      `than ${round(threshold)} nats, of honest ones at most ${Math.round(hitShare * 1000) / 10} % do`,
    fromMs: record.leasedMs ?? nowMs,
    toMs: nowMs,
    measured: [
      { what: 'e-value', value: round(peak), promised: `below ${round(breachAt(canary.falseAlarm))}`, atMs: nowMs },
      { what: 'chance of a false alarm over the whole lease', value: canary.falseAlarm, atMs: nowMs },
      { what: 'honest distances that the threshold was made from', value: count, atMs: nowMs },
      ...distances.map(({ distance: value, atMs }) => ({
        ...{ what: 'mean gap of log-probabilities, nats', value: round(value), promised: round(threshold), atMs },
      })),
    ],
  });
}
