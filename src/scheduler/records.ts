import { and, desc, eq, gte, lt, ne, sql } from 'drizzle-orm';
import type { Bid } from '../leases/market.ts';
import type { Engine, MarketName, PoolKind } from '../spec.ts';
import type { Needs, Trust } from '../spec/trust.ts';
import type { Store } from '../store/open.ts';
import { CLOSED_KEPT, PRUNE_EVERY, pruneReplicas } from '../store/retention.ts';
import { decisions, orders, pools, replicas, switches } from '../store/schema.ts';
import type { EpochMs, Ms, NanoUsd } from '../units.ts';
import type { ScoredBid } from './choice.ts';
import type { FailureCause } from './track-record.ts';
import { TrackRows } from './track-rows.ts';
import type { Cause } from './wake.ts';

/**
 * ordering: bids are gathered. accepting: a bid is being taken. starting: leased, the model server comes up. ready: takes
 * requests. draining: takes no new ones. closing: the lease is being ended. closed: over, `reason` says why.
 */
export type ReplicaState = 'ordering' | 'accepting' | 'starting' | 'ready' | 'draining' | 'closing' | 'closed';

export interface ReplicaRecord {
  readonly id: string;
  readonly pool: string;
  readonly state: ReplicaState;
  readonly orderId: string;
  readonly market: MarketName | null;
  readonly bidId: string | null;
  readonly leaseId: string | null;
  readonly provider: string | null;
  readonly priceNanoUsdPerBlock: NanoUsd | null;
  readonly costNanoUsdPerHour: NanoUsd | null;
  readonly orderedMs: EpochMs;
  readonly leasedMs: EpochMs | null;
  readonly runningMs: EpochMs | null;
  readonly firstBidMs?: EpochMs | null;
  readonly answeredMs?: EpochMs | null;
  readonly readyMs: EpochMs | null;
  readonly drainMs: EpochMs | null;
  readonly closedMs: EpochMs | null;
  readonly failed: boolean;
  /** When it failed, and whom that was blamed on. Rows of earlier versions have neither. */
  readonly failedMs?: EpochMs | null;
  readonly blamed?: string | null;
  readonly cause?: FailureCause | null;
  readonly blameShare?: number;
  readonly reason: string;
  /** Payments into the escrow after the deposit, counted so that each has an id of its own. */
  readonly fundings: number;
  /** Where it runs, as its bid said; rows of earlier versions do not know: then as their pool asked. */
  readonly trust?: Trust;
  readonly region?: string | null;
  /** The description of its pool that it was ordered by. */
  readonly runs?: RunsAs;
  /** Ordered besides what the pool's load asks for. */
  readonly beside?: Beside;
  /** It is not what was ordered: it goes as soon as another has taken its place. */
  readonly condemned?: { readonly cause: FailureCause; readonly reason: string; readonly atMs: EpochMs } | null;
  /** When its provider takes the machine back, where that is known. */
  readonly endsMs?: EpochMs | null;
  /** The most that it may cost, where that is less than the ceiling. */
  readonly capNanoUsdPerHour?: NanoUsd;
  /** It woke the pool: why, and whom that is put down to. */
  readonly wake?: Cause | null;
  /** How long it has had something to do; known as of the last look. */
  readonly busyMs?: Ms;
}

/** What a replica is started as; its pool may have been described anew since. */
export interface RunsAs {
  readonly version: string;
  readonly engine: Engine;
  readonly model: string;
  readonly kind: PoolKind;
}

/** Its pool was described anew, its provider takes it back, it is not what was ordered, or another does the same for less. */
export type WhyFollowed = 'changed' | 'taken_back' | 'condemned' | 'cheaper';

export interface Beside {
  /** For requests that may have none of the other replicas. */
  readonly needs?: Needs;
  /** Needed for the load all the same: everybody in line asks alike. */
  readonly counted?: boolean;
  /** The replica that it is to follow: until that one drains, it is beside what the pool wants. */
  readonly replaces?: string;
  /** Why that one is followed. Rows of earlier versions do not say: its pool was described anew. */
  readonly why?: WhyFollowed;
}

export interface OrderRecord {
  readonly id: string;
  readonly pool: string;
  readonly replica: string;
  readonly state: 'open' | 'won' | 'fell';
  readonly reason: string;
  readonly orderedMs: EpochMs;
  readonly closedMs: EpochMs | null;
  readonly markets: readonly {
    readonly name: MarketName;
    readonly ceilingNanoUsdPerBlock: NanoUsd;
    readonly block: number;
    readonly refusal: string | null;
    /** Why it is as high as it is. Rows of earlier versions do not say. */
    readonly why?: string;
  }[];
  readonly bids: readonly (Bid & { readonly market: MarketName })[];
  readonly declined: readonly { readonly market: MarketName; readonly provider: string; readonly reason: string }[];
  readonly choice: {
    readonly bidId: string | null;
    readonly reason: string;
    readonly table: readonly ScoredBid[];
  } | null;
  /** What the operator offered: hardware and the ceiling for an hour. */
  readonly offer: {
    readonly cpu: number;
    readonly memoryBytes: number;
    readonly gpus: number;
    readonly ceilingUsdPerHour: string;
    /** What bears on the price of such a machine, to know prices of the like again. Rows of earlier versions do not say. */
    readonly asks?: string;
    /** It was to cost less than others do: that nobody bid says little. */
    readonly limited?: boolean;
  };
}

export interface DecisionRecord {
  readonly seq: number;
  readonly atMs: EpochMs;
  readonly pool: string | null;
  readonly kind: string;
  readonly reason: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

const DECISIONS_KEPT = 10_000;
const ORDERS_LISTED = 500;
const ORDERS_READ = 3000;
const DAY_MS = 86_400_000;

/** The scheduler's rows. Writes of one row follow one another: `libSQL` has one connection here. */
export class SchedulerRecords {
  readonly #store: Store;
  readonly #kept: number;
  /** Of providers and pools. */
  readonly tracks: TrackRows;
  #seq = 0;
  /** The first one that closes is an occasion too. */
  #closed = PRUNE_EVERY - 1;

  /** @param kept closed replicas whose rows stay */
  constructor(store: Store, kept: number = CLOSED_KEPT) {
    this.#store = store;
    this.#kept = kept;
    this.tracks = new TrackRows(store);
  }

  async open(): Promise<void> {
    const [last] = await this.#store.db.select().from(decisions).orderBy(desc(decisions.seq)).limit(1);
    this.#seq = last?.seq ?? 0;
  }

  async saveReplica(record: ReplicaRecord): Promise<void> {
    const { id, pool, state, leaseId, orderedMs } = record;
    const changed = { state, leaseId, body: record };
    await this.#store.db
      .insert(replicas)
      .values({ id, pool, atMs: orderedMs, ...changed })
      .onConflictDoUpdate({ target: replicas.id, set: changed });
    if (record.closedMs === null) return;
    this.#closed += 1;
    if (this.#closed % PRUNE_EVERY === 0) await pruneReplicas(this.#store, record.closedMs - DAY_MS, this.#kept);
  }

  async openReplicas(): Promise<ReplicaRecord[]> {
    const rows = await this.#store.db.select().from(replicas).where(ne(replicas.state, 'closed'));
    return rows.map(({ body }) => asNow(body as ReplicaRecord & EarlierReplica));
  }

  async listReplicas(limit = ORDERS_LISTED): Promise<ReplicaRecord[]> {
    const rows = await this.#store.db.select().from(replicas).orderBy(desc(replicas.atMs)).limit(limit);
    return rows.map(({ body }) => body as ReplicaRecord);
  }

  /** Replicas that were leased and closed at or after this time: what they cost counts in a day's budget. */
  async closedSince(ms: EpochMs): Promise<ReplicaRecord[]> {
    const late = sql`json_extract(${replicas.body}, '$.closedMs') >= ${BigInt(ms)}`;
    const rows = await this.#store.db
      .select()
      .from(replicas)
      .where(and(eq(replicas.state, 'closed'), late));
    return rows.map(({ body }) => body as ReplicaRecord);
  }

  async findByLease(leaseId: string): Promise<ReplicaRecord | null> {
    return (await this.ofLeases([leaseId]))[0] ?? null;
  }

  /** Those that are remembered of leases, however many. */
  async ofLeases(leases: readonly string[]): Promise<ReplicaRecord[]> {
    const asked = sql`${replicas.leaseId} IN (SELECT value FROM json_each(${JSON.stringify(leases)}))`;
    const rows = await this.#store.db.select().from(replicas).where(asked);
    return rows.map(({ body }) => body as ReplicaRecord);
  }

  async saveOrder(record: OrderRecord): Promise<void> {
    const { id, pool, state, orderedMs } = record;
    const changed = { state, body: record };
    await this.#store.db
      .insert(orders)
      .values({ id, pool, atMs: orderedMs, ...changed })
      .onConflictDoUpdate({ target: orders.id, set: changed });
  }

  async findOrder(id: string): Promise<OrderRecord | null> {
    const [row] = await this.#store.db.select().from(orders).where(eq(orders.id, id)).limit(1);
    return row ? (row.body as OrderRecord) : null;
  }

  async listOrders(limit = ORDERS_LISTED): Promise<OrderRecord[]> {
    const rows = await this.#store.db.select().from(orders).orderBy(desc(orders.atMs)).limit(limit);
    return rows.map(({ body }) => body as OrderRecord);
  }

  /** Orders of that time that are over, the oldest first; of very many the newest. */
  async ordersSince(ms: EpochMs, limit = ORDERS_READ): Promise<OrderRecord[]> {
    const over = and(ne(orders.state, 'open'), gte(orders.atMs, ms));
    const rows = await this.#store.db.select().from(orders).where(over).orderBy(desc(orders.atMs)).limit(limit);
    return rows.map(({ body }) => body as OrderRecord).toReversed();
  }

  async decide(decision: Omit<DecisionRecord, 'seq'>): Promise<void> {
    this.#seq += 1;
    const { atMs, pool, kind, reason, detail } = decision;
    await this.#store.db.insert(decisions).values({ seq: this.#seq, atMs, pool, kind, reason, body: detail });
    if (this.#seq % 500 === 0)
      await this.#store.db.delete(decisions).where(lt(decisions.seq, this.#seq - DECISIONS_KEPT));
  }

  async listDecisions(options: {
    readonly pool?: string | undefined;
    readonly limit: number;
  }): Promise<DecisionRecord[]> {
    const { pool: of, limit } = options;
    const asked = this.#store.db
      .select()
      .from(decisions)
      .where(of === undefined ? undefined : eq(decisions.pool, of));
    const rows = await asked.orderBy(desc(decisions.seq)).limit(limit);
    return rows.map(({ seq, atMs, pool, kind, reason, body }) => {
      return { seq, atMs, pool, kind, reason, detail: body as Record<string, unknown> };
    });
  }

  async savePool(id: string, input: unknown, updatedMs: EpochMs): Promise<void> {
    const changed = { input, updatedMs };
    await this.#store.db
      .insert(pools)
      .values({ id, ...changed })
      .onConflictDoUpdate({ target: pools.id, set: changed });
  }

  async deletePool(id: string): Promise<void> {
    await this.#store.db.delete(pools).where(eq(pools.id, id));
  }

  async listPools(): Promise<{ id: string; input: unknown }[]> {
    return this.#store.db.select({ id: pools.id, input: pools.input }).from(pools);
  }

  async saveSwitch(name: string, body: unknown, atMs: EpochMs): Promise<void> {
    await this.#store.db
      .insert(switches)
      .values({ name, body, atMs })
      .onConflictDoUpdate({ target: switches.name, set: { body, atMs } });
  }

  /** Null: it is off. */
  async findSwitch(name: string): Promise<unknown> {
    const [row] = await this.#store.db.select().from(switches).where(eq(switches.name, name)).limit(1);
    return row?.body ?? null;
  }

  /** Those whose names begin so, with what they hold. */
  async listSwitches(prefix: string): Promise<(readonly [name: string, body: unknown])[]> {
    const rows = await this.#store.db.select().from(switches);
    return rows.flatMap(({ name, body }) => (name.startsWith(prefix) ? [[name, body] as const] : []));
  }

  async deleteSwitch(name: string): Promise<void> {
    await this.#store.db.delete(switches).where(eq(switches.name, name));
  }
}

interface EarlierReplica {
  readonly replaces?: string | null;
}

/** Earlier versions had a field of its own for whom a replica follows because a machine is taken back. */
function asNow({ replaces, ...record }: ReplicaRecord & EarlierReplica): ReplicaRecord {
  return replaces ? { ...record, beside: { ...record.beside, replaces, why: 'taken_back' } } : record;
}
