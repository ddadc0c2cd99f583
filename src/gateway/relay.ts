import type { Clock } from '../clock.ts';
import { AppError, describeError } from '../errors.ts';
import type { UsageDetail, UsageStatus } from '../ledger/operations.ts';
import type { TokenCounts } from '../ledger/pricing.ts';
import type { PoolRouter, Slot } from '../scheduler/pool/router.ts';
import type { EpochMs, Ms, NanoUsd, Tokens } from '../units.ts';
import { formatUsd, usdNumber } from '../units.ts';
import type { Reservation } from './admission.ts';
import { Leg, type DeltaChoice } from './leg.ts';
import { errorBody, toAppError } from './openai.ts';
import { SSE_DONE, sseComment, sseData } from './sse.ts';
import type { ReplySink } from './transport.ts';
import type { Upstream } from './upstream.ts';
import type { Watch } from './watch.ts';

export interface RelayDeps {
  readonly clock: Clock;
  readonly upstream: Upstream;
  readonly watch: () => Watch;
  readonly limits: { readonly replyBytes: number; readonly eventBytes: number };
  readonly log: (line: string) => void;
}

/** One request, admitted and paid for, on its way to replicas. */
export interface RelayJob {
  readonly id: string;
  /** Of every reply: request id and rate limits. */
  readonly headers: Readonly<Record<string, string>>;
  readonly createdMs: EpochMs;
  /** The public model id. */
  readonly model: string;
  readonly router: PoolRouter;
  readonly account: string;
  readonly path: string;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Ask the model server for a stream, whatever the client gets. */
  readonly streamUpstream: boolean;
  readonly choices: number;
  readonly inputBound: Tokens;
  /** Per choice: the maximum that the model server is given. */
  readonly outputMax: Tokens;
  readonly maxWaitMs: Ms;
  /** The request as the model server of this choice gets it. */
  readonly bodyOf: (choice: number) => string;
  readonly reservation: Reservation;
  readonly sink: ReplySink;
}

/** Replicas that one choice may try before its first token. */
const ATTEMPTS_MAX = 3;
/** Nothing is sent to a waiting client before a bid is won or so long has passed: an early refusal is a true 503. */
const SILENT_MS = 10_000;
const COMMENT_MS = 4_000;
const WON_PHASES: ReadonlySet<string> = new Set(['bid won', 'loading model', 'ready']);
/** Thrown within: the answer ends where the money does. */
const MONEY_ENDED = new AppError('insufficient_credits', 'the credit was used up in the middle of the answer');

/**
 * One request's life on replicas: take a slot, send, stream, count, extend the hold, settle, end. The charge is on disk
 * before the last byte leaves. Fail-over happens before the first token; after it a failure is an `error` event.
 */
export class Relay {
  readonly #deps: RelayDeps;
  readonly #job: RelayJob;
  readonly #legs: Leg[];
  readonly #prefix: string;
  readonly #suffix: string;
  readonly #opened = new Set<Leg>();
  readonly #cut = new Set<Leg>();
  #ended: AbortController | null = null;
  #stopped: AppError | null = null;
  #out = '';
  #waiting = 0;
  #stopWaiting: (() => void) | null = null;
  #extension: Promise<void> | null = null;
  #exhausted = false;
  #held = false;
  #slowClient = false;
  #firstTokenMs: EpochMs | null = null;
  #waitedMs: Ms = 0;
  #coldStartMs: Ms = 0;
  #served: Slot['target'] | null = null;

  constructor(deps: RelayDeps, job: RelayJob) {
    this.#deps = deps;
    this.#job = job;
    const { id, model, createdMs, includeUsage } = job;
    const created = Math.floor(createdMs / 1000);
    const head = `{"id":${JSON.stringify(id)},"object":"chat.completion.chunk","created":${created},"model":${JSON.stringify(model)}`;
    this.#prefix = `data: ${head},"choices":`;
    this.#suffix = includeUsage ? ',"usage":null}\n\n' : '}\n\n';
    const { spec } = job.router;
    const watch = deps.watch();
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
        limits: deps.limits,
        inputBound: job.inputBound,
        outputMax: job.outputMax,
        totalUntilMs: createdMs + job.maxWaitMs + spec.limits.totalMs,
        body: () => job.bodyOf(index),
        onDelta: (leg, choice) => this.#delta(leg, choice),
        onCounts: () => this.#checkMoney(),
        onRead: () => this.#flush(),
        onTick: () => job.reservation.progress(this.#tokens()),
      });
    });
  }

  /** Never rejects once the reply has begun; before that, rejects with what the client shall be told. */
  async run(): Promise<void> {
    const { sink } = this.#job;
    const onGone = (): void => this.#stopAll(new AppError('client_closed', 'the client has gone'));
    sink.onGone(onGone);
    try {
      if (sink.gone) throw new AppError('client_closed', 'the client has gone');
      const runs = this.#legs.map((leg) => this.#runLeg(leg));
      try {
        await Promise.all(runs);
      } catch (error) {
        this.#stopAll(toAppError(error));
        await Promise.allSettled(runs);
        throw error;
      }
      await this.#finish();
    } catch (error) {
      await this.#fail(toAppError(error));
    } finally {
      this.#stopWaiting?.();
    }
  }

  async #runLeg(leg: Leg): Promise<void> {
    const excluded = new Set<string>();
    for (let attempt = 1; ; attempt += 1) {
      const slot = await this.#slot(excluded);
      if (slot === null) {
        this.#cutLeg(leg);
        return;
      }
      if (this.#stopped) {
        // The slot came in the same turn in which the request ended.
        slot.release('cancelled');
        continue;
      }
      this.#served = slot.target;
      try {
        await leg.attempt(slot);
        slot.release('served');
        return;
      } catch (error) {
        const failure = toAppError(error);
        if (failure === MONEY_ENDED) {
          slot.release('cancelled');
          this.#cutLeg(leg);
          return;
        }
        const theirs = failure.code === 'upstream_error' || failure.code === 'upstream_timeout';
        slot.release(theirs ? 'failed' : 'cancelled');
        const delivered = leg.begun && this.#job.stream;
        if (!theirs || delivered || attempt >= ATTEMPTS_MAX || this.#stopped) throw failure;
        this.#deps.log(`${this.#job.id}: ${slot.target.id} failed, trying another: ${describeError(failure)}`);
        excluded.add(slot.target.id);
        if (!slot.lost && !this.#job.router.hasOther(excluded)) throw failure;
      }
    }
  }

  /** Null when the money ended meanwhile: there is nothing to start any more. */
  async #slot(exclude: ReadonlySet<string>): Promise<Slot | null> {
    const { router, account, maxWaitMs, createdMs } = this.#job;
    if (this.#stopped === MONEY_ENDED) return null;
    if (this.#stopped) throw this.#stopped;
    const free = router.tryTake(exclude);
    if (free) return free;
    const leave = this.#wait();
    try {
      const left = createdMs + maxWaitMs - this.#deps.clock.now();
      const slot = await router.take({
        account,
        maxWaitMs: left,
        signal: (this.#ended ??= new AbortController()).signal,
        exclude,
      });
      this.#waitedMs = Math.max(this.#waitedMs, slot.waitedMs);
      if (slot.cold) this.#coldStartMs = Math.max(this.#coldStartMs, slot.waitedMs);
      return slot;
    } catch (error) {
      if (this.#stopped === MONEY_ENDED) return null;
      throw this.#stopped ?? error;
    } finally {
      leave();
    }
  }

  /** Tells a streaming client what it waits for; the returned function ends that. */
  #wait(): () => void {
    this.#waiting += 1;
    if (this.#waiting === 1 && this.#job.stream) {
      const { router } = this.#job;
      const { clock } = this.#deps;
      const since = clock.now();
      let cancel: () => void = () => undefined;
      const tell = (): void => {
        if (this.#job.sink.started || WON_PHASES.has(router.phase) || clock.now() - since >= SILENT_MS) {
          this.#comment(`waiting: ${router.phase}`);
        }
      };
      const again = (): void => {
        const silentMs = this.#job.sink.started ? COMMENT_MS : since + SILENT_MS - clock.now();
        cancel = clock.timer(silentMs > 0 ? Math.min(COMMENT_MS, silentMs) : COMMENT_MS, () => {
          tell();
          again();
        });
      };
      again();
      const off = router.onPhase(tell);
      if (WON_PHASES.has(router.phase)) tell();
      this.#stopWaiting = () => {
        cancel();
        off();
        this.#stopWaiting = null;
      };
    }
    return () => {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#stopWaiting?.();
    };
  }

  #comment(text: string): void {
    this.#head();
    this.#job.sink.write(sseComment(text));
  }

  #head(): void {
    const { sink, headers } = this.#job;
    if (sink.started) return;
    sink.head(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // Asks nginx in front of us not to gather the stream.
      'x-accel-buffering': 'no',
    });
  }

  #delta(leg: Leg, choice: DeltaChoice): void {
    this.#firstTokenMs ??= this.#deps.clock.now();
    if (!this.#job.stream) {
      leg.assemble(choice);
      return;
    }
    const { index } = leg;
    this.#open(leg);
    const { text, delta, logprobs, finishReason } = choice;
    if (text === null) {
      const logs = JSON.stringify(logprobs ?? null);
      this.#chunk(`[{"index":${index},"delta":${JSON.stringify(delta)},"logprobs":${logs},"finish_reason":null}]`);
    } else if (text !== '') {
      this.#chunk(
        `[{"index":${index},"delta":{"content":${JSON.stringify(text)}},"logprobs":null,"finish_reason":null}]`,
      );
    }
    if (finishReason !== null) this.#finishChunk(index, finishReason);
  }

  #open(leg: Leg): void {
    if (this.#opened.has(leg)) return;
    this.#opened.add(leg);
    this.#chunk(
      `[{"index":${leg.index},"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]`,
    );
  }

  #finishChunk(index: number, reason: string): void {
    this.#chunk(`[{"index":${index},"delta":{},"logprobs":null,"finish_reason":${JSON.stringify(reason)}}]`);
  }

  #chunk(choices: string): void {
    this.#out += this.#prefix + choices + this.#suffix;
  }

  #flush(): void {
    if (this.#out === '') return;
    this.#head();
    const text = this.#out;
    this.#out = '';
    const { sink } = this.#job;
    if (sink.write(text) || this.#slowClient) return;
    // The client reads slower than the model writes: the model server is held back, not our memory filled.
    this.#slowClient = true;
    this.#pace();
    void sink.drained().then(() => {
      this.#slowClient = false;
      this.#pace();
    });
  }

  #pace(): void {
    const hold = this.#slowClient || this.#held;
    for (const leg of this.#legs) {
      if (hold) leg.pause();
      else leg.resume();
    }
  }

  /** Reserves the next slice before the last one is used up; ends the answer when there is no more. */
  #checkMoney(): void {
    const { reservation, outputMax, choices, router, streamUpstream } = this.#job;
    const held = reservation.outputTokens;
    if (!streamUpstream || held >= outputMax * choices) return;
    const left = held - this.#output();
    if (left <= 0 && this.#exhausted) {
      this.#stopAll(MONEY_ENDED);
      return;
    }
    const slice = router.spec.sliceTokens;
    if (left <= 0 && !this.#held) {
      this.#held = true;
      this.#pace();
    }
    if (this.#extension || this.#exhausted || left > slice / 4) return;
    this.#extension = reservation.extend(Math.min(slice, outputMax * choices - held)).then(
      (extended) => {
        this.#extension = null;
        this.#exhausted = !extended;
        this.#held = false;
        this.#pace();
        this.#checkMoney();
      },
      (error: unknown) => {
        this.#extension = null;
        this.#exhausted = true;
        this.#stopAll(toAppError(error));
      },
    );
  }

  #cutLeg(leg: Leg): void {
    // Its last count came with or after its end: the answer is whole.
    if (leg.finishReason !== null) return;
    leg.cutShort();
    this.#cut.add(leg);
    if (!this.#job.stream) return;
    this.#open(leg);
    this.#finishChunk(leg.index, 'length');
    this.#out += sseComment('the credit is used up: the answer ends here');
    this.#flush();
  }

  #stopAll(error: AppError): void {
    this.#stopped ??= error;
    this.#ended?.abort(error);
    for (const leg of this.#legs) leg.stop(error);
  }

  #output(): Tokens {
    let sum = 0;
    for (const leg of this.#legs) sum += leg.counts.output;
    return sum;
  }

  /** The prompt counts once, however many choices were made of it. */
  #tokens(): TokenCounts {
    let input = 0;
    let cached = 0;
    for (const { counts } of this.#legs) {
      if (counts.input <= input) continue;
      input = counts.input;
      cached = counts.cached;
    }
    return {
      inputTokens: input,
      cachedTokens: cached,
      outputTokens: Math.min(this.#output(), this.#job.reservation.outputTokens),
    };
  }

  async #finish(): Promise<void> {
    const { sink, stream, includeUsage, reservation } = this.#job;
    // What came faster than its hold grew is paid for by the hold that is on its way.
    while (this.#extension) await this.#extension;
    const tokens = this.#tokens();
    const cost = await reservation.settle(tokens, this.#cut.size > 0 ? 'length' : 'done', this.#detail(null));
    if (!stream) {
      this.#replyWhole(tokens, cost);
      return;
    }
    if (includeUsage) this.#out += this.#usageChunk(tokens, cost);
    const text = this.#out + SSE_DONE;
    this.#out = '';
    this.#head();
    sink.end(text);
  }

  #usageChunk(tokens: TokenCounts, cost: NanoUsd): string {
    const usage = JSON.stringify(usageOf(tokens, cost));
    return `${this.#prefix}[],"usage":${usage}}\n\n`;
  }

  #replyWhole(tokens: TokenCounts, cost: NanoUsd): void {
    const { id, model, createdMs, sink } = this.#job;
    const body = JSON.stringify({
      id,
      object: 'chat.completion',
      created: Math.floor(createdMs / 1000),
      model,
      choices: this.#legs.map((leg) => leg.choice()),
      usage: usageOf(tokens, cost),
    });
    const headers: Record<string, string> = {
      ...this.#job.headers,
      'content-type': 'application/json',
      'x-underbid-cost-usd': formatUsd(cost),
      'x-underbid-cold-start-ms': String(this.#coldStartMs),
    };
    // A provider chooses its own name; a header takes visible ASCII only.
    if (this.#served) headers['x-underbid-provider'] = this.#served.provider.replaceAll(/[^\x20-\x7e]/g, '_');
    sink.whole(200, headers, body);
  }

  /** A stream that broke is charged for what was delivered; an answer that never came is not. */
  async #fail(error: AppError): Promise<void> {
    const { sink, reservation, stream } = this.#job;
    const cancelled = error.code === 'client_closed' || sink.gone;
    const status: UsageStatus = cancelled ? 'cancelled' : 'failed';
    const delivered = cancelled || (stream && this.#firstTokenMs !== null);
    const tokens = delivered ? this.#tokens() : { inputTokens: 0, cachedTokens: 0, outputTokens: 0 };
    if (!cancelled) this.#deps.log(`${this.#job.id}: ${describeError(error)}`);
    try {
      await reservation.settle(tokens, status, this.#detail(error.code));
    } catch (failure) {
      // The ledger settles the hold at its deadline; the reply must end all the same.
      this.#deps.log(`${this.#job.id}: ${describeError(failure)}`);
    }
    if (cancelled) {
      sink.cut();
      return;
    }
    if (!sink.started && this.#out === '') throw error;
    this.#head();
    const text = this.#out + sseData(errorBody(error));
    this.#out = '';
    sink.end(text);
  }

  #detail(error: string | null): UsageDetail {
    const { stream, createdMs } = this.#job;
    const target = this.#served;
    const refused = this.#legs.reduce((sum, { counts }) => sum + counts.refused, 0);
    const now = this.#deps.clock.now();
    return {
      stream,
      lease: target?.leaseId ?? null,
      provider: target?.provider ?? null,
      market: target?.market ?? null,
      finish: this.#legs[0]?.finishReason ?? null,
      error,
      coldStartMs: this.#coldStartMs,
      waitedMs: this.#waitedMs,
      firstTokenMs: this.#firstTokenMs === null ? null : this.#firstTokenMs - createdMs,
      totalMs: now - createdMs,
      ...(refused > 0 ? { refusedTokens: refused } : {}),
    };
  }
}

/** OpenAI's usage object with our `cost` (USD, a number). */
function usageOf(tokens: TokenCounts, cost: NanoUsd): Record<string, unknown> {
  const { inputTokens, cachedTokens, outputTokens } = tokens;
  return {
    prompt_tokens: inputTokens,
    completion_tokens: outputTokens,
    total_tokens: inputTokens + outputTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0 },
    cost: usdNumber(cost),
  };
}
