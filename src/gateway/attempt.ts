import type { Clock } from '../clock.ts';
import { AppError, type ErrorCode } from '../errors.ts';
import type { Slot } from '../scheduler/pool/slot.ts';
import type { PoolLimits } from '../spec.ts';
import type { EpochMs, Ms } from '../units.ts';
import { clientError } from './dialect.ts';
import { requestTo, type Upstream, type UpstreamCall, type UpstreamHandler } from './upstream.ts';
import type { Watch, Watched } from './watch.ts';

/**
 * What became of an attempt that failed: `cut` before or in the reply, `busy` when the server asked to come back later,
 * `refused` with another status, `timeout` of one of the limits, `bad` when it was no answer, `large` when it was more than
 * is kept, `lost` when its machine was taken away, `deadline` when the request's own time was over.
 */
export type FailureKind = 'cut' | 'busy' | 'refused' | 'timeout' | 'bad' | 'large' | 'lost' | 'deadline';

const MESSAGES: Partial<Record<FailureKind, string>> = {
  lost: 'the machine was lost',
  timeout: 'the model server did not answer in time',
  deadline: 'the model server did not answer in time',
  large: 'the answer is larger than this gateway keeps: ask for a stream, or for less',
};

/** A model server's fault. Strangers see its code and a constant message. */
export class AttemptFailure extends AppError {
  readonly kind: FailureKind;
  /** For `busy`: how long the server asked for. */
  readonly busyMs: Ms;
  /** Whether anything of a reply had come. */
  readonly answered: boolean;

  constructor(kind: FailureKind, options: { cause: unknown; busyMs?: Ms; answered?: boolean }) {
    const late = kind === 'timeout' || kind === 'deadline';
    const code: ErrorCode = late ? 'upstream_timeout' : 'upstream_error';
    const message = MESSAGES[kind] ?? 'the model server failed';
    const retryAfterS = kind === 'busy' ? Math.max(1, Math.ceil((options.busyMs ?? 0) / 1000)) : undefined;
    // The same request would come to the same, at the same cost.
    const shouldRetry = kind === 'large' ? { shouldRetry: false } : {};
    super(code, message, { cause: options.cause, retryAfterS, ...shouldRetry });
    this.kind = kind;
    this.busyMs = options.busyMs ?? 0;
    this.answered = options.answered ?? false;
  }
}

export const CLIENT_STALLED = new AppError('client_closed', 'the client has stopped reading');

/** What is made of a reply's bytes; whatever it throws makes the reply a bad one. */
export interface ReplyReader {
  /** A stream's bytes. */
  onBytes(bytes: Uint8Array): void;
  /** A reply in one piece. */
  onWhole(text: string): void;
  /** The stream ended: whether the answer is whole without [DONE]; `later` when there is something left to be read. */
  onStreamEnd(): boolean | 'later';
  /** Once a second. */
  onTick(nowMs: EpochMs): void;
}

export interface AttemptOptions {
  readonly clock: Clock;
  readonly upstream: Upstream;
  readonly watch: Watch;
  readonly limits: PoolLimits;
  readonly path: string;
  readonly streamed: boolean;
  /** Bytes a reply may have: of a stream only when it is gathered. */
  readonly replyBytes: number;
  /** The request's own end. */
  readonly untilMs: EpochMs;
}

/** How long a server may take to end its reply after [DONE]. */
const LINGER_MS = 2000;
const ERROR_BODY_MAX = 64 * 1024;
/** What a server that is busy may ask for at most, and what is assumed when it does not say. */
const BUSY_MAX_MS = 60_000;
const BUSY_MS = 1000;

const decoder = new TextDecoder();

/** One call to one model server, its deadlines and its end. An object of its own with no closures: one for every request. */
export class Attempt implements UpstreamHandler, Watched {
  expiresMs: EpochMs;
  readonly #options: AttemptOptions;
  readonly #slot: Slot;
  readonly #reader: ReplyReader;
  #resolve: () => void = () => undefined;
  #reject: (error: AppError) => void = () => undefined;
  #unwatch: () => void = () => undefined;
  #offLost: () => void = () => undefined;
  #call: UpstreamCall | null = null;
  #over = false;
  #paused = false;
  #status = 0;
  #retryAfter: string | undefined;
  #size = 0;
  #parts: Uint8Array[] = [];

  constructor(options: AttemptOptions, slot: Slot, reader: ReplyReader) {
    this.#options = options;
    this.#slot = slot;
    this.#reader = reader;
    this.expiresMs = this.#within(options.limits.connectMs);
  }

  /** Resolves when the answer is complete, rejects with what ended it. */
  run(body: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      const { watch, upstream, path, streamed } = this.#options;
      const { target } = this.#slot;
      this.#unwatch = watch.add(this);
      this.#offLost = this.#slot.onLost(() => this.#lost());
      if (this.#slot.lost) {
        this.#lost();
        return;
      }
      try {
        this.#call = upstream.send(requestTo(target, { path, body, streamed }), this);
        if (this.#paused) this.#call.pause();
      } catch (error) {
        this.end(new AttemptFailure('cut', { cause: error }));
      }
    });
  }

  get over(): boolean {
    return this.#over;
  }

  /** Ends it: null when the answer is complete. Only the first call counts. */
  end(error: AppError | null): void {
    if (this.#over) return;
    this.#over = true;
    this.#offLost();
    if (error) {
      this.#unwatch();
      this.#call?.abort();
      this.#reject(error);
      return;
    }
    // The connection is kept when the server ends its reply in a moment, cut when it does not.
    this.expiresMs = this.#options.clock.now() + LINGER_MS;
    if (this.#paused) this.#call?.resume();
    this.#resolve();
  }

  pause(): void {
    this.#paused = true;
    this.#slot.heldBack();
    // So long may a client read nothing: it holds a slot that others wait for.
    this.expectMore();
    this.#call?.pause();
  }

  resume(): void {
    this.#paused = false;
    // The client's slowness is not the model server's.
    this.expectMore();
    this.#call?.resume();
  }

  /** A token has come: the next one has its own limit. */
  expectMore(): void {
    if (!this.#over) this.expiresMs = this.#within(this.#options.limits.betweenTokensMs);
  }

  onSent(): void {
    this.expiresMs = this.#within(this.#options.limits.firstTokenMs);
  }

  onHead(status: number, headers: Readonly<Record<string, string | string[] | undefined>>): void {
    this.#status = status;
    if (status === 429 || status === 503) this.#retryAfter = String(headers['retry-after'] ?? '');
  }

  onData(bytes: Uint8Array): void {
    if (this.#over) return;
    this.#size += bytes.length;
    const { streamed, replyBytes } = this.#options;
    const most = this.#status === 200 ? replyBytes : ERROR_BODY_MAX;
    if (this.#size > most) {
      const large = { cause: `a reply of more than ${most} bytes`, answered: true };
      this.end(new AttemptFailure(this.#status === 200 ? 'large' : 'bad', large));
      return;
    }
    if (this.#status !== 200 || !streamed) {
      this.#parts.push(bytes);
      return;
    }
    try {
      this.#reader.onBytes(bytes);
    } catch (error) {
      this.#bad(error);
    }
  }

  onEnd(): void {
    this.#unwatch();
    if (this.#over) return;
    try {
      if (this.#status !== 200) this.end(this.#refusal());
      else if (!this.#options.streamed) {
        this.#reader.onWhole(this.#text());
        this.end(null);
      } else {
        const whole = this.#reader.onStreamEnd();
        if (whole === true) this.end(null);
        else if (whole === false) this.#bad('the stream ended without [DONE]');
      }
    } catch (error) {
      this.#bad(error);
    }
  }

  onError(error: Error): void {
    this.#unwatch();
    if (this.#over) return;
    // The last event may have told all: then the answer is whole, however its connection ended.
    if (this.#status === 200 && this.#options.streamed && this.#reader.onStreamEnd() === true) this.end(null);
    else this.end(new AttemptFailure('cut', { cause: error, answered: this.#status !== 0 }));
  }

  onExpired(): void {
    const { clock, untilMs } = this.#options;
    const kind = clock.now() >= untilMs ? 'deadline' : 'timeout';
    const failure = new AttemptFailure(kind, { cause: `status ${this.#status}`, answered: this.#size > 0 });
    this.end(this.#paused && kind !== 'deadline' ? CLIENT_STALLED : failure);
    this.#unwatch();
    this.#call?.abort();
  }

  onTick(nowMs: EpochMs): void {
    if (!this.#over) this.#reader.onTick(nowMs);
  }

  /** What came is no answer. */
  fail(cause: unknown): void {
    this.#bad(cause);
  }

  #lost(): void {
    this.end(new AttemptFailure('lost', { cause: 'replica removed' }));
  }

  #bad(cause: unknown): void {
    this.end(new AttemptFailure('bad', { cause, answered: true }));
  }

  #within(ms: Ms): EpochMs {
    return Math.min(this.#options.untilMs, this.#options.clock.now() + ms);
  }

  #text(): string {
    const [first] = this.#parts;
    if (first && this.#parts.length === 1) return decoder.decode(first);
    const whole = new Uint8Array(this.#size);
    let at = 0;
    for (const part of this.#parts) {
      whole.set(part, at);
      at += part.length;
    }
    return decoder.decode(whole);
  }

  /** A status other than 200: the client's fault, a server that is busy, or one that failed. */
  #refusal(): AppError {
    const { url, apiKey } = this.#slot.target;
    const status = this.#status;
    const fault = clientError(status, this.#text(), [apiKey ?? '', url, new URL(url).host]);
    if (fault) return fault;
    const cause = `status ${status}`;
    const busy = status === 429 || (status === 503 && this.#retryAfter !== '');
    if (!busy) return new AttemptFailure('refused', { cause, answered: true });
    const seconds = Number(this.#retryAfter === '' ? Number.NaN : this.#retryAfter);
    const busyMs = Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : BUSY_MS;
    return new AttemptFailure('busy', { cause, answered: true, busyMs: Math.min(BUSY_MAX_MS, busyMs) });
  }
}
