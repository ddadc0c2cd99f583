import type { Clock } from '../clock.ts';
import type { MarketName, PoolSpec, Price } from '../spec.ts';
import type { EpochMs, Ms, NanoUsd } from '../units.ts';
import { SEEN_MS } from './ceiling.ts';
import { Failures } from './failures.ts';
import { expectedLifeMs, LIVES_KEPT } from './life.ts';
import { Moves } from './moves.ts';
import { Prices } from './prices.ts';
import { ProviderBook } from './provider-book.ts';
import type { WakeOffer, WakeStage } from './pool/wake-offer.ts';
import { Rollouts } from './rollouts.ts';
import type { OrderRecord, ReplicaRecord, SchedulerRecords } from './records.ts';

const DAY_MS = 86_400_000;
const PROVEN_MAX = 2000;
const LIVE: ReadonlySet<string> = new Set(['ordering', 'accepting', 'starting', 'ready']);

/** What is known of a live replica only as long as this process lives. */
export interface Notes {
  /** Its order is with the markets. */
  posted: boolean;
  /** Bids that were refused when taken: not tried again. */
  readonly refusedBids: Set<string>;
  lastRefusal: string | null;
  /** That it came to nothing was foreseen: the next order follows at once. */
  retries: boolean;
  /** When its bid was first tried to be taken; the outcome is unknown so far. */
  acceptingSinceMs: EpochMs | null;
  deployed: boolean;
  /** It comes on top of the replicas that the pool wants. */
  reserve: boolean;
  /** The best machine that bid beside one that is paid by the token. */
  rivalNanoUsdPerHour: NanoUsd | null;
  tokenPrice: Price | null;
  /** From when its start-up is timed, where that is not the lease's beginning. */
  startSinceMs: EpochMs | null;
  /** Markets where its order may still stand although another won. */
  readonly uncancelled: Set<MarketName>;
  fundAgainMs: EpochMs;
  /** Since when it was under suspicion at the last look. */
  suspectMs: EpochMs | null;
  /** Probes in a row that it left unanswered since it failed requests. */
  silentProbes: number;
  /** It was put under suspicion by a question of ours, not by a request. */
  hushed: boolean;
  /** When it last answered a question of ours, and how long the quickest one took. */
  heardMs: EpochMs;
  probeMs: Ms | null;
  /** Speeds of answers that were alone on it, not summed up yet; their medians and those of questions, the latest last. */
  alone: number[];
  measures: number[];
  /** Questions that were put to measure it, and when the next one may be. */
  measured: number;
  measureNextMs: EpochMs;
  /** Its bids are in their providers' records. */
  bidsNoted: boolean;
  /** A refusal that was told already. */
  told: string | null;
  /** What keeps its start-up waiting. */
  problem: string | null;
  /** The request that pays for it. */
  payer: WakeOffer | null;
}

/** The scheduler's memory: live replicas and open orders with their rows, what they cost today, and who failed lately. */
export class Fleet {
  readonly failures: Failures;
  readonly book: ProviderBook;
  readonly rollouts: Rollouts;
  readonly moves: Moves;
  /** What was bid lately. */
  readonly prices = new Prices();
  readonly #records: SchedulerRecords;
  readonly #clock: Clock;
  readonly #replicas = new Map<string, ReplicaRecord>();
  readonly #notes = new Map<string, Notes>();
  readonly #orders = new Map<string, OrderRecord>();
  /** How long replicas of a pool stayed that were given back. */
  readonly #lived = new Map<string, Ms[]>();
  /** What closed replicas of a pool cost since midnight UTC of that day. */
  readonly #spent = new Map<string, { readonly day: number; readonly amount: NanoUsd }>();
  /** Closed replicas of today that an account's allowance paid for. */
  #allowed: readonly ReplicaRecord[] = [];
  /** Descriptions of pools that a replica has come up by. */
  readonly #proven = new Set<string>();

  constructor(records: SchedulerRecords, clock: Clock, log: (line: string) => void = () => undefined) {
    this.#records = records;
    this.#clock = clock;
    this.failures = new Failures(clock);
    this.book = new ProviderBook(records.tracks, clock, log);
    this.rollouts = new Rollouts(clock);
    this.moves = new Moves(clock);
  }

  async open(): Promise<void> {
    const open = await this.#records.openReplicas();
    const closed = await this.#records.closedSince(this.#clock.now() - DAY_MS);
    for (const record of open) this.#replicas.set(record.id, record);
    for (const record of closed) this.#tally(record);
    for (const record of [...closed, ...open]) this.#prove(record);
    for (const order of await this.#records.ordersSince(this.#clock.now() - SEEN_MS)) this.prices.add(order);
    this.failures.recall([...closed, ...open]);
    await this.book.open([...closed, ...open]);
  }

  active(): ReplicaRecord[] {
    return [...this.#replicas.values()];
  }

  ofPool(pool: string): ReplicaRecord[] {
    return this.active().filter((record) => record.pool === pool);
  }

  /** A replica that is not closed. */
  find(id: string): ReplicaRecord | undefined {
    return this.#replicas.get(id);
  }

  notes(id: string): Notes {
    const known = this.#notes.get(id);
    if (known) return known;
    const notes: Notes = {
      posted: false,
      refusedBids: new Set(),
      lastRefusal: null,
      retries: false,
      acceptingSinceMs: null,
      deployed: false,
      reserve: false,
      rivalNanoUsdPerHour: null,
      tokenPrice: null,
      startSinceMs: null,
      uncancelled: new Set(),
      fundAgainMs: 0,
      suspectMs: null,
      silentProbes: 0,
      ...{ hushed: false, heardMs: 0, probeMs: null, alone: [], measures: [], measured: 0, measureNextMs: 0 },
      bidsNoted: false,
      told: null,
      problem: null,
      payer: null,
    };
    if (this.#replicas.has(id)) this.#notes.set(id, notes);
    return notes;
  }

  /** Memory changes at once, so that whoever decides meanwhile counts it; the row follows. */
  async save(record: ReplicaRecord): Promise<ReplicaRecord> {
    this.#notes.get(record.id)?.payer?.follow(wakeStage(record));
    if (record.state === 'closed') {
      if (this.#replicas.delete(record.id)) this.#tally(record);
      this.#notes.delete(record.id);
    } else {
      this.#replicas.set(record.id, record);
    }
    this.#prove(record);
    await this.#records.saveReplica(record);
    return record;
  }

  /** Once for each order: its bids go into their providers' records. */
  noteBids(
    id: string,
    offers: readonly { readonly market: string; readonly bid: { readonly provider: string } }[],
  ): void {
    const notes = this.notes(id);
    if (notes.bidsNoted) return;
    notes.bidsNoted = true;
    for (const { market, bid } of offers) this.book.bid({ market, provider: bid.provider }, 'bids');
  }

  /** Whether some replica came up by this description: one that does not is hardly the description's fault. */
  isProven({ runs }: ReplicaRecord): boolean {
    return runs !== undefined && this.#proven.has(runs.version);
  }

  async saveOrder(order: OrderRecord): Promise<OrderRecord> {
    if (order.state === 'open') this.#orders.set(order.id, order);
    else this.#orders.delete(order.id);
    this.prices.add(order);
    await this.#records.saveOrder(order);
    return order;
  }

  async order(id: string): Promise<OrderRecord | null> {
    return this.#orders.get(id) ?? this.#records.findOrder(id);
  }

  /** Cost of a pool since midnight UTC, from its leases' prices and times. */
  spentToday(pool: string): NanoUsd {
    const tally = this.#spent.get(pool);
    let spent = tally?.day === this.#midnight() ? tally.amount : 0n;
    for (const record of this.ofPool(pool)) spent += this.#costToday(record);
    return spent;
  }

  /** The same of all pools. */
  spentTodayByAll(): NanoUsd {
    const pools = new Set([...this.#spent.keys(), ...this.active().map(({ pool }) => pool)]);
    return [...pools].reduce((sum, pool) => sum + this.spentToday(pool), 0n);
  }

  /** Wakes of a pool today that an account's allowance paid for; an order that came to nothing is none. */
  wakesToday(pool: string, account: string): number {
    const all = [...this.#allowed, ...this.#replicas.values()];
    return all.filter((record) => {
      const own = record.pool === pool && record.wake?.shares[0]?.account === account;
      return own && isAllowance(record) && record.orderedMs >= this.#midnight();
    }).length;
  }

  /** Replicas of a pool per provider: those that have a lease, and those that are taking a bid. */
  perProvider(pool: string): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { provider } of this.ofPool(pool)) {
      if (provider !== null) counts.set(provider, (counts.get(provider) ?? 0) + 1);
    }
    return counts;
  }

  #prove({ readyMs, runs }: ReplicaRecord): void {
    if (readyMs === null || !runs) return;
    this.#proven.add(runs.version);
    const [oldest] = this.#proven;
    if (oldest !== undefined && this.#proven.size > PROVEN_MAX) this.#proven.delete(oldest);
  }

  /** How long one more replica is expected to stay; this one is not counted. */
  expectedLifeMs(spec: PoolSpec, id: string | null = null): Ms {
    const others = this.ofPool(spec.id).filter((one) => one.id !== id && LIVE.has(one.state)).length;
    return expectedLifeMs(spec, others, this.#lived.get(spec.id) ?? []);
  }

  #midnight(): EpochMs {
    const now = this.#clock.now();
    return now - (now % DAY_MS);
  }

  #costToday({ leasedMs, closedMs, costNanoUsdPerHour }: ReplicaRecord): NanoUsd {
    if (leasedMs === null || costNanoUsdPerHour === null) return 0n;
    const ms = Math.max(0, (closedMs ?? this.#clock.now()) - Math.max(leasedMs, this.#midnight()));
    return (costNanoUsdPerHour * BigInt(ms)) / 3_600_000n;
  }

  #tally(record: ReplicaRecord): void {
    const { pool, readyMs, closedMs, failed } = record;
    if (readyMs !== null && closedMs !== null && !failed) {
      this.#lived.set(pool, [...(this.#lived.get(pool) ?? []), closedMs - readyMs].slice(-LIVES_KEPT));
    }
    const day = this.#midnight();
    const before = this.#spent.get(record.pool);
    const amount = (before?.day === day ? before.amount : 0n) + this.#costToday(record);
    if (amount > 0n) this.#spent.set(record.pool, { day, amount });
    if (isAllowance(record)) this.#allowed = [...this.#allowed.filter(({ orderedMs }) => orderedMs >= day), record];
  }
}

/**
 * One that came to nothing is none, as nobody pays a fee for it; nor is one whose machine was gone sooner than it had come:
 * an answer that was cut then is asked for again.
 */
function isAllowance(record: ReplicaRecord): boolean {
  return record.wake?.way === 'allowance' && wakeStage(record) !== 'open' && !diedYoung(record);
}

function diedYoung({ orderedMs, readyMs, failedMs = null }: ReplicaRecord): boolean {
  return readyMs !== null && failedMs !== null && failedMs - readyMs < readyMs - orderedMs;
}

/** What a replica's state says of the wake that it was ordered for: failed before it was ready, it was none. */
function wakeStage({ state, leaseId, readyMs, failed }: ReplicaRecord): WakeStage {
  if (failed && readyMs === null) return 'open';
  if (leaseId !== null) return 'leased';
  return state === 'closing' || state === 'closed' ? 'open' : 'ordered';
}
