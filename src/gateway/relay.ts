import { AppError, describeError } from '../errors.ts';
import type { UsageDetail, UsageStatus } from '../ledger/operations.ts';
import type { TokenCounts } from '../ledger/pricing.ts';
import type { Slot } from '../scheduler/pool/slot.ts';
import type { NanoUsd } from '../units.ts';
import { AttemptFailure } from './attempt.ts';
import { Attempts, notTheClients, outcomeOf } from './attempts.ts';
import { Budget, MONEY_ENDED, MONEY_TOLD } from './budget.ts';
import { ChatReply, type WholeAnswer } from './chat-reply.ts';
import type { DeltaChoice } from './choice.ts';
import { Leg } from './leg.ts';
import { toAppError } from './openai.ts';
import { detailOf, NO_TOKENS, outputOf, Timings, tokensOf } from './outcome.ts';
import type { RelayDeps, RelayJob } from './relay-job.ts';
import { Patience } from './patience.ts';
import { Purchases } from './purchases.ts';

/**
 * One request's life on replicas: take a slot, send, stream, count, extend the hold, settle, end. The charge is on disk
 * before the last byte leaves. A replica that fails is replaced: before the first token the request starts anew, after it
 * another goes on from the last token; where that cannot be done safely the stream ends with an `error` event.
 */
export class Relay {
  readonly #deps: RelayDeps;
  readonly #job: RelayJob;
  readonly #legs: Leg[];
  readonly #reply: ChatReply;
  #cutShort = false;
  readonly #purchases = new Purchases();
  #ended: AbortController | null = null;
  #stopped: AppError | null = null;
  readonly #patience: Patience | null;
  #budget: Budget | null = null;
  #slowClient = false;
  #wasSlow = false;
  readonly #timings: Timings;
  #served: Slot['target'] | null = null;
  #resumed = 0;

  constructor(deps: RelayDeps, job: RelayJob) {
    this.#deps = deps;
    this.#job = job;
    this.#timings = new Timings(job.createdMs);
    this.#reply = new ChatReply(job);
    const { router, sink, reservation, outputMax, choices, streamUpstream, createdMs, wish } = job;
    const [spec, watch, needs] = [router.spec, deps.watch(), wish.needs];
    const comment = (text: string): void => this.#reply.comment(text);
    this.#patience = job.stream ? new Patience({ router, clock: deps.clock, sink, comment, needs }) : null;
    // A reply in one piece is held for in full before it is asked for.
    if (streamUpstream)
      this.#budget = new Budget({
        reservation,
        outputMax: outputMax * choices,
        sliceTokens: router.spec.sliceTokens,
        used: () => outputOf(this.#legs),
        input: () => Math.max(...this.#legs.map(({ counts }) => counts.input)),
        onBlocked: () => this.#pace(),
        onExhausted: () => this.#stopAll(MONEY_ENDED),
        onError: (error) => this.#stopAll(toAppError(error)),
      });
    this.#legs = Array.from({ length: job.choices }, (_, index) => {
      return new Leg({
        index,
        spec,
        clock: deps.clock,
        upstream: deps.upstream,
        watch,
        path: job.path,
        streamUpstream: job.streamUpstream,
        assembled: !job.stream,
        resumable: job.stream && job.resumable,
        limits: deps.limits,
        inputBound: job.inputBound,
        inputLeast: job.inputLeast,
        outputMax: job.outputMax,
        totalUntilMs: createdMs + job.maxWaitMs + spec.limits.totalMs,
        body: (from, target) => job.bodyOf(index, from, target),
        onDelta: (leg, choice) => this.#delta(leg, choice),
        onCounts: () => this.#budget?.check(),
        onRead: () => this.#flush(),
        // A crash charges what was delivered; of an answer in one piece that is nothing until its end.
        onTick: () => (job.stream ? job.reservation.progress(this.#tokens(), this.#detail(null)) : undefined),
      });
    });
  }

  /** Never rejects once the reply has begun; before that, rejects with what the client shall be told. */
  async run(): Promise<void> {
    const { sink } = this.#job;
    sink.onGone(() => this.#stopAll(new AppError('client_closed', 'the client has gone')));
    try {
      if (sink.gone) throw new AppError('client_closed', 'the client has gone');
      const runs = this.#legs.map((leg) => this.#runLeg(leg));
      try {
        await (runs.length === 1 ? runs[0] : Promise.all(runs));
      } catch (error) {
        this.#stopAll(toAppError(error));
        await Promise.allSettled(runs);
        throw error;
      }
      await this.#finish();
    } catch (error) {
      await this.#fail(toAppError(error));
    } finally {
      this.#patience?.stop();
      for (const leg of this.#legs) leg.noteClaims();
    }
  }

  async #runLeg(leg: Leg): Promise<void> {
    let attempts: Attempts | null = null;
    for (;;) {
      const slot = this.#free(attempts) ?? (await this.#slot(leg, attempts));
      if (slot === null) {
        this.#cutLeg(leg, MONEY_TOLD);
        return;
      }
      if (this.#stopped) {
        // The slot came in the same turn in which the request ended.
        slot.release('cancelled');
        continue;
      }
      if (attempts?.last && leg.begun && this.#job.stream && !leg.canResume(this.#job.router, slot.target)) {
        slot.release('cancelled');
        throw attempts.last;
      }
      this.#served = slot.target;
      try {
        await leg.run(slot);
      } catch (error) {
        this.#purchases.note(slot, leg.used);
        const failure = leg.begun && this.#job.stream ? notTheClients(toAppError(error)) : toAppError(error);
        const busyMs = failure instanceof AttemptFailure ? failure.busyMs : 0;
        slot.release(outcomeOf(failure, leg.begun), busyMs);
        if (failure === MONEY_ENDED) {
          this.#cutLeg(leg, MONEY_TOLD);
          return;
        }
        if (failure instanceof AttemptFailure && leg.full && this.#job.stream) {
          // Nothing is missing but the words that it is over.
          this.#cutLeg(leg, null);
          return;
        }
        attempts ??= new Attempts();
        if (this.#stopped || !this.#mayGoOn(leg, slot, failure, attempts)) throw failure;
        this.#deps.log(`${this.#job.id}: ${slot.target.id} failed, trying another: ${describeError(failure)}`);
        if (leg.begun && this.#job.stream) this.#resumed += 1;
        continue;
      }
      this.#purchases.note(slot, leg.used);
      slot.release('served');
      return;
    }
  }

  #mayGoOn(leg: Leg, slot: Slot, error: AppError, attempts: Attempts): boolean {
    const { router, stream } = this.#job;
    attempts.note(slot.target.id, error, this.#deps.clock.now());
    return attempts.again({
      error,
      delivered: leg.begun && stream,
      resumable: leg.canResume(router),
      fruitful: leg.fruitful,
      hope: slot.lost || router.supervised || router.hasOther(attempts.failed),
    });
  }

  #free(attempts: Attempts | null): Slot | null {
    const { router, wish } = this.#job;
    return this.#stopped ? null : router.tryTake(attempts ? { ...wish, exclude: attempts.failed } : wish);
  }

  /** Null when the money ended meanwhile: there is nothing to start any more. */
  async #slot(leg: Leg, attempts: Attempts | null): Promise<Slot | null> {
    const { router, wish, account, maxWaitMs, createdMs, reservation } = this.#job;
    if (this.#stopped === MONEY_ENDED) return null;
    if (this.#stopped) throw this.#stopped;
    const leave = this.#patience?.begin();
    try {
      const now = this.#deps.clock.now();
      // An answer that has begun waits as long as a new one may, within its own end.
      const left = leg.begun ? Math.min(maxWaitMs, leg.untilMs - now) : createdMs + maxWaitMs - now;
      const slot = await router.take({
        ...{ ...wish, exclude: attempts?.failed, account, wake: reservation.offer },
        begun: leg.begun && this.#job.stream,
        maxWaitMs: left,
        signal: (this.#ended ??= new AbortController()).signal,
      });
      this.#timings.waited(slot);
      return slot;
    } catch (error) {
      if (this.#stopped === MONEY_ENDED) return null;
      throw this.#stopped ?? attempts?.last ?? error;
    } finally {
      leave?.();
    }
  }

  #delta(leg: Leg, choice: DeltaChoice): void {
    this.#timings.firstTokenMs ??= this.#deps.clock.now();
    if (this.#job.stream) this.#reply.delta(leg.index, choice);
    else leg.assemble(choice);
  }

  #flush(): void {
    if (this.#reply.flush() || this.#slowClient) return;
    // The client reads slower than the model writes: the model server is held back, not our memory filled.
    this.#slowClient = this.#wasSlow = true;
    this.#pace();
    void this.#job.sink.drained().then(() => {
      this.#slowClient = false;
      this.#pace();
    });
  }

  #pace(): void {
    const blocked = this.#budget?.blocked ?? false;
    for (const leg of this.#legs) {
      if (this.#slowClient || blocked) leg.pause(blocked);
      else leg.resume();
    }
  }

  /** The answer ends as `length`; `why` goes into a comment. */
  #cutLeg(leg: Leg, why: string | null): void {
    // Its last count came with or after its end: the answer is whole.
    if (leg.finishReason !== null) return;
    leg.cutShort();
    if (why !== null) this.#cutShort = true;
    if (!this.#job.stream) return;
    this.#reply.cutShort(leg.index, why);
    this.#flush();
  }

  #stopAll(error: AppError): void {
    this.#stopped ??= error;
    this.#ended?.abort(error);
    for (const leg of this.#legs) leg.stop(error);
  }

  #tokens(): TokenCounts {
    const { inputLeast, reservation } = this.#job;
    return tokensOf(this.#legs, { inputLeast, outputHeld: reservation.outputTokens });
  }

  async #finish(): Promise<void> {
    const { stream, keep, reservation } = this.#job;
    // What came faster than its hold grew is paid for by the hold that is on its way.
    await this.#budget?.settled();
    const tokens = this.#tokens();
    // Written before it is charged: what cannot be written is not charged.
    const choices = stream ? '' : JSON.stringify(this.#legs.map((leg) => leg.choice()));
    const more = { tokens, coldStartMs: this.#timings.coldStartMs, provider: this.#served?.provider ?? null };
    const whole = (cost: NanoUsd): WholeAnswer => ({ choices, ...more, cost, wakeFee: reservation.wakeFee });
    if (!stream) await keep?.(tokens, (cost) => this.#reply.compose(whole(cost)));
    const answer = whole(await this.#settle(tokens, this.#cutShort ? 'length' : 'done', null));
    this.#reply[stream ? 'end' : 'whole'](answer);
  }

  /** A stream that broke is charged for what was delivered; an answer that never came is not. */
  async #fail(error: AppError): Promise<void> {
    const { sink, stream } = this.#job;
    const cancelled = error.code === 'client_closed' || sink.gone;
    const status: UsageStatus = cancelled ? 'cancelled' : 'failed';
    const delivered = cancelled || (stream && this.#timings.firstTokenMs !== null);
    const tokens = delivered ? this.#tokens() : NO_TOKENS;
    if (!cancelled) this.#deps.log(`${this.#job.id}: ${describeError(error)}`);
    try {
      await this.#settle(tokens, status, error.code);
    } catch (failure) {
      // The ledger settles the hold at its deadline; the reply must end all the same.
      this.#deps.log(`${this.#job.id}: ${describeError(failure)}`);
    }
    if (cancelled) {
      sink.cut();
      return;
    }
    if (!this.#reply.begun) throw error;
    this.#reply.fail(error);
  }

  #settle(tokens: TokenCounts, status: UsageStatus, error: string | null): Promise<NanoUsd> {
    return this.#job.reservation.settle(tokens, status, this.#detail(error), this.#purchases.all);
  }

  #detail(error: string | null): UsageDetail {
    return detailOf({
      finish: this.#legs[0]?.finishReason ?? null,
      refused: this.#legs.reduce((sum, { counts }) => sum + counts.refused, 0),
      stream: this.#job.stream,
      target: this.#served,
      resumed: this.#resumed,
      leases: this.#purchases.leases,
      error,
      slowClient: this.#wasSlow,
      timings: this.#timings,
      nowMs: this.#deps.clock.now(),
    });
  }
}
