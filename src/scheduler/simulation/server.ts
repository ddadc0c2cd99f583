import { prefillMs, stepMs, type ServerRate } from './speeds.ts';
import { Fifo, Heap } from './queue.ts';

/** What happened on a server at a moment: prompts that got their first token, answers that ended. */
export interface Progress {
  readonly first: number[];
  readonly ended: number[];
}

interface Job {
  readonly request: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/**
 * A model server under continuous batching: prefills one by one, decode steps for everybody else in between. All streams
 * get a token each step, so one counter of steps serves for all: a stream ends when it reaches the count it was given.
 */
export class Server {
  readonly rate: ServerRate;
  /** Time in which it worked at something. */
  busyMs = 0;
  readonly #jobs = new Map<number, Job>();
  readonly #prefills = new Fifo();
  readonly #streams = new Heap<number>();
  readonly #endSteps = new Map<number, number>();
  /** Of prompts that were handed to it. */
  unreadTokens = 0;
  #steps = 0;
  #nowMs: number;
  #prefillEndMs = Infinity;

  constructor(rate: ServerRate, nowMs: number) {
    this.rate = rate;
    this.#nowMs = nowMs;
  }

  get inFlight(): number {
    return this.#jobs.size;
  }

  /** When something will happen next; Infinity when it has nothing to do. */
  get nextMs(): number {
    if (this.#prefillEndMs < Infinity) return this.#prefillEndMs;
    if (this.#streams.size === 0) return Infinity;
    return this.#nowMs + (this.#streams.least - this.#steps) * stepMs(this.rate, this.#streams.size);
  }

  accept(job: Job, nowMs: number): void {
    this.#advance(nowMs);
    this.#jobs.set(job.request, job);
    this.#prefills.push(job.request);
    this.unreadTokens += job.inputTokens;
    if (this.#prefillEndMs === Infinity) this.#beginPrefill(nowMs);
  }

  /** Brings it to this moment, at most its `nextMs`. */
  step(nowMs: number): Progress {
    const progress: Progress = { first: [], ended: [] };
    this.#advance(nowMs);
    if (nowMs >= this.#prefillEndMs) {
      const request = this.#prefills.shift();
      const job = request === undefined ? undefined : this.#jobs.get(request);
      if (job) {
        progress.first.push(job.request);
        this.unreadTokens -= job.inputTokens;
        // The prefill makes the first token.
        if (job.outputTokens <= 1) this.#end(job.request, progress);
        else this.#stream(job);
      }
      this.#beginPrefill(nowMs);
      return progress;
    }
    while (this.#streams.size > 0 && this.#streams.least <= this.#steps + 1e-6) {
      const request = this.#streams.pop();
      if (request !== undefined) this.#end(request, progress);
    }
    return progress;
  }

  /** Everything at work and what is left of it, for whoever cuts it off. */
  left(): { readonly request: number; readonly tokensLeft: number }[] {
    return Array.from(this.#jobs.values(), ({ request, outputTokens }) => {
      const endStep = this.#endSteps.get(request);
      const tokensLeft = endStep === undefined ? outputTokens : Math.max(1, Math.ceil(endStep - this.#steps));
      return { request, tokensLeft };
    });
  }

  #stream({ request, outputTokens }: Job): void {
    const endStep = this.#steps + outputTokens - 1;
    this.#endSteps.set(request, endStep);
    this.#streams.push(endStep, request);
  }

  #end(request: number, progress: Progress): void {
    this.#jobs.delete(request);
    this.#endSteps.delete(request);
    progress.ended.push(request);
  }

  #beginPrefill(nowMs: number): void {
    const job = this.#jobs.get(this.#prefills.first ?? -1);
    this.#prefillEndMs = job ? nowMs + prefillMs(this.rate, job.inputTokens) : Infinity;
  }

  #advance(nowMs: number): void {
    const took = nowMs - this.#nowMs;
    this.#nowMs = nowMs;
    if (took <= 0 || this.#jobs.size === 0) return;
    this.busyMs += took;
    // While a prompt is read nobody else gets a token.
    if (this.#prefillEndMs === Infinity) this.#steps += took / stepMs(this.rate, this.#streams.size);
  }
}
