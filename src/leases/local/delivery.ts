import { describeError } from '../../errors.ts';
import type { Clock } from '../../clock.ts';
import type { Delivery, Workload } from '../market.ts';
import type { DeliveryHealth } from './own-answer.ts';

/** A model server that a provider runs for one lease. */
export interface RunningServer {
  readonly url: string;
  readonly exited: Promise<{ readonly detail: string }>;
  /** The last of what it printed, without its key. */
  readonly tail?: () => string;
  stop(): Promise<void>;
}

/** Starts a model server that answers to `apiKey`; rejects when it cannot, leaving nothing behind. */
export type StartServer = (workload: Workload, apiKey: string, signal: AbortSignal) => Promise<RunningServer>;

/** The same for one lease, whoever its provider is. */
export interface StartRequest {
  readonly leaseId: string;
  readonly workload: Workload;
  readonly apiKey: string;
  readonly signal: AbortSignal;
}

export const NO_DELIVERY: Delivery = { state: 'none', sinceMs: null, url: null, apiKey: null, detail: '' };

/** One lease's delivery: starting, running, failed. */
export class LeaseDelivery {
  readonly #clock: Clock;
  readonly #onFailure: (detail: string) => void;
  readonly #abort = new AbortController();
  #view: Delivery;
  #server: RunningServer | null = null;
  #starting: Promise<void>;
  #stopped = false;
  #runningMs: number | null = null;
  #endedMs: number | null = null;

  constructor(options: {
    readonly clock: Clock;
    readonly start: (signal: AbortSignal) => Promise<RunningServer>;
    readonly apiKey: string;
    readonly onChange: () => void;
    readonly onFailure: (detail: string) => void;
  }) {
    const { clock, start, apiKey, onChange, onFailure } = options;
    this.#clock = clock;
    this.#onFailure = onFailure;
    this.#view = {
      state: 'starting',
      sinceMs: clock.now(),
      url: null,
      apiKey: null,
      detail: 'starting the model server',
    };
    // An error thrown before the promise is a failure like any other.
    const started = new Promise<RunningServer>((resolve) => {
      resolve(start(this.#abort.signal));
    });
    this.#starting = started.then(
      (server) => {
        this.#server = server;
        this.#runningMs = clock.now();
        this.#view = { state: 'running', sinceMs: clock.now(), url: server.url, apiKey, detail: 'running' };
        void server.exited.then(({ detail }) => this.#fail(`the model server ended: ${detail}`));
        onChange();
      },
      (error: unknown) => this.#fail(`the model server did not start: ${describeError(error)}`),
    );
  }

  get view(): Delivery {
    return this.#view;
  }

  get health(): DeliveryHealth {
    return { runningMs: this.#runningMs, endedMs: this.#endedMs, detail: this.#view.detail };
  }

  /** The last of what its model server printed; where none runs, why. */
  get tail(): string {
    return this.#server?.tail?.() ?? this.#view.detail;
  }

  /** Ends the model server; resolves when it is gone. One that failed keeps saying why. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#endedMs ??= this.#clock.now();
    this.#abort.abort(new Error('the lease was closed'));
    await this.#starting;
    await this.#server?.stop();
    if (this.#view.state === 'failed') return;
    this.#view = { ...this.#view, state: 'none', url: null, apiKey: null, detail: 'stopped' };
  }

  #fail(detail: string): void {
    if (this.#stopped) return;
    this.#endedMs = this.#clock.now();
    this.#view = { state: 'failed', sinceMs: this.#clock.now(), url: null, apiKey: null, detail };
    this.#onFailure(detail);
  }
}
