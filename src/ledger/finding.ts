import type { Sql, SqlRow } from '../store/sql.ts';

/** What one check of the books found: the first row that is wrong, or what it saw. */
export interface Finding {
  readonly problem: string | null;
  readonly detail: string;
}

export interface Check {
  readonly name: string;
  readonly find: (sql: Sql) => Finding;
}

export function first(rows: readonly SqlRow[], tell: (row: SqlRow) => string, detail: string): Finding {
  const [row] = rows;
  return { problem: row ? tell(row) : null, detail };
}
