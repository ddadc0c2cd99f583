import { sql } from 'drizzle-orm';
import type { Store } from './open.ts';

/** Rows of each table that stay after they are closed: far more than any list shows. What is open is never counted. */
export const CLOSED_KEPT = 10_000;
/** Closed rows between two prunings. */
export const PRUNE_EVERY = 100;

/** Deletes the oldest closed rows of a table beyond the newest `keep`. Money is not in them: the ledger has it for good. */
export async function pruneClosed(
  store: Store,
  table: 'market_leases' | 'akash_orders',
  keep: number = CLOSED_KEPT,
): Promise<void> {
  const name = sql.identifier(table);
  await store.db.run(
    sql`DELETE FROM ${name} WHERE state = 'closed' AND at_ms <
      (SELECT at_ms FROM ${name} WHERE state = 'closed' ORDER BY at_ms DESC LIMIT 1 OFFSET ${BigInt(keep)} - 1)`,
  );
}

/**
 * The same for replicas, each with its order. Those that closed at or after `sinceMs` stay whatever their number: what they
 * cost and who failed is asked of them.
 */
export async function pruneReplicas(store: Store, sinceMs: number, keep: number = CLOSED_KEPT): Promise<void> {
  const old = sql`state = 'closed' AND json_extract(body, '$.closedMs') < ${BigInt(sinceMs)} AND at_ms <
    (SELECT at_ms FROM replicas WHERE state = 'closed' ORDER BY at_ms DESC LIMIT 1 OFFSET ${BigInt(keep)} - 1)`;
  await store.db.run(
    sql`DELETE FROM orders WHERE state <> 'open' AND id IN (SELECT json_extract(body, '$.orderId') FROM replicas WHERE ${old})`,
  );
  await store.db.run(sql`DELETE FROM replicas WHERE ${old}`);
}

/** Disputes that are over, with what they brought to accounts, beyond the newest `keep`. */
export async function pruneDisputes(store: Store, keep: number): Promise<void> {
  const old = sql`due = 0 AND at_ms <
    (SELECT at_ms FROM disputes WHERE due = 0 ORDER BY at_ms DESC LIMIT 1 OFFSET ${BigInt(keep)} - 1)`;
  await store.db.run(
    sql`DELETE FROM sla_runs WHERE state <> 'planned' AND dispute IN (SELECT id FROM disputes WHERE ${old})`,
  );
  await store.db.run(sql`DELETE FROM disputes WHERE ${old}`);
}

/** Deletes what is beyond the newest `keep` rows of a table. */
export async function pruneOldest(
  store: Store,
  table: 'provider_records' | 'pool_records' | 'canary_references',
  keep: number,
): Promise<void> {
  const name = sql.identifier(table);
  await store.db.run(
    sql`DELETE FROM ${name} WHERE at_ms < (SELECT at_ms FROM ${name} ORDER BY at_ms DESC LIMIT 1 OFFSET ${BigInt(keep)} - 1)`,
  );
}

/** Honest distances whose ids begin and end so, those of one pool's descriptions, beyond the newest `keep`. */
export async function pruneReferences(
  store: Store,
  { begin, end }: { readonly begin: string; readonly end: string },
  keep: number,
): Promise<void> {
  await store.db.run(
    sql`DELETE FROM canary_references WHERE id IN (SELECT id FROM canary_references
      WHERE substr(id, 1, length(${begin})) = ${begin} AND substr(id, -length(${end})) = ${end}
      ORDER BY at_ms DESC, rowid DESC LIMIT -1 OFFSET ${BigInt(keep)})`,
  );
}
