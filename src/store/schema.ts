import { customType, index, sqliteTable, text } from 'drizzle-orm/sqlite-core';

/**
 * Tables of the records' file: what the scheduler and the embedded market remember. Money is journaled elsewhere
 * (`ledger-schema.ts`). Integers are bound and read as bigint, because libSQL binds a JS number as a float; these types
 * turn them into what the program uses.
 */
const int = customType<{ data: number; driverData: bigint }>({
  dataType: () => 'integer',
  toDriver: (value) => BigInt(value),
  fromDriver: (value) => Number(value),
});

const money = customType<{ data: bigint; driverData: bigint }>({
  dataType: () => 'integer',
  toDriver: (value) => value,
  fromDriver: (value) => value,
});

/** JSON whose bigints are written as {"$n": "…"}. */
const json = <T>() =>
  customType<{ data: T; driverData: string }>({
    dataType: () => 'text',
    toDriver: (value) => encodeJson(value),
    fromDriver: (value) => decodeJson(value) as T,
  });

export function encodeJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? { $n: item.toString() } : item));
}

export function decodeJson(text: string): unknown {
  return JSON.parse(text, (_key, item: unknown) => {
    if (typeof item === 'object' && item !== null && '$n' in item && typeof item.$n === 'string')
      return BigInt(item.$n);
    return item;
  });
}

/** Pools made over the admin API; those of the configuration file live there. */
export const pools = sqliteTable('pools', {
  id: text('id').primaryKey(),
  input: json<unknown>()('input').notNull(),
  updatedMs: int('updated_ms').notNull(),
});

export const orders = sqliteTable(
  'orders',
  {
    id: text('id').primaryKey(),
    pool: text('pool').notNull(),
    state: text('state').notNull(),
    body: json<unknown>()('body').notNull(),
    atMs: int('at_ms').notNull(),
  },
  (table) => [index('orders_at').on(table.atMs)],
);

export const replicas = sqliteTable(
  'replicas',
  {
    id: text('id').primaryKey(),
    pool: text('pool').notNull(),
    state: text('state').notNull(),
    leaseId: text('lease_id'),
    body: json<unknown>()('body').notNull(),
    atMs: int('at_ms').notNull(),
  },
  (table) => [index('replicas_state').on(table.state), index('replicas_lease').on(table.leaseId)],
);

export const decisions = sqliteTable(
  'decisions',
  {
    seq: int('seq').primaryKey(),
    atMs: int('at_ms').notNull(),
    pool: text('pool'),
    kind: text('kind').notNull(),
    reason: text('reason').notNull(),
    body: json<unknown>()('body').notNull(),
  },
  (table) => [index('decisions_at').on(table.atMs)],
);

/** The embedded market's own books: its leases and its providers' records. */
export const marketLeases = sqliteTable(
  'market_leases',
  {
    id: text('id').primaryKey(),
    orderId: text('order_id').notNull().unique(),
    state: text('state').notNull(),
    depositNanoUsd: money('deposit').notNull(),
    body: json<unknown>()('body').notNull(),
    atMs: int('at_ms').notNull(),
  },
  (table) => [index('market_leases_state').on(table.state)],
);

export const marketProviders = sqliteTable('market_providers', {
  id: text('id').primaryKey(),
  leases: int('leases').notNull(),
  failures: int('failures').notNull(),
  disputes: int('disputes').notNull(),
});

/** Orders on the Akash network, with their transactions, leases and payments. */
export const akashOrders = sqliteTable(
  'akash_orders',
  {
    id: text('id').primaryKey(),
    owner: text('owner').notNull(),
    state: text('state').notNull(),
    body: json<unknown>()('body').notNull(),
    atMs: int('at_ms').notNull(),
  },
  (table) => [index('akash_orders_state').on(table.state)],
);

/** What went out of the Akash treasury lately: the spending limits count these. */
export const akashSpending = sqliteTable(
  'akash_spending',
  {
    seq: int('seq').primaryKey(),
    kind: text('kind').notNull(),
    amount: money('amount').notNull(),
    atMs: int('at_ms').notNull(),
    tx: text('tx'),
  },
  (table) => [index('akash_spending_at').on(table.atMs)],
);

/** ACT that was minted, or is to be; one at a time is open. */
export const akashMints = sqliteTable(
  'akash_mints',
  {
    seq: int('seq').primaryKey(),
    state: text('state').notNull(),
    body: json<unknown>()('body').notNull(),
    atMs: int('at_ms').notNull(),
  },
  (table) => [index('akash_mints_state').on(table.state)],
);

/** What an operator switched on that outlives a restart. */
export const switches = sqliteTable('switches', {
  name: text('name').primaryKey(),
  body: json<unknown>()('body').notNull(),
  atMs: int('at_ms').notNull(),
});

/** `due`: undecided, or its money has not gone where it should; the body says all. */
export const disputes = sqliteTable(
  'disputes',
  {
    id: text('id').primaryKey(),
    market: text('market').notNull(),
    lease: text('lease').notNull(),
    provider: text('provider').notNull(),
    state: text('state').notNull(),
    due: int('due').notNull(),
    body: json<unknown>()('body').notNull(),
    atMs: int('at_ms').notNull(),
  },
  (table) => [index('disputes_due').on(table.market, table.due), index('disputes_lease').on(table.lease)],
);

/** What a breach brought to whom by the pool's published promise: planned before it is granted. */
export const slaRuns = sqliteTable(
  'sla_runs',
  {
    dispute: text('dispute').primaryKey(),
    state: text('state').notNull(),
    body: json<unknown>()('body').notNull(),
    atMs: int('at_ms').notNull(),
  },
  (table) => [index('sla_runs_state').on(table.state)],
);

/** Honest distances of a pool's answers on a GPU and engine: what canaries are held against. */
export const canaryReferences = sqliteTable('canary_references', {
  id: text('id').primaryKey(),
  body: json<unknown>()('body').notNull(),
  atMs: int('at_ms').notNull(),
});

/** Who leads: one row. `epoch` counts those who opened the file to write; each is fenced off by the next (`fence.ts`). */
export const leader = sqliteTable('leader', {
  one: int('one').primaryKey(),
  epoch: int('epoch').notNull(),
  body: json<unknown>()('body').notNull(),
  beatMs: int('beat_ms').notNull(),
});

/** What each provider of a market did, and what each pool has shown of itself: the scheduler learns from both. */
export const providerRecords = sqliteTable(
  'provider_records',
  { id: text('id').primaryKey(), body: json<unknown>()('body').notNull(), atMs: int('at_ms').notNull() },
  (table) => [index('provider_records_at').on(table.atMs)],
);

export const poolRecords = sqliteTable(
  'pool_records',
  { id: text('id').primaryKey(), body: json<unknown>()('body').notNull(), atMs: int('at_ms').notNull() },
  (table) => [index('pool_records_at').on(table.atMs)],
);

export const RECORDS_SCHEMA_VERSION = 7;

/** Step n brings a file from version n to n + 1. */
export const MIGRATIONS: readonly (readonly string[])[] = [
  [
    'CREATE TABLE pools (id TEXT PRIMARY KEY, input TEXT NOT NULL, updated_ms INTEGER NOT NULL) STRICT',
    `CREATE TABLE orders (id TEXT PRIMARY KEY, pool TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL,
       at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX orders_at ON orders (at_ms)',
    `CREATE TABLE replicas (id TEXT PRIMARY KEY, pool TEXT NOT NULL, state TEXT NOT NULL, lease_id TEXT,
       body TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX replicas_state ON replicas (state)',
    'CREATE INDEX replicas_lease ON replicas (lease_id)',
    `CREATE TABLE decisions (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, pool TEXT, kind TEXT NOT NULL,
       reason TEXT NOT NULL, body TEXT NOT NULL) STRICT`,
    'CREATE INDEX decisions_at ON decisions (at_ms)',
    `CREATE TABLE market_leases (id TEXT PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
       deposit INTEGER NOT NULL, body TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX market_leases_state ON market_leases (state)',
    `CREATE TABLE market_providers (id TEXT PRIMARY KEY, leases INTEGER NOT NULL, failures INTEGER NOT NULL,
       disputes INTEGER NOT NULL) STRICT`,
  ],
  [
    `CREATE TABLE akash_orders (id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL,
       at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX akash_orders_state ON akash_orders (state)',
  ],
  [
    `CREATE TABLE akash_spending (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, amount INTEGER NOT NULL,
       at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX akash_spending_at ON akash_spending (at_ms)',
    `CREATE TABLE akash_mints (seq INTEGER PRIMARY KEY, state TEXT NOT NULL, body TEXT NOT NULL,
       at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX akash_mints_state ON akash_mints (state)',
    'CREATE TABLE switches (name TEXT PRIMARY KEY, body TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT',
  ],
  ['ALTER TABLE akash_spending ADD COLUMN tx TEXT'],
  [
    'CREATE TABLE provider_records (id TEXT PRIMARY KEY, body TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT',
    'CREATE INDEX provider_records_at ON provider_records (at_ms)',
    'CREATE TABLE pool_records (id TEXT PRIMARY KEY, body TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT',
    'CREATE INDEX pool_records_at ON pool_records (at_ms)',
  ],
  [
    `CREATE TABLE disputes (id TEXT PRIMARY KEY, market TEXT NOT NULL, lease TEXT NOT NULL, provider TEXT NOT NULL,
       state TEXT NOT NULL, due INTEGER NOT NULL, body TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX disputes_due ON disputes (market, due)',
    'CREATE INDEX disputes_lease ON disputes (lease)',
    `CREATE TABLE sla_runs (dispute TEXT PRIMARY KEY, state TEXT NOT NULL, body TEXT NOT NULL,
       at_ms INTEGER NOT NULL) STRICT`,
    'CREATE INDEX sla_runs_state ON sla_runs (state)',
    'CREATE TABLE canary_references (id TEXT PRIMARY KEY, body TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT',
  ],
  [
    `CREATE TABLE leader (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, body TEXT NOT NULL,
       beat_ms INTEGER NOT NULL) STRICT`,
  ],
];
