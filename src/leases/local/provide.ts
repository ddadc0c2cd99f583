import type { Clock } from '../../clock.ts';
import { AppError, describeError } from '../../errors.ts';
import { randomText, type RandomBytes } from '../../random.ts';
import type { LocalProvider } from '../../spec.ts';
import type { BidMessage, OfferReply, OrderMessage, TaskMessage } from '../../spec/provider-wire.ts';
import { formatUsd, perHourFromPerBlock, type Ms } from '../../units.ts';
import type { Workload } from '../market.ts';
import { askingPrice, decideBid, usedBp, type BidDecision } from './auction.ts';
import { MarketConnection, MarketFailure, type CallMarket } from './market-connection.ts';
import { orderOfMessage, workloadOfMessage } from './order-message.ts';
import { ProvidedDisputes } from './provided-disputes.ts';
import { ProvidedServers, type StartProvided } from './provided-servers.ts';

export interface ProvideOptions {
  /** Hardware and price policy; its id is the market's to say. */
  readonly provider: LocalProvider;
  /** Why a workload cannot be served here; null when it can. */
  readonly refuse: (workload: Workload) => string | null;
  readonly start: StartProvided;
  /** Host in the addresses that the market is given; null: as the market sees us. */
  readonly advertise: string | null;
  /** Disputes are answered by what our own log says; else a person does. */
  readonly answerDisputes: boolean;
  readonly call: CallMarket;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: (line: string) => void;
  /** Told once when the market first takes the offer. */
  readonly onJoined: (id: string) => void;
  readonly signal: AbortSignal;
}

const BACKOFF_FIRST_MS = 500;
/** Well below the market's patience with us. */
const BACKOFF_MAX_MS = 5_000;
const LOOPBACK = /^(127\.|\[?::1\]?$|localhost$)/;
const PAUSE_MS = 250;
const BID_DETAIL_MAX = 200;
const HOUR_MS: Ms = 3_600_000;

/**
 * A provider's own part in a market elsewhere: offers, bids, starts and stops model servers, comes back after the market was
 * away. Resolves after the signal, when its model servers are gone.
 * @throws AppError when there is no use in going on: a wrong key, no such market, another process in our place; its model
 *   servers are gone then, too
 */
export async function provide(options: ProvideOptions): Promise<void> {
  const agent = new ProviderAgent(options);
  try {
    await agent.run();
  } finally {
    await agent.end();
  }
}

class ProviderAgent {
  readonly #options: ProvideOptions;
  readonly #market: MarketConnection;
  readonly #servers: ProvidedServers;
  readonly #disputes: ProvidedDisputes;
  #terms: OfferReply | null = null;
  #joined = false;
  #after = 0;
  #heardMs: Ms;
  #complained = false;
  /** Then the next question does not wait: leases may be over by now. */
  #interrupted = true;

  constructor(options: ProvideOptions) {
    const { call, clock, random, provider, start, log } = options;
    this.#options = options;
    this.#market = new MarketConnection({ call, session: randomText(random, 22) });
    this.#heardMs = clock.monotonic();
    this.#servers = new ProvidedServers({
      ...{ clock, start, log },
      slots: provider.slots,
      report: (lease, report) => this.#market.report(lease, report),
      addressOf: (url) => this.#addressOf(url),
    });
    this.#disputes = new ProvidedDisputes({
      ...{ clock, log, byLog: options.answerDisputes },
      health: (lease) => this.#servers.health(lease),
      answer: (id, answer) => this.#market.answerDispute(id, answer),
    });
  }

  async run(): Promise<void> {
    const { signal, clock } = this.#options;
    for (let failures = 0; !signal.aborted;) {
      try {
        const terms = this.#terms ?? (await this.#offer());
        await this.#poll(this.#interrupted ? 0 : terms.wait_s);
        this.#interrupted = false;
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#interrupted = true;
        this.#consider(error);
        await clock.sleep(this.#backoff(failures), signal).catch(() => undefined);
      }
    }
  }

  /** Says goodbye, where that is of use, and ends all model servers. */
  async end(): Promise<void> {
    if (this.#terms !== null) await this.#market.leave().catch(() => undefined);
    await this.#servers.endAll();
  }

  async #offer(): Promise<OfferReply> {
    const { provider, signal, log, onJoined } = this.#options;
    const { slots, cpu, memoryBytes, gpus, policy } = provider;
    const has = { slots, cpu, memory_bytes: memoryBytes, gpus: [...gpus], policy: policy.kind };
    const offer = { ...has, asks_usd_per_hour: asksOf(provider) };
    const terms = await this.#market.offer(offer, signal);
    this.#terms = terms;
    this.#after = 0;
    this.#heard();
    if (!this.#joined) onJoined(terms.id);
    else log('the market is back');
    this.#joined = true;
    const host = new URL(this.#addressOf('http://127.0.0.1')).hostname;
    if (terms.seen_as !== null && LOOPBACK.test(host) && !LOOPBACK.test(terms.seen_as))
      log(
        `the market is elsewhere (it sees us at ${terms.seen_as}) and cannot reach ${host}: set --host or --advertise`,
      );
    return terms;
  }

  async #poll(waitS: number): Promise<void> {
    const { clock, signal } = this.#options;
    const begunMs = clock.monotonic();
    const { tasks, leases, disputes } = await this.#market.tasks({ after: this.#after, waitS }, signal);
    this.#heard();
    this.#servers.keepOnly(leases);
    this.#disputes.hear(disputes);
    const fresh = tasks.filter(({ n }) => n > this.#after);
    for (const task of fresh) this.#do(task);
    this.#after = Math.max(this.#after, ...fresh.map(({ n }) => n));
    // A market that keeps no question waiting is not asked without a pause.
    const early = waitS > 0 && fresh.length === 0 && clock.monotonic() - begunMs < PAUSE_MS;
    if (early) await clock.sleep(PAUSE_MS, signal);
  }

  #do(task: TaskMessage): void {
    if (task.kind === 'bid') void this.#bid(task.order);
    else if (task.kind === 'start') this.#servers.start(task.lease, workloadOfMessage(task.workload), task.api_key);
    else this.#servers.stop(task.lease);
  }

  /** Once: an answer that comes later than the market waits is of no use. */
  async #bid(message: OrderMessage): Promise<void> {
    const { signal, log } = this.#options;
    try {
      await this.#market.bid({ order: message.id, ...this.#answer(message) }, signal);
    } catch (error) {
      if (!signal.aborted) log(`the answer to order ${message.id} did not arrive: ${describeError(error)}`);
    }
  }

  #answer(message: OrderMessage): Pick<BidMessage, 'usd_per_hour' | 'decline' | 'note' | 'start_ms'> {
    const { provider, refuse } = this.#options;
    const blockMs = this.#terms?.block_ms ?? 1;
    const order = orderOfMessage(message, blockMs);
    const why = refuse(order.workload);
    const decision: BidDecision =
      // Whether it is audited and where it stands is the market's to know: it asks nobody who does not fit.
      why === null
        ? decideBid({ ...provider, audited: true }, this.#servers.count, { ...order, region: null }, blockMs)
        : { bid: false, reason: why };
    if (!decision.bid) return { decline: decision.reason.slice(0, BID_DETAIL_MAX), note: '', start_ms: null };
    const perHour = perHourFromPerBlock(decision.priceNanoUsdPerBlock, blockMs);
    return { usd_per_hour: formatUsd(perHour), note: decision.note.slice(0, BID_DETAIL_MAX), start_ms: null };
  }

  #addressOf(url: string): string {
    const address = new URL(url);
    const host = this.#options.advertise ?? this.#terms?.seen_as ?? null;
    if (host !== null) address.hostname = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
    return address.origin;
  }

  #heard(): void {
    this.#heardMs = this.#options.clock.monotonic();
    this.#complained = false;
  }

  /** @throws AppError when there is no use in trying again */
  #consider(error: unknown): void {
    const { log, clock } = this.#options;
    if (!(error instanceof MarketFailure)) throw error;
    const { status } = error;
    if (status === 404 && this.#terms !== null) {
      // It was started anew, and has forgotten us and our leases.
      this.#terms = null;
      return;
    }
    if (status === 401) throw new AppError('invalid_api_key', `the market refused our key: ${error.message}`);
    if (status === 409) throw new AppError('conflict', error.message);
    if (!this.#joined && (status === 400 || status === 404 || error.foreign))
      throw new AppError('setup_failed', error.message);
    if (!this.#complained) log(`the market cannot be reached, trying again: ${error.message}`);
    this.#complained = true;
    const silentMs = clock.monotonic() - this.#heardMs;
    // By now the market has given our leases up: nobody pays for what runs.
    if (this.#terms !== null && silentMs > this.#terms.silence_ms) this.#servers.keepOnly([]);
  }

  #backoff(failures: number): Ms {
    const most = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures - 1, 10));
    return (most * (128 + (this.#options.random(1)[0] ?? 0) / 2)) / 256;
  }
}

/** By its policy, the more the more of it is in use. */
function asksOf(provider: LocalProvider): string[] {
  return Array.from({ length: provider.slots }, (_, leases) =>
    formatUsd(askingPrice(provider, usedBp(provider, leases), HOUR_MS).price),
  );
}
