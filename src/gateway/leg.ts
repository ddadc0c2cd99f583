import type { AppError } from '../errors.ts';
import type { TokenCounts } from '../ledger/pricing.ts';
import type { Slot } from '../scheduler/pool/slot.ts';
import type { PoolSpec } from '../spec.ts';
import type { EpochMs, Tokens } from '../units.ts';
import type { Clock } from '../clock.ts';
import { Attempt, type ReplyReader } from './attempt.ts';
import { Assembly, finishReasonOf, normaliseMessage, onlyChoice, type DeltaChoice } from './choice.ts';
import { DeltaReader } from './delta-reader.ts';
import { SseReader } from './sse.ts';
import { Tally, type LegCounts } from './tally.ts';
import type { Upstream } from './upstream.ts';
import type { Watch } from './watch.ts';

/** Where an answer goes on: what has been delivered of it, and how many tokens it may still have. */
export interface Continuation {
  readonly text: string;
  readonly maxTokens: Tokens;
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
  /** What is delivered is remembered, so that another replica can go on with it. */
  readonly resumable: boolean;
  readonly limits: { readonly replyBytes: number; readonly eventBytes: number };
  readonly inputBound: Tokens;
  readonly inputLeast: Tokens;
  readonly outputMax: Tokens;
  readonly totalUntilMs: EpochMs;
  readonly body: (from: Continuation | null, target: Slot['target']) => string;
  /** One delta, before it is counted against the budget. */
  readonly onDelta: (leg: Leg, choice: DeltaChoice) => void;
  readonly onCounts: () => void;
  /** After all events of one read: what they made is written out together. */
  readonly onRead: () => void;
  readonly onTick: (nowMs: EpochMs) => void;
}

/** A text that ends inside a character was cut inside a token: what comes after it cannot be foreseen. */
const TORN = /[\ufffd\ud800-\udbff]$/;

/** One choice of an answer, on one replica after another. */
export class Leg implements ReplyReader {
  readonly #tally: Tally;
  readonly #options: LegOptions;
  #assembly: Assembly | null = null;
  #reader: SseReader | null = null;
  #deltas: DeltaReader | null = null;
  #attempt: Attempt | null = null;
  #slot: Slot | null = null;
  #untilMs: EpochMs = 0;
  #begun = false;
  #outputBefore: Tokens = 0;
  #events = 0;
  #told = 0;
  /** This attempt's slot knows of its first token. */
  #toldBegun = false;
  #finishReason: string | null = null;
  #whole: { message: Record<string, unknown>; logprobs: unknown } | null = null;
  #paused = false;
  /** Events that came in one read with those that used the money up: not shown before they are paid for. */
  #blocked = false;
  readonly #unpaid: string[] = [];
  #endedUnpaid = false;
  #delivered = '';
  #plain = true;

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

  /** Something of the answer has been seen. */
  get begun(): boolean {
    return this.#begun;
  }

  get finishReason(): string | null {
    return this.#finishReason;
  }

  /** When the whole answer must have ended; 0 before the first attempt. */
  get untilMs(): EpochMs {
    return this.#untilMs;
  }

  /**
   * Whether another replica can go on where this one stopped: plain text, cut at the end of a token, of the model that
   * runs there now. A pool may be described anew while an answer waits.
   */
  canResume(router: { readonly resumes: boolean; readonly spec: PoolSpec }, next?: Slot['target']): boolean {
    // Nobody has seen an API go on with an answer.
    if (next?.tokenPrice) return false;
    const { resumable, spec } = this.#options;
    const { engine, model, image } = router.spec;
    const alike = next === undefined || next.version === this.#slot?.target.version;
    const same = alike && engine === spec.engine && model === spec.model && image === spec.image;
    return router.resumes && same && resumable && this.#plain && !TORN.test(this.#delivered);
  }

  /** What the last attempt was asked and made. A prompt is paid for whether or not its reader says how long it was. */
  get used(): TokenCounts {
    const { input, cached, output } = this.counts;
    const outputTokens = Math.max(0, output - this.#outputBefore);
    const inputTokens = input === 0 && outputTokens > 0 ? this.#options.inputLeast : input;
    return { inputTokens, cachedTokens: cached, outputTokens };
  }

  /** The last attempt brought something. */
  get fruitful(): boolean {
    return this.#begun && this.#events > 0;
  }

  /** All that may be said has been said, whatever became of the words that it is over: there is nothing to go on with. */
  get full(): boolean {
    return this.#begun && (this.#finishReason !== null || this.#tally.left <= 0);
  }

  /** Told when it is over: what was claimed beyond the bounds is noted against who claimed it. */
  noteClaims(): void {
    if (this.counts.refused > 0) this.#slot?.overclaimed(this.counts.refused);
  }

  /** The choice for a reply in one piece. */
  choice(): Record<string, unknown> {
    const message = this.#whole?.message ?? this.#assembly?.message() ?? normaliseMessage(null);
    const logprobs = this.#whole ? this.#whole.logprobs : this.#assembly?.logprobs;
    return { index: this.index, message, logprobs: logprobs ?? null, finish_reason: this.#finishReason };
  }

  /**
   * Runs one attempt on a slot; resolves when the answer is complete, rejects with what ended it. A second attempt goes on
   * from what was delivered, or starts anew where nothing was.
   */
  run(slot: Slot): Promise<void> {
    const { spec, clock, streamUpstream, assembled, totalUntilMs, body, limits } = this.#options;
    let from: Continuation | null = null;
    if (this.#slot === null) this.#untilMs = Math.min(totalUntilMs, clock.now() + spec.limits.totalMs);
    else if (this.#begun && !assembled) from = { text: this.#delivered, maxTokens: this.#tally.carryOn() };
    else this.#startAnew();
    this.#slot = slot;
    this.#toldBegun = false;
    this.#outputBefore = this.counts.output;
    this.#events = 0;
    this.#unpaid.length = 0;
    this.#endedUnpaid = false;
    if (streamUpstream) {
      this.#reader = new SseReader((data) => this.#event(data), limits.eventBytes);
      this.#deltas = new DeltaReader(this.#tally);
    }
    const replyBytes = streamUpstream && !assembled ? Infinity : limits.replyBytes;
    const { upstream, watch, path } = this.#options;
    const call = { clock, upstream, watch, path, limits: spec.limits, streamed: streamUpstream };
    this.#attempt = new Attempt({ ...call, replyBytes, untilMs: this.#untilMs }, slot, this);
    if (this.#paused) this.#attempt.pause();
    return this.#attempt.run(body(from, slot.target));
  }

  /** Ends the attempt from outside: the client left, the money ended. */
  stop(error: AppError): void {
    this.#attempt?.end(error);
  }

  /** The answer ends here, as `length`, because no more of it may be made or is paid for. */
  cutShort(): void {
    this.#finishReason = 'length';
  }

  /** Reads no more for now; `blocked`: what is held is used up, and what has been read is not shown either. */
  pause(blocked: boolean): void {
    this.#blocked = blocked;
    if (this.#paused) return;
    this.#paused = true;
    this.#attempt?.pause();
  }

  resume(): void {
    this.#blocked = false;
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#unpaid.length > 0) this.#showUnpaid();
    // What was shown may have used the money up again, or filled the client's buffers.
    if (!this.#paused) this.#attempt?.resume();
  }

  #showUnpaid(): void {
    const events = this.#unpaid.splice(0);
    const ended = this.#endedUnpaid;
    try {
      for (const data of events) this.#event(data);
      if (ended && this.#unpaid.length === 0) this.#attempt?.onEnd();
    } catch (error) {
      this.#attempt?.fail(error);
    }
    this.#options.onRead();
  }

  onBytes(bytes: Uint8Array): void {
    const before = this.#events;
    const finished = this.#finishReason !== null;
    this.#reader?.push(bytes);
    // Before the first token its own limit holds, and a server's comments are no tokens; nor is what follows the last one.
    if (this.#begun && !finished && this.#events !== before) this.#attempt?.expectMore();
    this.#options.onRead();
  }

  onWhole(text: string): void {
    const reply = JSON.parse(text) as Record<string, unknown>;
    const choice = onlyChoice(reply);
    if (!choice) throw new RangeError('no choice');
    const message = normaliseMessage(choice['message']);
    this.#whole = { message, logprobs: choice['logprobs'] ?? null };
    this.#finishReason = finishReasonOf(choice['finish_reason']) ?? 'stop';
    this.#begun = true;
    this.#tally.seeMessage(message);
    this.#tally.report(reply);
  }

  /** Some servers leave [DONE] out; the finish_reason says that the answer is whole. */
  onStreamEnd(): boolean | 'later' {
    this.#endedUnpaid = this.#unpaid.length > 0;
    return this.#endedUnpaid ? 'later' : this.#finishReason !== null;
  }

  onTick(nowMs: EpochMs): void {
    if (this.#events !== this.#told) this.#slot?.alive();
    this.#told = this.#events;
    this.#options.onTick(nowMs);
  }

  /** For a client that wants one piece: keeps the delta. */
  assemble({ delta, logprobs }: DeltaChoice): void {
    this.#assembly ??= new Assembly();
    this.#assembly.add(delta, logprobs);
  }

  /** What an attempt before this one counted was never delivered, so it is void. */
  #startAnew(): void {
    this.#assembly = null;
    this.#whole = null;
    this.#begun = false;
    this.#finishReason = null;
    this.#tally.reset();
  }

  #event(data: string): void {
    // A stream that was ended says nothing more, whatever came in the same read.
    if (this.#attempt?.over) return;
    if (this.#blocked || this.#unpaid.length > 0) {
      this.#unpaid.push(data);
      return;
    }
    if (data === '[DONE]') {
      if (this.#finishReason === null) throw new RangeError('the stream was done without a finish_reason');
      this.#attempt?.end(null);
      return;
    }
    this.#events += 1;
    const choice = this.#deltas?.read(data, this.#finishReason !== null);
    if (choice) this.#takeDelta(choice);
    this.#options.onCounts();
  }

  #takeDelta(choice: DeltaChoice): void {
    const { text, hasContent, logprobs, finishReason } = choice;
    if (hasContent) this.#tally.see(text ?? JSON.stringify(choice.delta));
    if (finishReason !== null) this.#finishReason = finishReason;
    if (!hasContent && finishReason === null && logprobs === null) return;
    if (hasContent && this.#tally.addChunk()) throw new RangeError('the answer does not end');
    this.#begun = true;
    if (!this.#toldBegun) {
      this.#toldBegun = true;
      this.#slot?.began();
    }
    if (text === null) this.#plain = false;
    else if (this.#options.resumable) this.#delivered += text;
    this.#options.onDelta(this, choice);
  }
}
