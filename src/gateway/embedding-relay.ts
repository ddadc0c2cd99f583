import { AppError, describeError } from '../errors.ts';
import type { UsageDetail } from '../ledger/operations.ts';
import type { TokenCounts } from '../ledger/pricing.ts';
import type { Slot } from '../scheduler/pool/slot.ts';
import type { EpochMs, NanoUsd, Tokens } from '../units.ts';
import { Attempt, AttemptFailure, type ReplyReader } from './attempt.ts';
import { Attempts, outcomeOf } from './attempts.ts';
import { wholeHeaders } from './chat-reply.ts';
import { composeEmbeddings, readEmbeddings, type Embeddings } from './embedding-reply.ts';
import { toAppError } from './openai.ts';
import { detailOf, NO_TOKENS, Timings } from './outcome.ts';
import { Purchases } from './purchases.ts';
import type { RelayDeps, RelayJob } from './relay-job.ts';
import type { WholeReply } from './transport.ts';

type Shared =
  | 'id'
  | 'headers'
  | 'createdMs'
  | 'model'
  | 'router'
  | 'account'
  | 'wish'
  | 'path'
  | 'inputBound'
  | 'inputLeast'
  | 'maxWaitMs'
  | 'reservation'
  | 'keep'
  | 'sink';

export interface EmbeddingJob extends Pick<RelayJob, Shared> {
  /** Vectors that are to come. */
  readonly count: number;
  /** The request as this model server gets it. */
  readonly bodyOf: (target: Slot['target']) => string;
}

/**
 * One request for embeddings on replicas: take a slot, send, check, settle, reply. It comes in one piece or not at all, so a
 * replica that fails is replaced by starting anew, and who leaves before the reply pays nothing.
 */
export class EmbeddingRelay {
  readonly #deps: RelayDeps;
  readonly #job: EmbeddingJob;
  readonly #attempts = new Attempts();
  readonly #purchases = new Purchases();
  readonly #ended = new AbortController();
  #attempt: Attempt | null = null;
  #stopped: AppError | null = null;
  #slot: Slot | null = null;
  #untilMs: EpochMs | null = null;
  readonly #timings: Timings;
  #refused: Tokens = 0;

  constructor(deps: RelayDeps, job: EmbeddingJob) {
    this.#deps = deps;
    this.#job = job;
    this.#timings = new Timings(job.createdMs);
  }

  /** Rejects with what the client shall be told, before the reply has begun. */
  async run(): Promise<void> {
    const { sink } = this.#job;
    const onGone = (): void => this.#stop(new AppError('client_closed', 'the client has gone'));
    sink.onGone(onGone);
    try {
      if (sink.gone) onGone();
      await this.#finish(await this.#answer());
    } catch (error) {
      await this.#fail(toAppError(error));
    }
  }

  #stop(error: AppError): void {
    this.#stopped ??= error;
    this.#ended.abort(error);
    this.#attempt?.end(error);
  }

  async #answer(): Promise<Embeddings> {
    for (;;) {
      const slot = await this.#take();
      try {
        // It may have come in the same turn in which the request ended.
        if (this.#stopped) throw this.#stopped;
        const embeddings = await this.#ask(slot);
        slot.release('served');
        return embeddings;
      } catch (error) {
        const failure = this.#blame(toAppError(error));
        slot.release(outcomeOf(failure, false), failure instanceof AttemptFailure ? failure.busyMs : 0);
        if (this.#stopped || !this.#mayGoOn(slot, failure)) throw failure;
        this.#deps.log(`${this.#job.id}: ${slot.target.id} failed, trying another: ${describeError(failure)}`);
      }
    }
  }

  async #take(): Promise<Slot> {
    const { router, account, maxWaitMs, createdMs, reservation } = this.#job;
    if (this.#stopped) throw this.#stopped;
    const { failed: exclude, last } = this.#attempts;
    const wish = { ...this.#job.wish, exclude };
    const free = router.tryTake(wish);
    if (free) return (this.#slot = free);
    try {
      const left = createdMs + maxWaitMs - this.#deps.clock.now();
      const more = { account, wake: reservation.offer, maxWaitMs: left, signal: this.#ended.signal };
      const slot = await router.take({ ...wish, ...more });
      this.#timings.waited(slot);
      return (this.#slot = slot);
    } catch (error) {
      throw this.#stopped ?? last ?? error;
    }
  }

  async #ask(slot: Slot): Promise<Embeddings> {
    const { clock, upstream, watch, limits } = this.#deps;
    const { router, path, bodyOf, count } = this.#job;
    const now = clock.now();
    this.#untilMs ??= now + router.spec.limits.totalMs;
    const reader = new EmbeddingReader(count);
    const call = { clock, upstream, watch: watch(), path, streamed: false, replyBytes: limits.replyBytes };
    const attempt = new Attempt({ ...call, limits: this.#limits(), untilMs: this.#untilMs }, slot, reader);
    this.#attempt = attempt;
    await attempt.run(bodyOf(slot.target));
    if (!reader.embeddings) throw new Error('the model server ended its reply, and nobody read it');
    return reader.embeddings;
  }

  /** A chat's first token may be a whole context away; many inputs come to several of those. */
  #limits(): RelayJob['router']['spec']['limits'] {
    const { router, inputBound } = this.#job;
    const { limits, contextTokens } = router.spec;
    return { ...limits, firstTokenMs: limits.firstTokenMs * Math.max(1, Math.ceil(inputBound / contextTokens)) };
  }

  /** What is the request's own fault, whoever noticed it. */
  #blame(error: AppError): AppError {
    const param = 'input';
    if (error.code === 'context_length_exceeded') return new AppError(error.code, error.message, { param });
    if (!(error instanceof AttemptFailure) || error.kind !== 'large') return error;
    const megabytes = Math.floor(this.#deps.limits.replyBytes / 1e6);
    const message = `input: its vectors are more than ${megabytes} MB: send less at a time, or ask for base64`;
    return new AppError('invalid_request', message, { param });
  }

  #mayGoOn(slot: Slot, error: AppError): boolean {
    const { router } = this.#job;
    this.#attempts.note(slot.target.id, error, this.#deps.clock.now());
    const hope = slot.lost || router.supervised || router.hasOther(this.#attempts.failed);
    return this.#attempts.again({ error, delivered: false, resumable: false, fruitful: false, hope });
  }

  /** The charge is on disk before the reply goes out. */
  async #finish(embeddings: Embeddings): Promise<void> {
    const { reservation, keep, headers, sink } = this.#job;
    if (this.#stopped) throw this.#stopped;
    const tokens = this.#tokens(embeddings);
    if (this.#slot) this.#purchases.note(this.#slot, tokens);
    const reply = (cost: NanoUsd): WholeReply => this.#compose(embeddings, tokens, cost);
    await keep?.(tokens, reply);
    const cost = await reservation.settle(tokens, 'done', this.#detail(null), this.#purchases.all);
    const whole = reply(cost);
    sink.whole(200, { ...headers, ...whole.headers }, whole.body);
  }

  /** What the server says, within what the inputs can be; at least something where it says nothing. */
  #tokens({ claimed }: Embeddings): TokenCounts {
    const { inputBound, inputLeast } = this.#job;
    const inputTokens = Math.min(inputBound, claimed || inputLeast);
    this.#refused = Math.max(0, (claimed ?? 0) - inputBound);
    if (this.#refused > 0) this.#slot?.overclaimed(this.#refused);
    return { inputTokens, cachedTokens: 0, outputTokens: 0 };
  }

  #compose(embeddings: Embeddings, tokens: TokenCounts, cost: NanoUsd): WholeReply {
    const { id, model, reservation } = this.#job;
    const { wakeFee } = reservation;
    const provider = this.#slot?.target.provider ?? null;
    const headers = wholeHeaders({ cost, wakeFee, coldStartMs: this.#timings.coldStartMs, provider });
    return { headers, body: composeEmbeddings(embeddings, { id, model, tokens: tokens.inputTokens, cost, wakeFee }) };
  }

  async #fail(error: AppError): Promise<void> {
    const { id, sink, reservation } = this.#job;
    const cancelled = error.code === 'client_closed' || sink.gone;
    if (!cancelled) this.#deps.log(`${id}: ${describeError(error)}`);
    try {
      await reservation.settle(
        NO_TOKENS,
        cancelled ? 'cancelled' : 'failed',
        this.#detail(error.code),
        this.#purchases.all,
      );
    } catch (failure) {
      // The ledger settles the hold at its deadline; the client is told all the same.
      this.#deps.log(`${id}: ${describeError(failure)}`);
    }
    if (!cancelled) throw error;
    sink.cut();
  }

  #detail(error: string | null): UsageDetail {
    return detailOf({
      stream: false,
      finish: null,
      refused: this.#refused,
      target: this.#slot?.target ?? null,
      resumed: 0,
      leases: this.#purchases.leases,
      error,
      timings: this.#timings,
      nowMs: this.#deps.clock.now(),
    });
  }
}

class EmbeddingReader implements ReplyReader {
  readonly #count: number;
  embeddings: Embeddings | null = null;

  constructor(count: number) {
    this.#count = count;
  }

  onWhole(text: string): void {
    this.embeddings = readEmbeddings(text, this.#count);
  }

  onBytes(): void {
    throw new Error('embeddings are not streamed');
  }

  onStreamEnd(): boolean {
    return false;
  }

  onTick(): void {
    // Nothing can be told of a reply that is still being made.
  }
}
