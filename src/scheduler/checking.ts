import { AppError, describeError } from '../errors.ts';
import type { PoolSpec } from '../spec.ts';
import { breachOf } from '../spec/dispute.ts';
import type { Ms } from '../units.ts';
import { Canaries } from './canary/canaries.ts';
import { fileDispute } from './disputing.ts';
import type { Ending } from './ending.ts';
import type { Parts } from './parts.ts';
import type { Pool } from './pool/pools.ts';
import type { Target } from './pool/slot.ts';
import type { ReplicaRecord } from './records.ts';

/** A probe is given as long as the pool gives a request for its first token, within these. */
const PROBE_MS = { least: 1000, most: 20_000 } as const;
const PROOF_MS: Ms = 120_000;
/** Probes that a machine under suspicion may leave unanswered, in a row. */
const SILENT_MAX = 3;
/** An idle replica, or one whose streams have all stopped, is asked after so long without a word. */
const QUIET_MS = { idle: 15_000, streaming: 5000 } as const;
/** Compared with its quickest answer, so long a question may stay unanswered that has nothing before it. */
const SILENT_TIMES = 20;
const SILENT_LEAST_MS: Ms = 5000;

function longest({ limits }: PoolSpec): Ms {
  return Math.max(PROBE_MS.least, Math.min(PROBE_MS.most, limits.firstTokenMs));
}

/** Questions put to model servers: are you ready, are you still there, can you go on with an answer. */
export class Checking {
  readonly #parts: Parts;
  readonly #ending: Ending;
  readonly #canaries: Canaries | null;
  /** Descriptions of pools whose proof is under way, or was tried, and on which replica. */
  readonly #tried = new WeakMap<PoolSpec, string>();

  constructor(parts: Parts, ending: Ending) {
    this.#parts = parts;
    this.#ending = ending;
    this.#canaries = parts.canary ? new Canaries(parts, parts.canary) : null;
  }

  /** No problem when the model answers, else why not, and whether anything was said at all. */
  async problemOf(
    target: Target,
    spec: PoolSpec,
    id: string,
  ): Promise<{ readonly problem: string | null; readonly answered: boolean }> {
    const error = await this.#probe(target, spec, id);
    const problem = error === null ? null : describeError(error).slice(0, 200);
    return { problem, answered: error === null || error instanceof AppError };
  }

  /** @param ms how long it is waited for */
  async #probe(target: Target, spec: PoolSpec, id: string, ms: Ms = longest(spec)): Promise<unknown> {
    const { clock, fleet, probe, signal } = this.#parts;
    const late = new AbortController();
    const begunMs = clock.monotonic();
    const cancel = clock.timer(ms, () => late.abort(new Error(`no answer within ${ms / 1000} s`)));
    try {
      await probe(target, spec, AbortSignal.any([signal, late.signal]));
      const notes = fleet.notes(id);
      notes.heardMs = clock.now();
      notes.probeMs = Math.min(notes.probeMs ?? Infinity, clock.monotonic() - begunMs);
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
      notes.hushed = false;
      return;
    }
    const error = await this.#probe(target, pool.router.spec, record.id, this.#patience(record, pool));
    // What this process no longer waited for says nothing of the machine.
    if (this.#parts.signal.aborted) return;
    const problem = error === null ? null : describeError(error).slice(0, 200);
    const aliveMs = pool.router.load(record.id)?.aliveMs ?? 0;
    const detail = { replica: record.id, lease: target.leaseId, provider: target.provider };
    if (problem === null || aliveMs > suspectMs) {
      notes.silentProbes = 0;
      pool.router.verified(record.id);
      const failed = notes.hushed ? 'it left a question unanswered' : 'it failed requests';
      notes.hushed = false;
      const reason = problem === null ? `${failed} and answers its probe` : `${failed} and streams others`;
      await decide({ pool: record.pool, kind: 'replica.verified', reason, detail });
      return;
    }
    // It is full of other requests, whose answers may come in one piece: that is no silence, and no proof either.
    if (error instanceof AppError && error.code === 'queue_full') return;
    notes.silentProbes += 1;
    if (notes.silentProbes < SILENT_MAX) return;
    const seconds = Math.max(1, Math.round((clock.now() - suspectMs) / 1000));
    const reason = `it has not answered for ${seconds} s: ${problem}`;
    const requests = pool.router.load(record.id)?.hit() ?? [];
    const breach = breachOf({ kind: 'down', reason, fromMs: suspectMs, toMs: clock.now(), requests });
    await fileDispute(this.#parts, record, breach);
    await this.#ending.fail(record, reason, { provider: target.provider, cause: 'silent' });
  }

  /** Asks it now and then what a trusted one is asked, too; one that does not run its weights is disputed and replaced. */
  async honesty(record: ReplicaRecord, pool: Pool, target: Target): Promise<void> {
    const breach = this.#canaries?.found(target) ?? null;
    if (breach === null) {
      // Beside everything else: its answer may take a while, and whether it lives is looked at meanwhile.
      this.#canaries?.look(record, pool, target).catch((error: unknown) => this.#parts.log(describeError(error)));
      return;
    }
    await fileDispute(this.#parts, record, breach);
    await this.#ending.fail(record, breach.reason, { provider: target.provider, cause: 'wrong_weights' });
  }

  /**
   * A machine that goes dark says nothing of it: TCP still accepts. So one that nothing was heard of for a while is asked, and
   * so is one whose answers have all stopped in the middle. Of whoever reads a prompt nothing can be heard yet.
   */
  async listen(record: ReplicaRecord, pool: Pool, target: Target): Promise<void> {
    const { clock, fleet, signal } = this.#parts;
    const { router } = pool;
    const load = router.load(record.id);
    // To ask what is paid by the token costs money, and what it leaves unanswered is no rent.
    if (!load || target.tokenPrice || load.suspectMs !== null || load.begun < load.inFlight) return;
    const notes = fleet.notes(record.id);
    const heardMs = Math.max(notes.heardMs, load.aliveMs, load.lastUsedMs);
    if (clock.now() - heardMs < (load.inFlight === 0 ? QUIET_MS.idle : QUIET_MS.streaming)) return;
    const error = await this.#probe(target, router.spec, record.id, this.#patience(record, pool));
    if (error === null || signal.aborted || (error instanceof AppError && error.code === 'queue_full')) return;
    const now = router.load(record.id);
    if (!now || now.aliveMs > heardMs || fleet.find(record.id)?.state !== record.state) return;
    notes.silentProbes = 1;
    notes.hushed = true;
    router.hush(record.id);
    this.#parts.log(`replica ${record.id} left a question unanswered: ${describeError(error)}`);
  }

  /** A machine that has nothing to read is given some times what its quickest answer took; one that has, as long as a request. */
  #patience(record: ReplicaRecord, pool: Pool): Ms {
    const most = longest(pool.router.spec);
    const load = pool.router.load(record.id);
    const { probeMs } = this.#parts.fleet.notes(record.id);
    if (probeMs === null || !load || load.begun < load.inFlight) return most;
    return Math.min(most, Math.max(SILENT_LEAST_MS, probeMs * SILENT_TIMES));
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
