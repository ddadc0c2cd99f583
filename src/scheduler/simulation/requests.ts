import { dueMs, type InLine } from '../pool/turns.ts';
import type { Load } from './load.ts';
import { Fifo } from './queue.ts';
import type { Scenario } from './scenario.ts';
import { coldAllowanceMs, prefillMs, TTFT_MS } from './speeds.ts';

/** What became of every request of a run, and who waits. */
export class Requests {
  readonly load: Load;
  /** Milliseconds to the first token; NaN while there is none. */
  readonly ttftMs: Float64Array;
  readonly cold: Uint8Array;
  readonly failed: Uint8Array;
  readonly line = new Fifo();
  readonly #tokensLeft: Int32Array;
  readonly #limitMs: (request: number) => number;
  readonly #coldMs: number;
  /** What the gateway knows of it. */
  readonly #promise: { readonly promisedMs: number; readonly coldMs: number; readonly patienceMs: number };
  arrivals = 0;
  /** In line or at work. */
  open = 0;
  begun = 0;
  late = 0;
  ended = 0;
  failures = 0;
  inputTokens = 0;
  outputTokens = 0;
  requestMs = 0;
  /** Tokens of prompts that came, answered or not. */
  askedTokens = 0;
  #sinceMs = 0;

  constructor(load: Load, { reference, model, spec, ttftMs, patienceMs }: Scenario) {
    const count = load.atMs.length;
    this.load = load;
    this.ttftMs = new Float64Array(count).fill(Number.NaN);
    this.cold = new Uint8Array(count);
    this.failed = new Uint8Array(count);
    this.#tokensLeft = Int32Array.from(load.outputTokens);
    // A pool with a minimum promises to be warm, whatever happens to it.
    this.#coldMs = spec.replicasMin === 0 && ttftMs === undefined ? coldAllowanceMs(model) : 0;
    this.#promise = { promisedMs: ttftMs ?? TTFT_MS, coldMs: coldAllowanceMs(model), patienceMs };
    this.#limitMs = (request) => (ttftMs ?? TTFT_MS) + prefillMs(reference, load.inputTokens[request] ?? 1);
  }

  get promisedMs(): number {
    return this.#promise.promisedMs;
  }

  get nextArrivalMs(): number {
    return this.load.atMs[this.arrivals] ?? Infinity;
  }

  /** @returns the request */
  arrive(nowMs: number, cold: boolean): number {
    this.#integrate(nowMs);
    const request = this.arrivals;
    this.arrivals += 1;
    this.open += 1;
    this.askedTokens += this.load.inputTokens[request] ?? 0;
    this.cold[request] = cold ? 1 : 0;
    return request;
  }

  arrivedMs(request: number): number {
    return this.load.atMs[request] ?? 0;
  }

  /** What a server has to do for it, now: what was delivered before is read like a prompt. */
  job(request: number): { request: number; inputTokens: number; outputTokens: number } {
    const [input, output] = [this.load.inputTokens[request] ?? 1, this.load.outputTokens[request] ?? 1];
    const left = this.#tokensLeft[request] ?? output;
    return { request, inputTokens: input + output - left, outputTokens: left };
  }

  hasBegun(request: number): boolean {
    return !Number.isNaN(this.ttftMs[request] ?? Number.NaN);
  }

  first(request: number, nowMs: number): void {
    if (this.hasBegun(request)) return;
    const ttft = nowMs - this.arrivedMs(request);
    this.ttftMs[request] = ttft;
    this.begun += 1;
    if (ttft > this.limitOf(request)) this.late += 1;
  }

  /** Time to first token within which this request is served as promised. */
  limitOf(request: number): number {
    return this.#limitMs(request) + (this.cold[request] === 1 ? this.#coldMs : 0);
  }

  /** As the line sees it: whoever reads an answer already is kept waiting by nobody. */
  inLine(request: number): InLine {
    const { promisedMs, coldMs, patienceMs } = this.#promise;
    const sinceMs = this.arrivedMs(request);
    const due = this.hasBegun(request) ? Infinity : dueMs(sinceMs, promisedMs, this.cold[request] === 1 ? coldMs : 0);
    return { sinceMs, dueMs: due, untilMs: sinceMs + patienceMs };
  }

  end(request: number, nowMs: number): void {
    this.#close(nowMs);
    this.ended += 1;
    this.inputTokens += this.load.inputTokens[request] ?? 0;
    this.outputTokens += this.load.outputTokens[request] ?? 0;
  }

  fail(request: number, nowMs: number): void {
    this.#close(nowMs);
    this.failed[request] = 1;
    this.failures += 1;
  }

  cutTo(request: number, tokensLeft: number): void {
    this.#tokensLeft[request] = tokensLeft;
  }

  requestMsAt(nowMs: number): number {
    this.#integrate(nowMs);
    return this.requestMs;
  }

  #close(nowMs: number): void {
    this.#integrate(nowMs);
    this.open -= 1;
  }

  #integrate(nowMs: number): void {
    this.requestMs += this.open * (nowMs - this.#sinceMs);
    this.#sinceMs = nowMs;
  }
}
