import { AppError, describeError } from '../errors.ts';
import type { PoolSpec } from '../spec.ts';
import { breachOf, type Breach } from '../spec/dispute.ts';
import type { Ms } from '../units.ts';
import type { Ending } from './ending.ts';
import { marketOf, type Parts } from './parts.ts';
import type { Pool } from './pool/pools.ts';
import type { Target } from './pool/slot.ts';
import type { ReplicaRecord } from './records.ts';

/** A probe is given as long as the pool gives a request for its first token, within these. */
const PROBE_MS = { least: 1000, most: 20_000 } as const;
const PROOF_MS: Ms = 120_000;
/** Probes that a machine under suspicion may leave unanswered, in a row. */
const SILENT_MAX = 3;

/** Questions put to model servers: are you ready, are you still there, can you go on with an answer. */
export class Checking {
  readonly #parts: Parts;
  readonly #ending: Ending;
  /** Descriptions of pools whose proof is under way, or was tried, and on which replica. */
  readonly #tried = new WeakMap<PoolSpec, string>();

  constructor(parts: Parts, ending: Ending) {
    this.#parts = parts;
    this.#ending = ending;
  }

  /** Null when the model answers, else why not. */
  async problemOf(target: Target, spec: PoolSpec): Promise<string | null> {
    const error = await this.#probe(target, spec);
    return error === null ? null : describeError(error).slice(0, 200);
  }

  async #probe(target: Target, spec: PoolSpec): Promise<unknown> {
    const { clock, probe, signal } = this.#parts;
    const late = new AbortController();
    const ms = Math.max(PROBE_MS.least, Math.min(PROBE_MS.most, spec.limits.firstTokenMs));
    const cancel = clock.timer(ms, () => late.abort(new Error(`no answer within ${ms / 1000} s`)));
    try {
      await probe(target, spec, AbortSignal.any([signal, late.signal]));
      return null;
    } catch (error) {
      return error ?? new Error('no reason given');
    } finally {
      cancel();
    }
  }

  /**
   * A replica that failed requests is asked itself. One that answers is taken back at once; one that is silent again and
   * again, and has sent no token to anybody meanwhile, is dead: it is replaced, and its provider blamed.
   */
  async suspect(record: ReplicaRecord, pool: Pool, target: Target): Promise<void> {
    const { fleet, clock, decide } = this.#parts;
    const suspectMs = pool.router.load(record.id)?.suspectMs ?? null;
    const notes = fleet.notes(record.id);
    if (suspectMs === null) {
      notes.silentProbes = 0;
      return;
    }
    const error = await this.#probe(target, pool.router.spec);
    const problem = error === null ? null : describeError(error).slice(0, 200);
    const aliveMs = pool.router.load(record.id)?.aliveMs ?? 0;
    const detail = { replica: record.id, lease: target.leaseId, provider: target.provider };
    if (problem === null || aliveMs > suspectMs) {
      notes.silentProbes = 0;
      pool.router.verified(record.id);
      const reason =
        problem === null ? 'it failed requests and answers its probe' : 'it failed requests and streams others';
      await decide({ pool: record.pool, kind: 'replica.verified', reason, detail });
      return;
    }
    // It is full of other requests, whose answers may come in one piece: that is no silence, and no proof either.
    if (error instanceof AppError && error.code === 'queue_full') return;
    notes.silentProbes += 1;
    if (notes.silentProbes < SILENT_MAX) return;
    const seconds = Math.max(1, Math.round((clock.now() - suspectMs) / 1000));
    const reason = `it has not answered for ${seconds} s: ${problem}`;
    await this.#dispute(record, breachOf({ kind: 'down', reason, fromMs: suspectMs, toMs: clock.now() }));
    await this.#ending.fail(record, reason, { provider: target.provider, cause: 'silent' });
  }

  /** On the provider's lasting record: our own memory of it ends with this process. */
  async #dispute(record: ReplicaRecord, breach: Breach): Promise<void> {
    if (record.leaseId === null) return;
    try {
      await marketOf(this.#parts, record)?.dispute(record.leaseId, breach);
    } catch (error) {
      this.#parts.log(`lease ${record.leaseId} could not be disputed: ${describeError(error)}`);
    }
  }

  /** Whether this pool's model servers can go on with an answer: asked once of a replica, until one has shown it. */
  async prove(record: ReplicaRecord, pool: Pool, target: Target): Promise<void> {
    const { proveResumption, clock, signal, decide, log } = this.#parts;
    const { router } = pool;
    const { spec } = router;
    // There is nothing in a list of vectors that another machine could go on with.
    // What an API does with a cut answer is nobody's promise.
    if (spec.kind !== 'chat' || target.tokenPrice) return;
    if (!proveResumption || spec.resume === 'off' || router.resumes || this.#tried.get(spec) === record.id) return;
    this.#tried.set(spec, record.id);
    const late = new AbortController();
    const cancel = clock.timer(PROOF_MS, () => late.abort(new Error(`no answer within ${PROOF_MS / 1000} s`)));
    try {
      const problem = await proveResumption(target, spec, AbortSignal.any([signal, late.signal]));
      // Another description of the pool may have come meanwhile: this proof is not about it.
      if (router.spec !== spec) return;
      router.setResumes(problem === null);
      const kind = problem === null ? 'pool.resumes' : 'pool.does_not_resume';
      const reason = problem ?? 'a cut answer was gone on with, nothing doubled or lost';
      await decide({ pool: spec.id, kind, reason, detail: { replica: record.id } });
    } catch (error) {
      if (!signal.aborted) log(`${spec.id}: whether it resumes is not known: ${describeError(error)}`);
    } finally {
      cancel();
    }
  }
}
