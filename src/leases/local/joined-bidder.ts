import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type {
  BidMessage,
  DisputeAnswerMessage,
  OfferMessage,
  OfferReply,
  ReportMessage,
  TasksQuery,
  TasksReply,
} from '../../spec/provider-wire.ts';
import { maxBig, parseUsd, perBlockFromPerHour, type Ms, type NanoUsd } from '../../units.ts';
import type { OrderRequest } from '../market.ts';
import { findObstacle } from './auction.ts';
import type { Dispute } from '../dispute.ts';
import type { BidAnswer, Bidder, BidderFacts, DisputeMeans } from './bidder.ts';
import type { RunningServer, StartRequest } from './delivery.ts';
import { JoinedDisputes } from './joined-disputes.ts';
import { messageOfOrder, messageOfWorkload } from './order-message.ts';
import { checkServerAddress } from './server-address.ts';
import { TaskQueue } from './task-queue.ts';

export interface JoinedOptions {
  readonly id: string;
  readonly audited: boolean;
  /** Where its machines stand, by the operator's word; null: nobody said. */
  readonly region: string | null;
  /** Where its model servers may be, besides the address that it calls from. */
  readonly hosts: readonly string[];
  readonly clock: Clock;
  readonly blockMs: Ms;
  readonly log: (line: string) => void;
}

/** A provider silent for so long has lost its leases. */
export const SILENCE_MS = 30_000;
/** Or for so long after its connection broke off. */
const BROKEN_MS = 10_000;
/** Orders are answered in this time or not at all: requests wait for them. */
export const ANSWER_MS = 5_000;
/** The longest wait of a question for tasks: well within the silence. */
const WAIT_S = 20;
const ORDERS_MAX = 128;
const STOPS_MAX = 64;
const AWAY = { slots: 0, cpu: 0, memoryBytes: 0, gpus: [], policy: 'not connected' };

/**
 * A provider elsewhere, as far as the market sees it: what it offered, what it is still to be told, the orders it has yet to
 * answer, and the model servers that it was told to start. It is believed in nothing that can be checked here: what it
 * declared binds its bids, and its model servers are where it calls from or where the operator allows.
 */
export class JoinedBidder implements Bidder {
  readonly id: string;
  readonly #options: JoinedOptions;
  readonly #queue: TaskQueue;
  readonly #disputes = new JoinedDisputes();
  readonly #unanswered = new Map<string, (answer: BidAnswer) => void>();
  readonly #servers = new Map<string, JoinedServer>();
  #offer: OfferMessage | null = null;
  #present = false;
  #stopSilence: () => void = () => undefined;

  constructor(options: JoinedOptions) {
    this.id = options.id;
    this.#options = options;
    this.#queue = new TaskQueue(options.clock);
  }

  get facts(): BidderFacts {
    const { audited, region } = this.#options;
    if (this.#offer === null || !this.#present) return { ...AWAY, audited, region };
    const { slots, cpu, memory_bytes: memoryBytes, gpus, policy } = this.#offer;
    return { slots, cpu, memoryBytes, gpus, audited, region, policy };
  }

  answer(order: OrderRequest, leases: () => number, signal: AbortSignal): Promise<BidAnswer> {
    const { clock, blockMs } = this.#options;
    const decline = (reason: string): BidAnswer => ({ bid: false, reason });
    if (!this.#present) return Promise.resolve(decline('is not connected'));
    const obstacle = findObstacle(this.facts, leases(), order);
    if (obstacle !== null) return Promise.resolve(decline(obstacle));
    if (this.#unanswered.size >= ORDERS_MAX) return Promise.resolve(decline('has too many orders to answer'));
    return new Promise((resolve) => {
      const settle = (answer: BidAnswer): void => {
        cancel();
        signal.removeEventListener('abort', withdraw);
        this.#unanswered.delete(order.id);
        this.#queue.drop((task) => task.kind === 'bid' && task.order.id === order.id);
        resolve(answer);
      };
      const withdraw = (): void => settle(decline('the order is closed'));
      const cancel = clock.timer(ANSWER_MS, () => settle(decline('did not answer')));
      signal.addEventListener('abort', withdraw, { once: true });
      this.#unanswered.set(order.id, settle);
      this.#queue.push({ kind: 'bid', order: messageOfOrder(order, blockMs) });
    });
  }

  /** By its own word: its bid is what counts. */
  asks(leases: number): NanoUsd | null {
    const asked = this.#present ? this.#offer?.asks_usd_per_hour?.[leases] : undefined;
    return asked === undefined ? null : this.#perBlock(asked);
  }

  start({ leaseId, workload, apiKey, signal }: StartRequest): Promise<RunningServer> {
    if (!this.#present) return Promise.reject(new Error('the provider is not connected'));
    const server = new JoinedServer(() => this.#release(leaseId));
    signal.addEventListener(
      'abort',
      () => {
        this.#release(leaseId);
        server.fail('the lease was closed');
      },
      { once: true },
    );
    this.#servers.set(leaseId, server);
    this.#queue.push({ kind: 'start', lease: leaseId, workload: messageOfWorkload(workload), api_key: apiKey });
    return server.started;
  }

  /** It is told at once, by the reply that its question for tasks waits for. */
  disputed(dispute: Dispute, means: DisputeMeans): void {
    this.#disputes.set(dispute, means);
    this.#queue.wake();
  }

  /** Needs no session: its operator may answer from anywhere, while no machine of its is there. */
  answerDispute(id: string, message: DisputeAnswerMessage): Promise<void> {
    return this.#disputes.answer(id, message);
  }

  /** What the provider has. A new session takes the place of the one before it, whose leases end. */
  offer(message: OfferMessage, peer: string | null): OfferReply {
    const { blockMs, log } = this.#options;
    if (message.session !== this.#offer?.session) {
      if (this.#offer !== null) this.#lose('another process of the provider took its place');
      this.#queue.reset();
      log(`provider ${this.id} joined, seen at ${peer ?? 'an unknown address'}`);
    }
    this.#offer = message;
    this.#hear(message.session);
    return { id: this.id, block_ms: blockMs, silence_ms: SILENCE_MS, wait_s: WAIT_S, seen_as: peer };
  }

  /** What is to be done, as soon as there is something; nothing after `wait_s`. */
  async tasks({ session, after, wait_s: waitS }: TasksQuery, signal: AbortSignal): Promise<TasksReply> {
    this.#hear(session);
    this.#queue.drop(({ n }) => n <= after);
    if (waitS > 0 && !this.#disputes.news) await this.#queue.wait(waitS * 1000, signal);
    this.#check(session);
    // Its connection broke off: one that is still there calls again at once.
    if (signal.aborted && this.#present) this.#expect(BROKEN_MS);
    const leases = [...this.#servers.keys()];
    return { tasks: [...this.#queue.list()], leases, disputes: this.#disputes.messages() };
  }

  /** @throws AppError `not_found` for an order that waits for no bid of this provider: it is too late, or never was */
  bid(message: BidMessage): void {
    this.#hear(message.session);
    const settle = this.#unanswered.get(message.order);
    if (settle === undefined) throw new AppError('not_found', 'this order waits for no bid of yours');
    if (message.usd_per_hour === undefined) {
      settle({ bid: false, reason: message.decline ?? 'declined' });
      return;
    }
    settle({
      bid: true,
      priceNanoUsdPerBlock: this.#perBlock(message.usd_per_hour),
      note: message.note,
      startMs: message.start_ms,
    });
  }

  /**
   * What became of a model server; the same again changes nothing.
   * @throws AppError `not_found` for a lease that is not open or not this provider's, `invalid_request` for an address
   *   where its model servers may not be
   */
  report(leaseId: string, message: ReportMessage, peer: string | null): void {
    this.#hear(message.session);
    const server = this.#servers.get(leaseId);
    if (server === undefined) throw new AppError('not_found', 'you have no such open lease');
    if (message.state === 'running') {
      server.run(checkServerAddress(message.url ?? '', peer, this.#options.hosts));
      return;
    }
    this.#servers.delete(leaseId);
    server.fail(message.detail === '' ? 'the provider gave no reason' : message.detail);
  }

  /** The provider goes: it has no capacity any more, and its leases end. */
  leave(session: string): void {
    this.#check(session);
    this.#lose('the provider left');
  }

  /** Lets whoever waits for tasks go, as the market ends. */
  stop(): void {
    this.#stopSilence();
    this.#queue.wake();
  }

  #perBlock(usdPerHour: string): NanoUsd {
    return maxBig(1n, perBlockFromPerHour(parseUsd(usdPerHour), this.#options.blockMs));
  }

  /** @throws AppError `not_found` before the first offer, `conflict` for a session that was replaced */
  #check(session: string): void {
    if (this.#offer === null) throw new AppError('not_found', 'make an offer first');
    if (this.#offer.session !== session)
      throw new AppError('conflict', 'another process with this key took the place of this one');
  }

  #hear(session: string): void {
    this.#check(session);
    this.#present = true;
    this.#expect(SILENCE_MS);
  }

  /** It is to be heard from within this time. */
  #expect(withinMs: Ms): void {
    const { clock, log } = this.#options;
    this.#stopSilence();
    this.#stopSilence = clock.timer(withinMs, () => {
      log(`provider ${this.id} was not heard from for ${withinMs / 1000} s`);
      this.#lose(`the provider was not heard from for ${withinMs / 1000} s`);
    });
  }

  #lose(why: string): void {
    this.#stopSilence();
    this.#present = false;
    for (const settle of [...this.#unanswered.values()]) settle({ bid: false, reason: 'is not connected' });
    const servers = [...this.#servers.values()];
    this.#servers.clear();
    this.#queue.drop(() => true);
    this.#queue.wake();
    for (const server of servers) server.fail(why);
  }

  /** The lease is over: the provider learns it from a task, or from the list of open leases if that gets lost. */
  #release(leaseId: string): void {
    if (!this.#servers.delete(leaseId)) return;
    this.#queue.drop((task) => task.kind === 'start' && task.lease === leaseId);
    const stops = this.#queue.list().filter(({ kind }) => kind === 'stop');
    if (stops.length >= STOPS_MAX) this.#queue.drop((task) => task.n === stops[0]?.n);
    this.#queue.push({ kind: 'stop', lease: leaseId });
  }
}

/** One model server elsewhere: started, then ended, each once. */
class JoinedServer {
  readonly #started = Promise.withResolvers<RunningServer>();
  readonly #exited = Promise.withResolvers<{ detail: string }>();
  readonly #release: () => void;

  constructor(release: () => void) {
    this.#release = release;
  }

  get started(): Promise<RunningServer> {
    return this.#started.promise;
  }

  /** The first address stays. */
  run(url: string): void {
    const stop = (): Promise<void> => Promise.resolve(this.#release());
    this.#started.resolve({ url, exited: this.#exited.promise, stop });
  }

  fail(detail: string): void {
    this.#started.reject(new Error(detail));
    this.#exited.resolve({ detail });
  }
}
