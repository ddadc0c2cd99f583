import type { Clock } from '../clock.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { OrderRecord, ReplicaRecord, SchedulerRecords } from './records.ts';
import { quarantineMs } from './reputation.ts';

const DAY_MS = 86_400_000;

interface Failures {
  inRow: number;
  untilMs: EpochMs;
}

/** The scheduler's memory: replicas and orders with their rows, and who failed lately. Every change is saved first. */
export class Fleet {
  readonly #records: SchedulerRecords;
  readonly #clock: Clock;
  readonly #replicas = new Map<string, ReplicaRecord>();
  readonly #orders = new Map<string, OrderRecord>();
  readonly #providers = new Map<string, Failures>();
  readonly #pools = new Map<string, Failures>();

  constructor(records: SchedulerRecords, clock: Clock) {
    this.#records = records;
    this.#clock = clock;
  }

  async open(): Promise<void> {
    for (const record of await this.#records.openReplicas()) this.#replicas.set(record.id, record);
    for (const record of await this.#records.listReplicas()) {
      if (record.closedMs !== null && record.closedMs > this.#clock.now() - DAY_MS)
        this.#replicas.set(record.id, record);
    }
  }

  active(): ReplicaRecord[] {
    return [...this.#replicas.values()].filter(({ state }) => state !== 'closed');
  }

  ofPool(pool: string): ReplicaRecord[] {
    return this.active().filter((record) => record.pool === pool);
  }

  find(id: string): ReplicaRecord | undefined {
    return this.#replicas.get(id);
  }

  async save(record: ReplicaRecord): Promise<ReplicaRecord> {
    this.#replicas.set(record.id, record);
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
    const now = this.#clock.now();
    const midnight = now - (now % DAY_MS);
    let spent = 0n;
    for (const [id, { pool: owner, leasedMs, closedMs, costNanoUsdPerHour }] of this.#replicas) {
      if (closedMs !== null && closedMs < now - DAY_MS) this.#replicas.delete(id);
      if (owner !== pool || leasedMs === null || costNanoUsdPerHour === null) continue;
      const ms = Math.max(0, (closedMs ?? now) - Math.max(leasedMs, midnight));
      spent += (costNanoUsdPerHour * BigInt(ms)) / 3_600_000n;
    }
    return spent;
  }

  /** Live replicas of a pool per provider. */
  perProvider(pool: string): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { provider, leaseId } of this.ofPool(pool)) {
      if (provider !== null && leaseId !== null) counts.set(provider, (counts.get(provider) ?? 0) + 1);
    }
    return counts;
  }

  quarantinedUntil(provider: string): EpochMs {
    return this.#providers.get(provider)?.untilMs ?? 0;
  }

  backoffUntil(pool: string): EpochMs {
    return this.#pools.get(pool)?.untilMs ?? 0;
  }

  /** A start-up or a lease failed: the pool pauses (1 s, doubled, at most a minute), its provider is passed over. */
  failed(pool: string, provider: string | null): void {
    const now = this.#clock.now();
    const inRow = (this.#pools.get(pool)?.inRow ?? 0) + 1;
    this.#pools.set(pool, { inRow, untilMs: now + Math.min(60_000, 1000 * 2 ** (inRow - 1)) });
    if (provider === null) return;
    const row = (this.#providers.get(provider)?.inRow ?? 0) + 1;
    this.#providers.set(provider, { inRow: row, untilMs: now + quarantineMs(row) });
  }

  succeeded(pool: string, provider: string): void {
    this.#pools.delete(pool);
    this.#providers.delete(provider);
  }
}
