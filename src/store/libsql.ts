import { existsSync } from 'node:fs';
import Database from 'libsql';
import { SqlError, type Sql, type SqlRow, type SqlValue } from './sql.ts';

export interface OpenSqlOptions {
  /** The file must exist, and every write is refused. */
  readonly readonly?: boolean;
  /** How long another process's lock is waited for. The ledger has one writer, so its own value is short. */
  readonly busyMs?: number;
}

/**
 * Raw libSQL behind `Sql`. Written around the client's data-loss traps (tursodatabase/libsql-client-ts#352): a write that
 * met SQLITE_BUSY stays open until it is collected and keeps every later COMMIT from taking effect, so only BEGIN may meet
 * it, BEGIN and COMMIT go through `exec`, which leaves nothing open, and statements are prepared once and kept. `run()` is
 * never used with RETURNING (libsql-js#238: it would leave the write uncommitted).
 */
export function openSql(path: string, options: OpenSqlOptions = {}): Sql {
  const readonly = options.readonly ?? false;
  if (readonly && !existsSync(path)) throw new Error(`there is no file ${path}`);
  const database = attempt(() => new Database(path, { timeout: options.busyMs ?? 2000 }));
  database.defaultSafeIntegers(true);
  // The binding ignores its own `readonly` option.
  const exec = (text: string): void => attempt(() => void database.exec(text));
  if (readonly) exec('PRAGMA query_only = ON');
  else exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON');
  const statements = new Map<string, Database.Statement>();
  const prepare = (text: string): Database.Statement => {
    let statement = statements.get(text);
    if (!statement) {
      statement = database.prepare(text);
      statements.set(text, statement);
    }
    return statement;
  };
  const run = (text: string, values: readonly SqlValue[]): number => attempt(() => prepare(text).run(values).changes);
  let inside = false;
  const transaction = <T>(work: () => T): T => {
    exec('BEGIN IMMEDIATE');
    inside = true;
    try {
      const result = work();
      exec('COMMIT');
      return result;
    } catch (error) {
      rollback(database);
      throw error;
    } finally {
      inside = false;
    }
  };
  return {
    exec,
    // Outside a transaction the statement itself could meet SQLITE_BUSY.
    run: (text, values = []) =>
      inside || database.inTransaction ? run(text, values) : transaction(() => run(text, values)),
    all: (text, values = []) =>
      attempt(() => prepare(text).all(values) as Record<string, SqlValue | ArrayBuffer>[]).map(readable),
    transaction,
    close: () => {
      // The binding has no finalize: the file is really closed when the statements are collected, or with the thread.
      statements.clear();
      database.close();
    },
  };
}

function attempt<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Database.SqliteError) throw new SqlError(error.code, error.message);
    throw error;
  }
}

/** The binding gives a blob back as an ArrayBuffer. */
function readable(row: Record<string, SqlValue | ArrayBuffer>): SqlRow {
  for (const [column, value] of Object.entries(row)) {
    if (value instanceof ArrayBuffer) row[column] = new Uint8Array(value);
  }
  return row as SqlRow;
}

function rollback(database: Database.Database): void {
  try {
    database.exec('ROLLBACK');
  } catch {
    // The first error is the one that tells; a failed ROLLBACK means that SQLite has rolled back by itself.
  }
}
