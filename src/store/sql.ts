/**
 * The small SQL interface that money runs on: synchronous, so that nothing can come between the statements of a
 * transaction. Raw libSQL keeps it on Node, a Durable Object's SQLite can at the edge.
 */
export type SqlValue = bigint | string | Uint8Array | null;
export type SqlRow = Readonly<Record<string, SqlValue>>;

/** What the binding throws is no true Error: it would lose its message on the way out of a thread. */
export class SqlError extends Error {
  override readonly name = 'SqlError';
  /** SQLite's own: SQLITE_BUSY, SQLITE_CONSTRAINT_UNIQUE, … */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export interface Sql {
  /** Statements without parameters or results: schema, PRAGMA. */
  exec(text: string): void;
  /** One statement; returns the number of rows it changed. Integers are bound as bigint only. */
  run(text: string, values?: readonly SqlValue[]): number;
  all(text: string, values?: readonly SqlValue[]): SqlRow[];
  /** All or nothing. Not nested. */
  transaction<T>(work: () => T): T;
  close(): void;
}

export function bigintOf(row: SqlRow | undefined, column: string): bigint {
  const value = row?.[column];
  if (typeof value !== 'bigint') throw new TypeError(`column ${column} holds no integer`);
  return value;
}

export function textOf(row: SqlRow | undefined, column: string): string {
  const value = row?.[column];
  if (typeof value !== 'string') throw new TypeError(`column ${column} holds no text`);
  return value;
}

export function textOrNull(row: SqlRow | undefined, column: string): string | null {
  const value = row?.[column];
  return typeof value === 'string' ? value : null;
}

/** For times and counts, which stay far below 2^53. */
export function numberOf(row: SqlRow | undefined, column: string): number {
  return Number(bigintOf(row, column));
}

export function numberOrNull(row: SqlRow | undefined, column: string): number | null {
  return row?.[column] === null || row?.[column] === undefined ? null : numberOf(row, column);
}
