import { AppError } from '../errors.ts';
import type { Slot } from '../scheduler/pool/router.ts';
import type { PoolSpec } from '../spec.ts';
import type { EpochMs, Tokens } from '../units.ts';
import type { Clock } from '../clock.ts';
import { Assembly, finishReasonOf, normaliseMessage } from './choice.ts';
import { clientError, reportedCounts } from './dialect.ts';
import { SseReader } from './sse.ts';
import type { Upstream, UpstreamCall } from './upstream.ts';
import type { Watch, Watched } from './watch.ts';

/** What one choice has used so far; outputs are bounded by what we allowed and what we saw. */
export interface LegCounts {
  input: Tokens;
  cached: Tokens;
  output: Tokens;
  /** Claimed beyond the bounds, not charged. */
  refused: Tokens;
}

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

export interface DeltaChoice {
  /** Set when the delta is nothing but text: the common case, written without a walk over the object. */
  readonly text: string | null;
  readonly delta: Record<string, unknown>;
  readonly logprobs: unknown;
  readonly finishReason: string | null;
}

/** Characters that a token may come without: special tokens, the end of the answer. */
const UNSEEN_TOKENS = 64;
/** How long a server may take to end its reply after [DONE]. */
const LINGER_MS = 2000;
const ERROR_BODY_MAX = 64 * 1024;

/** One choice of an answer on one replica at a time. An attempt ends with the answer or with an error. */
export class Leg {
  readonly counts: LegCounts = { input: 0, cached: 0, output: 0, refused: 0 };
  readonly #options: LegOptions;
  #assembly = new Assembly();
  #call: UpstreamCall | null = null;
  #slot: Slot | null = null;
  #stop: ((error: AppError) => void) | null = null;
  #untilMs: EpochMs = 0;
  #begun = false;
  #seen = 0;
  #events = 0;
  #chunks = 0;
  #claimed: Tokens = 0;
  #finishReason: string | null = null;
  #whole: { message: Record<string, unknown>; logprobs: unknown } | null = null;
  #watched: Watched | null = null;
  #paused = false;

  constructor(options: LegOptions) {
    this.#options = options;
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
    const { spec, upstream, watch, clock, path, streamUpstream, assembled, body, limits } = this.#options;
    const { target } = slot;
    this.#slot = slot;
    this.#startAnew();
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
            if (status !== 200) end(clientError(status, failure) ?? badReply(`status ${status}`));
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
    const { clock, spec, totalUntilMs } = this.#options;
    if (this.#untilMs === 0) this.#untilMs = Math.min(totalUntilMs, clock.now() + spec.limits.totalMs);
    this.#assembly = new Assembly();
    this.#seen = 0;
    this.#chunks = 0;
    this.#claimed = 0;
    this.#finishReason = null;
    Object.assign(this.counts, { input: 0, cached: 0, output: 0, refused: 0 });
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
    this.#count(chunk);
    const choices = chunk['choices'];
    if (!Array.isArray(choices) || choices.length === 0) {
      this.#options.onCounts();
      return;
    }
    const choice = choices[0] as { delta?: Record<string, unknown>; logprobs?: unknown; finish_reason?: unknown };
    this.#takeDelta(choice.delta ?? {}, choice.logprobs ?? null, finishReasonOf(choice.finish_reason));
    this.#options.onCounts();
  }

  #takeDelta(raw: Record<string, unknown>, logprobs: unknown, finishReason: string | null): void {
    let text: string | null = null;
    let delta = raw;
    const { content } = raw;
    let others = 0;
    for (const key in raw) if (key !== 'content' && key !== 'role' && raw[key] !== null) others += 1;
    if (others === 0) {
      text = typeof content === 'string' ? content : '';
      this.#seen += utf8Length(text);
    }
    if (others > 0 || logprobs !== null) {
      const { role: _role, ...rest } = raw;
      delta = rest;
      if (text === null) this.#seen += utf8Length(JSON.stringify(rest));
    }
    if (finishReason !== null) this.#finishReason = finishReason;
    if (text === '' && finishReason === null && logprobs === null) return;
    if (text !== '' || others > 0) {
      this.#chunks += 1;
      if (this.#chunks > 2 * this.#options.outputMax + UNSEEN_TOKENS) throw new RangeError('the answer does not end');
      this.#recount();
    }
    this.#begun = true;
    this.#options.onDelta(this, { text: logprobs === null ? text : null, delta, logprobs, finishReason });
  }

  /** For a client that wants one piece: keeps the delta. */
  assemble({ delta, logprobs }: DeltaChoice): void {
    this.#assembly.add(delta, logprobs);
  }

  #takeWhole(text: string): AppError | null {
    try {
      const reply = JSON.parse(text) as Record<string, unknown>;
      const choice = (reply['choices'] as { message?: unknown; logprobs?: unknown; finish_reason?: unknown }[])[0];
      if (!choice) return badReply('no choice');
      const message = normaliseMessage(choice.message);
      this.#whole = { message, logprobs: choice.logprobs ?? null };
      this.#finishReason = finishReasonOf(choice.finish_reason) ?? 'stop';
      this.#begun = true;
      this.#seen = bytesOf(message);
      this.#chunks = 1;
      this.#recount();
      this.#count(reply);
      return null;
    } catch (error) {
      return badReply(error);
    }
  }

  #count(reply: Record<string, unknown>): void {
    const told = reportedCounts(reply);
    if (!told) return;
    if (told.input !== null) this.counts.input = Math.min(told.input, this.#options.inputBound);
    if (told.cached !== null) this.counts.cached = Math.min(told.cached, this.counts.input);
    if (told.output !== null) this.#claimed = Math.max(this.#claimed, told.output);
    this.#recount();
  }

  /** What the server claims, within what we allowed and what the characters seen can hold; at least a token a chunk. */
  #recount(): void {
    const most = Math.min(this.#options.outputMax, this.#seen + UNSEEN_TOKENS);
    const claimed = this.#claimed > 0 ? this.#claimed : this.#chunks;
    this.counts.output = Math.min(claimed, most);
    this.counts.refused = Math.max(0, claimed - most);
  }
}

/** Bytes of what a whole message says; tool calls and the like by their JSON. */
function bytesOf(message: Record<string, unknown>): number {
  let bytes = 0;
  for (const key in message) {
    const value = message[key];
    if (typeof value === 'string') bytes += utf8Length(value);
    else if (value !== null) bytes += utf8Length(JSON.stringify(value));
  }
  return bytes;
}

/** Bytes of a text: a token is at least one of them. */
function utf8Length(text: string): number {
  let bytes = text.length;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    // A surrogate pair is four bytes: two more for its two units, like any other unit above 0x7ff.
    if (code > 0x7f) bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1;
  }
  return bytes;
}

const CLIENT_STALLED = new AppError('client_closed', 'the client has stopped reading');

function badReply(cause: unknown): AppError {
  return new AppError('upstream_error', 'the model server failed', { cause });
}
