import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { ReportMessage } from '../../spec/provider-wire.ts';
import type { Ms } from '../../units.ts';
import type { Workload } from '../market.ts';
import type { RunningServer } from './delivery.ts';
import type { DeliveryHealth } from './own-answer.ts';
import { MarketFailure } from './market-connection.ts';

/** Starts a model server here; `index` is the lowest number, from 0, that no other one has. */
export type StartProvided = (request: {
  readonly workload: Workload;
  readonly apiKey: string;
  readonly index: number;
  readonly signal: AbortSignal;
}) => Promise<RunningServer>;

export interface ProvidedServersOptions {
  readonly clock: Clock;
  readonly slots: number;
  readonly start: StartProvided;
  readonly report: (lease: string, report: Omit<ReportMessage, 'session'>) => Promise<void>;
  /** The address that the market is given for one on this machine. */
  readonly addressOf: (url: string) => string;
  readonly log: (line: string) => void;
}

interface Provided {
  readonly index: number;
  readonly ending: AbortController;
  over: Promise<void>;
}

const REPORT_TRIES = 20;
const REPORT_AGAIN_MS: Ms = 1_000;
const DETAIL_MAX = 1_000;
const HEALTH_MAX = 500;

/** A provider's model servers by lease: each started once, told of to the market, ended when its lease is over. */
export class ProvidedServers {
  readonly #options: ProvidedServersOptions;
  readonly #servers = new Map<string, Provided>();
  /** Of leases lately served, for disputes. */
  readonly #health = new Map<string, DeliveryHealth>();

  constructor(options: ProvidedServersOptions) {
    this.#options = options;
  }

  /** Those that are ending take up their machine still. */
  get count(): number {
    return this.#servers.size;
  }

  /** Null: this process never heard of that lease, or long ago. */
  health(lease: string): DeliveryHealth | null {
    return this.#health.get(lease) ?? null;
  }

  #note(lease: string, change: Partial<DeliveryHealth>): void {
    const before = this.#health.get(lease) ?? { runningMs: null, endedMs: null, detail: '' };
    this.#health.delete(lease);
    this.#health.set(lease, { ...before, ...change });
    const [oldest] = this.#health.keys();
    if (this.#health.size > HEALTH_MAX && oldest !== undefined) this.#health.delete(oldest);
  }

  /** The same again changes nothing. */
  start(lease: string, workload: Workload, apiKey: string): void {
    if (this.#servers.has(lease)) return;
    const before = [...this.#servers.values()];
    let index = 0;
    while (before.some((other) => other.index === index)) index += 1;
    const provided: Provided = { index, ending: new AbortController(), over: Promise.resolve() };
    this.#servers.set(lease, provided);
    const { log } = this.#options;
    log(`lease ${lease}: starting a model server for ${workload.model}`);
    provided.over = this.#serve(lease, provided, { workload, apiKey, before })
      .catch((error: unknown) => log(`lease ${lease}: ${describeError(error)}`))
      .finally(() => this.#servers.delete(lease));
  }

  stop(lease: string): void {
    this.#servers.get(lease)?.ending.abort(new Error('the lease is over'));
  }

  /** Ends those whose lease is not among the open ones. */
  keepOnly(leases: readonly string[]): void {
    for (const lease of this.#servers.keys()) if (!leases.includes(lease)) this.stop(lease);
  }

  async endAll(): Promise<void> {
    this.keepOnly([]);
    await Promise.all([...this.#servers.values()].map(({ over }) => over));
  }

  async #serve(
    lease: string,
    { index, ending: { signal } }: Provided,
    from: { readonly workload: Workload; readonly apiKey: string; readonly before: readonly Provided[] },
  ): Promise<void> {
    const { start, addressOf, log } = this.#options;
    let server: RunningServer;
    try {
      await this.#room(from.before);
      signal.throwIfAborted();
      server = await start({ workload: from.workload, apiKey: from.apiKey, index, signal });
    } catch (error) {
      if (!signal.aborted) await this.#fail(lease, signal, describeError(error));
      return;
    }
    const aborted = new Promise<null>((resolve) => signal.addEventListener('abort', () => resolve(null)));
    try {
      if (signal.aborted) return;
      this.#note(lease, { runningMs: this.#options.clock.now() });
      const known = await this.#tell(lease, { state: 'running', url: addressOf(server.url), detail: '' }, signal);
      if (known) log(`lease ${lease}: running at ${addressOf(server.url)}`);
      const exit = known && !signal.aborted ? await Promise.race([server.exited, aborted]) : null;
      if (exit !== null) await this.#fail(lease, signal, exit.detail);
    } finally {
      await server.stop();
      if (this.health(lease)?.endedMs === null)
        this.#note(lease, { endedMs: this.#options.clock.now(), detail: 'stopped' });
      log(`lease ${lease}: the model server is gone`);
    }
  }

  /** Machines that end may still hold the memory that the next one needs. */
  async #room(before: readonly Provided[]): Promise<void> {
    const ending = before.filter((other) => other.ending.signal.aborted);
    if (before.length >= this.#options.slots) await Promise.all(ending.map(({ over }) => over));
  }

  async #fail(lease: string, signal: AbortSignal, why: string): Promise<void> {
    this.#options.log(`lease ${lease}: failed: ${why}`);
    this.#note(lease, { endedMs: this.#options.clock.now(), detail: why.slice(0, 200) });
    const detail = why.replaceAll(/\p{Cc}+/gu, ' ').slice(0, DETAIL_MAX);
    await this.#tell(lease, { state: 'failed', detail }, signal);
  }

  /** Until the market knows, or the lease is over. False when it does not want this model server. */
  async #tell(lease: string, report: Omit<ReportMessage, 'session'>, signal: AbortSignal): Promise<boolean> {
    const { clock, log } = this.#options;
    for (let tries = 1; !signal.aborted; tries += 1) {
      try {
        await this.#options.report(lease, report);
        return true;
      } catch (error) {
        const status = error instanceof MarketFailure ? error.status : null;
        const final = status !== null && status >= 400 && status < 500 && status !== 429;
        if (!final && tries < REPORT_TRIES) {
          await clock.sleep(REPORT_AGAIN_MS, signal).catch(() => undefined);
          continue;
        }
        log(`lease ${lease}: the market refused our report: ${describeError(error)}`);
        if (report.state === 'running' && status === 400)
          await this.#tell(lease, { state: 'failed', detail: describeError(error).slice(0, DETAIL_MAX) }, signal);
        return false;
      }
    }
    return false;
  }
}
