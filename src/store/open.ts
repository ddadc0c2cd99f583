import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createClient, type Client } from '@libsql/client';
import { drizzle, type LibSQLDatabase } from 'drizzle-orm/libsql';
import { AppError } from '../errors.ts';
import { raiseFence } from './fence.ts';
import { MIGRATIONS, RECORDS_SCHEMA_VERSION } from './schema.ts';

export interface Store {
  readonly db: LibSQLDatabase;
  /** Of this opening: larger than that of any before it. */
  readonly epoch: number;
  close(): void;
}

/**
 * The records' file, over drizzle and `@libsql/client`. One connection (`concurrency: 1`), because PRAGMAs belong to a
 * connection and a pool would lose them; no interactive transactions, which with one connection turn every other call
 * away: what belongs together goes into one row or one `batch`. The process holds the data folder's lock, so nobody else
 * writes and SQLITE_BUSY cannot arise; should the lock fail, whoever opened the file last has it, and the one before is
 * refused every write.
 */
export async function openStore(path: string): Promise<Store> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const client = createClient({ url: pathToFileURL(path).href, intMode: 'bigint', concurrency: 1, timeout: 2000 });
  await client.execute('PRAGMA journal_mode = WAL');
  await client.execute('PRAGMA synchronous = FULL');
  await migrate(client);
  const epoch = await raiseFence(client);
  return { db: drizzle(client), epoch, close: () => client.close() };
}

async function migrate(client: Client): Promise<void> {
  const { rows } = await client.execute('PRAGMA user_version');
  const version = Number(rows[0]?.[0] ?? 0);
  if (version > RECORDS_SCHEMA_VERSION) {
    throw new AppError('invalid_config', `the records' file is of a newer version (${version}) of underbid`);
  }
  for (const [step, statements] of MIGRATIONS.entries()) {
    if (step < version) continue;
    await client.batch([...statements, `PRAGMA user_version = ${step + 1}`], 'write');
  }
}
