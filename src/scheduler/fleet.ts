import type { Clock } from '../clock.ts';
import type { MarketName, Price } from '../spec.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { WakeOffer, WakeStage } from './pool/wake-offer.ts';
import { Failures } from './failures.ts';
import { Rollouts } from './rollouts.ts';
import type { OrderRecord, ReplicaRecord, SchedulerRecords } from './records.ts';

const DAY_MS = 86_400_000;

/** What is known of a live replica only as long as this process lives. */
export interface Notes {
  /** Its order is with the markets. */
  posted: boolean;
  /** Bids that were refused when taken: not tried again. */
  readonly refusedBids: Set<string>;
  lastRefusal: string | null;
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
  readonly rollouts: Rollouts;
  readonly #records: SchedulerRecords;
  readonly #clock: Clock;
  readonly #replicas = new Map<string, ReplicaRecord>();
  readonly #notes = new Map<string, Notes>();
  readonly #orders = new Map<string, OrderRecord>();
  /** What closed replicas of a pool cost since midnight UTC of that day. */
  readonly #spent = new Map<string, { readonly day: number; readonly amount: NanoUsd }>();
  /** Closed replicas of today that an account's allowance paid for. */
  #allowed: readonly ReplicaRecord[] = [];

  constructor(records: SchedulerRecords, clock: Clock) {
    this.#records = records;
    this.#clock = clock;
    this.failures = new Failures(clock);
    this.rollouts = new Rollouts(clock);
  }

  async open(): Promise<void> {
    const open = await this.#records.openReplicas();
    const closed = await this.#records.closedSince(this.#clock.now() - DAY_MS);
    for (const record of open) this.#replicas.set(record.id, record);
    for (const record of closed) this.#tally(record);
    this.failures.recall([...closed, ...open]);
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
    await this.#records.saveReplica(record);
    return record;
  }

  async saveOrder(order: OrderRecord): Promise<OrderRecord> {
    if (order.state === 'open') this.#orders.set(order.id, order);
    else this.#orders.delete(order.id);
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

  /** Wakes of a pool today that an account's allowance paid for; an order that came to nothing is none. */
  wakesToday(pool: string, account: string): number {
    const all = [...this.#allowed, ...this.#replicas.values()];
    return all.filter((record) => {
      const own = record.pool === pool && record.wake?.shares[0]?.account === account;
      return own && isAllowance(record) && record.orderedMs >= this.#midnight();
    }).length;
  }

  /** The same of all pools. */
  spentTodayByAll(): NanoUsd {
    const pools = new Set([...this.#spent.keys(), ...this.active().map(({ pool }) => pool)]);
    return [...pools].reduce((sum, pool) => sum + this.spentToday(pool), 0n);
  }

  /** Replicas of a pool per provider: those that have a lease, and those that are taking a bid. */
  perProvider(pool: string): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { provider } of this.ofPool(pool)) {
      if (provider !== null) counts.set(provider, (counts.get(provider) ?? 0) + 1);
    }
    return counts;
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
    const day = this.#midnight();
    const before = this.#spent.get(record.pool);
    const amount = (before?.day === day ? before.amount : 0n) + this.#costToday(record);
    if (amount > 0n) this.#spent.set(record.pool, { day, amount });
    if (isAllowance(record)) this.#allowed = [...this.#allowed.filter(({ orderedMs }) => orderedMs >= day), record];
  }
}

function isAllowance({ wake, state, leaseId }: ReplicaRecord): boolean {
  return wake?.way === 'allowance' && (leaseId !== null || (state !== 'closing' && state !== 'closed'));
}

/** What a replica's state says of the wake that it was ordered for: failed before it was ready, it was none. */
function wakeStage({ state, leaseId, readyMs, failed }: ReplicaRecord): WakeStage {
  if (failed && readyMs === null) return 'open';
  if (leaseId !== null) return 'leased';
  return state === 'closing' || state === 'closed' ? 'open' : 'ordered';
}
