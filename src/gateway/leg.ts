import { AppError } from '../errors.ts';
import type { Slot } from '../scheduler/pool/slot.ts';
import type { PoolSpec } from '../spec.ts';
import type { EpochMs, Tokens } from '../units.ts';
import type { Clock } from '../clock.ts';
import { Assembly, finishReasonOf, normaliseMessage, onlyChoice, readDelta, type DeltaChoice } from './choice.ts';
import { clientError } from './dialect.ts';
import { SseReader } from './sse.ts';
import { Tally, type LegCounts } from './tally.ts';
import type { Upstream, UpstreamCall } from './upstream.ts';
import type { Watch, Watched } from './watch.ts';

export interface LegOptions {
  readonly index: number;
  readonly spec: PoolSpec;
  readonly clock: Clock;
  readonly upstream: Upstream;
  readonly watch: Watch;
  readonly path: string;
  readonly streamUpstream: boolean;
  /** The answer is kept until it is complete: its size is bounded then. */
  readonly assembled: boolean;
  readonly limits: { readonly replyBytes: number; readonly eventBytes: number };
  readonly inputBound: Tokens;
  readonly outputMax: Tokens;
  readonly totalUntilMs: EpochMs;
  readonly body: () => string;
  /** One delta, before it is counted against the budget. */
  readonly onDelta: (leg: Leg, choice: DeltaChoice) => void;
  readonly onCounts: () => void;
  /** After all events of one read: what they made is written out together. */
  readonly onRead: () => void;
  readonly onTick: (nowMs: EpochMs) => void;
}

/** How long a server may take to end its reply after [DONE]. */
const LINGER_MS = 2000;
const ERROR_BODY_MAX = 64 * 1024;

/** One choice of an answer on one replica at a time. An attempt ends with the answer or with an error. */
export class Leg {
  readonly #tally: Tally;
  readonly #options: LegOptions;
  #assembly = new Assembly();
  #call: UpstreamCall | null = null;
  #slot: Slot | null = null;
  #stop: ((error: AppError) => void) | null = null;
  #untilMs: EpochMs = 0;
  #begun = false;
  #events = 0;
  #finishReason: string | null = null;
  #whole: { message: Record<string, unknown>; logprobs: unknown } | null = null;
  #watched: Watched | null = null;
  #paused = false;

  constructor(options: LegOptions) {
    this.#options = options;
    this.#tally = new Tally(options);
  }

  get counts(): LegCounts {
    return this.#tally.counts;
  }

  get index(): number {
    return this.#options.index;
  }

  /** Something of the answer has been seen: from here on it cannot start anew elsewhere. */
  get begun(): boolean {
    return this.#begun;
  }

  get finishReason(): string | null {
    return this.#finishReason;
  }

  get target(): Slot['target'] | null {
    return this.#slot?.target ?? null;
  }

  /** The choice for a reply in one piece. */
  choice(): Record<string, unknown> {
    const message = this.#whole?.message ?? this.#assembly.message();
    const logprobs = this.#whole ? this.#whole.logprobs : this.#assembly.logprobs;
    return { index: this.index, message, logprobs: logprobs ?? null, finish_reason: this.#finishReason };
  }

  /** Runs one attempt on a slot; resolves when the answer is complete, rejects with what ended it. */
  attempt(slot: Slot): Promise<void> {
    const { spec, upstream, watch, clock, path, streamUpstream, assembled, totalUntilMs, body, limits } = this.#options;
    const { target } = slot;
    if (this.#slot) this.#startAnew();
    else this.#untilMs = Math.min(totalUntilMs, clock.now() + spec.limits.totalMs);
    this.#slot = slot;
    const untilMs = this.#untilMs;
    return new Promise((resolve, reject) => {
      let over = false;
      let status = 0;
      let failure = '';
      let size = 0;
      const decoder = new TextDecoder();
      const reader = new SseReader((data) => (over ? undefined : this.#event(data, finish)), limits.eventBytes);
      const end = (error: AppError | null): void => {
        if (over) return;
        over = true;
        offLost();
        this.#stop = null;
        this.#watched = null;
        if (error) {
          unwatch();
          this.#call?.abort();
          reject(error);
        } else {
          // The connection is kept when the server ends its reply in a moment, cut when it does not.
          watched.expiresMs = clock.now() + LINGER_MS;
          if (this.#paused) this.#call?.resume();
          resolve();
        }
      };
      const finish = (): void => end(null);
      const onLost = (): void =>
        end(new AppError('upstream_error', 'the machine was lost', { cause: 'replica removed' }));
      this.#stop = end;
      const watched: Watched = {
        expiresMs: Math.min(untilMs, clock.now() + spec.limits.connectMs),
        onExpired: () => {
          end(
            this.#paused ? CLIENT_STALLED : new AppError('upstream_timeout', 'the model server did not answer in time'),
          );
          unwatch();
          this.#call?.abort();
        },
        onTick: (nowMs) => (over ? undefined : this.#options.onTick(nowMs)),
      };
      this.#watched = watched;
      const waitForToken = (): void => {
        watched.expiresMs = Math.min(untilMs, clock.now() + spec.limits.firstTokenMs);
      };
      const unwatch = watch.add(watched);
      const offLost = slot.onLost(onLost);
      if (slot.lost) {
        onLost();
        return;
      }
      const headers: Record<string, string> = {
        'content-type': 'application/json',
        accept: streamUpstream ? 'text/event-stream' : 'application/json',
      };
      if (target.apiKey !== null) headers['authorization'] = `Bearer ${target.apiKey}`;
      const request = { url: target.url, path, method: 'POST' as const, headers, body: body() };
      try {
        this.#call = upstream.send(request, {
          onSent: waitForToken,
          onHead: (code) => {
            status = code;
            if (size === 0) waitForToken();
          },
          onData: (bytes) => {
            if (over) return;
            size += bytes.length;
            if (status !== 200 || !streamUpstream) {
              if (size > (status === 200 ? limits.replyBytes : ERROR_BODY_MAX)) end(badReply('too large'));
              else failure += decoder.decode(bytes, { stream: true });
              return;
            }
            if (assembled && size > limits.replyBytes) end(badReply('too large'));
            const before = this.#events;
            try {
              reader.push(bytes);
            } catch (error) {
              end(badReply(error));
            }
            // Before the first token its own limit holds, and a server's comments are no tokens.
            if (!over && this.#begun && this.#events !== before) this.#expectMore();
            this.#options.onRead();
          },
          onEnd: () => {
            unwatch();
            if (over) return;
            if (status !== 200)
              end(
                clientError(status, failure, [target.apiKey ?? '', target.url, new URL(target.url).host]) ??
                  badReply(`status ${status}`),
              );
            else if (!streamUpstream) end(this.#takeWhole(failure));
            // Some servers leave [DONE] out; the finish_reason says that the answer is whole.
            else end(this.#finishReason === null ? badReply('the stream ended without [DONE]') : null);
          },
          onError: (error) => {
            unwatch();
            end(badReply(error));
          },
        });
        if (this.#paused) this.#call.pause();
      } catch (error) {
        end(badReply(error));
      }
    });
  }

  /** Ends the attempt from outside: the client left, the money ended. */
  stop(error: AppError): void {
    this.#stop?.(error);
  }

  /** The answer ends here, as `length`, because no more of it is paid for. */
  cutShort(): void {
    this.#finishReason = 'length';
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    // So long may a client read nothing: it holds a slot that others wait for.
    this.#expectMore();
    this.#call?.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    // The client's slowness is not the model server's.
    this.#expectMore();
    this.#call?.resume();
  }

  #expectMore(): void {
    const { clock, spec } = this.#options;
    if (this.#watched) this.#watched.expiresMs = Math.min(this.#untilMs, clock.now() + spec.limits.betweenTokensMs);
  }

  /** What an attempt before this one counted was never delivered, so it is void. */
  #startAnew(): void {
    this.#assembly = new Assembly();
    this.#whole = null;
    this.#begun = false;
    this.#finishReason = null;
    this.#tally.reset();
  }

  #event(data: string, finish: () => void): void {
    if (data === '[DONE]') {
      if (this.#finishReason === null) throw new RangeError('the stream was done without a finish_reason');
      finish();
      return;
    }
    this.#events += 1;
    const chunk = JSON.parse(data) as Record<string, unknown>;
    if (chunk['error'] !== undefined && chunk['error'] !== null) {
      throw new Error('the model server sent an error event');
    }
    this.#tally.report(chunk);
    const choice = onlyChoice(chunk);
    const delta = choice?.['delta'] as Record<string, unknown> | null | undefined;
    if (choice) this.#takeDelta(delta ?? {}, choice['logprobs'] ?? null, finishReasonOf(choice['finish_reason']));
    this.#options.onCounts();
  }

  #takeDelta(raw: Record<string, unknown>, logprobs: unknown, finishReason: string | null): void {
    const choice = readDelta(raw, logprobs, finishReason);
    const { text, hasContent } = choice;
    if (hasContent) this.#tally.see(text ?? JSON.stringify(choice.delta));
    if (finishReason !== null) this.#finishReason = finishReason;
    if (!hasContent && finishReason === null && logprobs === null) return;
    if (hasContent && this.#tally.addChunk()) throw new RangeError('the answer does not end');
    this.#begun = true;
    this.#options.onDelta(this, choice);
  }

  /** For a client that wants one piece: keeps the delta. */
  assemble({ delta, logprobs }: DeltaChoice): void {
    this.#assembly.add(delta, logprobs);
  }

  #takeWhole(text: string): AppError | null {
    try {
      const reply = JSON.parse(text) as Record<string, unknown>;
      const choice = onlyChoice(reply);
      if (!choice) return badReply('no choice');
      const message = normaliseMessage(choice['message']);
      this.#whole = { message, logprobs: choice['logprobs'] ?? null };
      this.#finishReason = finishReasonOf(choice['finish_reason']) ?? 'stop';
      this.#begun = true;
      this.#tally.seeMessage(message);
      this.#tally.report(reply);
      return null;
    } catch (error) {
      return badReply(error);
    }
  }
}

const CLIENT_STALLED = new AppError('client_closed', 'the client has stopped reading');

function badReply(cause: unknown): AppError {
  return new AppError('upstream_error', 'the model server failed', { cause });
}
