import type { Clock } from '../clock.ts';
import type { PoolRouter } from '../scheduler/pool/router.ts';
import type { Needs } from '../spec/trust.ts';
import type { ReplySink } from './transport.ts';

/** Nothing is sent to a waiting client before a bid is won or so long has passed: an early refusal is a true 503. */
const SILENT_MS = 10_000;
const COMMENT_MS = 4_000;
const WON_PHASES: ReadonlySet<string> = new Set(['bid won', 'loading model', 'ready']);

export interface PatienceOptions {
  readonly router: PoolRouter;
  readonly clock: Clock;
  readonly sink: ReplySink;
  readonly comment: (text: string) => void;
  /** Of the request: machines that are ready for others are none for it. */
  readonly needs?: Needs | undefined;
}

/** Tells a streaming client what it waits for, while any part of its answer waits for a machine. */
export class Patience {
  readonly #options: PatienceOptions;
  #waiting = 0;
  #stop: (() => void) | null = null;

  constructor(options: PatienceOptions) {
    this.#options = options;
  }

  /** One more part waits; the returned function says that it does no more. */
  begin(): () => void {
    this.#waiting += 1;
    if (this.#waiting === 1) this.#start();
    return () => {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.stop();
    };
  }

  stop(): void {
    this.#stop?.();
    this.#stop = null;
  }

  #start(): void {
    const { router, clock, sink, comment, needs } = this.#options;
    const won = (): boolean =>
      WON_PHASES.has(router.phase) && (router.phase !== 'ready' || router.targetFor(needs) !== null);
    const since = clock.now();
    let cancel: () => void = () => undefined;
    const tell = (): void => {
      if (sink.started || won() || clock.now() - since >= SILENT_MS) {
        comment(`waiting: ${router.phase}`);
      }
    };
    const again = (): void => {
      const silentMs = sink.started ? COMMENT_MS : since + SILENT_MS - clock.now();
      cancel = clock.timer(silentMs > 0 ? Math.min(COMMENT_MS, silentMs) : COMMENT_MS, () => {
        tell();
        again();
      });
    };
    again();
    const off = router.onPhase(tell);
    if (won()) tell();
    this.#stop = () => {
      cancel();
      off();
    };
  }
}
