import { bigintOf, type Sql, type SqlValue } from '../store/sql.ts';
import { CHAIN_START, chain, type Link } from './chain.ts';

export const LEDGER_FILE = 'ledger.db';

/** One statement of a commit: plain data, because it crosses to the thread that owns the disk. */
export interface Row {
  readonly text: string;
  readonly values: readonly SqlValue[];
  /** For a row of the chain: its hash becomes the row's last value. */
  readonly link: Link | null;
}

/** All that one transaction writes. */
export interface Batch {
  readonly rows: readonly Row[];
  /** Ids of its transfers. */
  readonly ids: readonly string[];
  /** Of its last row, or of the one before it when it adds none. */
  readonly seq: bigint;
}

/** What the thread that has the disk is sent: a batch without its ids, which stay with the book. */
export type ThreadMessage = Pick<Batch, 'rows' | 'seq'> | 'close';

/**
 * The disk's side of the journal: writes batches in the order in which they were taken, and continues the chain. It judges
 * nothing: whatever a book has decided is written, or the process must end.
 */
export class JournalFile {
  readonly #sql: Sql;
  #hash: Uint8Array = CHAIN_START;
  #seq = 0n;

  constructor(sql: Sql) {
    this.#sql = sql;
    const [last] = sql.all(
      `SELECT seq, hash FROM (SELECT seq, hash FROM transfers UNION ALL SELECT seq, hash FROM usage) ORDER BY seq DESC LIMIT 1`,
    );
    if (!last) return;
    this.#seq = bigintOf(last, 'seq');
    this.#hash = last['hash'] as Uint8Array;
  }

  /** Of the last row written. */
  get seq(): bigint {
    return this.#seq;
  }

  /** One transaction. A failure is fatal: memory has moved on and must be read anew. */
  write({ rows, seq }: Pick<Batch, 'rows' | 'seq'>): void {
    let hash = this.#hash;
    this.#sql.transaction(() => {
      for (const { text, values, link } of rows) {
        if (link === null) {
          this.#sql.run(text, values);
          continue;
        }
        hash = chain(hash, link, values);
        this.#sql.run(text, [...values, hash]);
      }
    });
    this.#hash = hash;
    this.#seq = seq;
  }
}
