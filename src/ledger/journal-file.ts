import { bigintOf, textOf, type Sql, type SqlValue } from '../store/sql.ts';
import { CHAIN_START, chain, type Link, type Sha256 } from './chain.ts';

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

/** What the thread that has the disk is sent. */
export type ThreadMessage = PackedBatch | 'close';

/** A batch without its ids, which stay with the book, and with each text once: to copy it for each row costs more than the row. */
export interface PackedBatch {
  readonly texts: readonly string[];
  readonly rows: readonly (readonly [text: number, values: readonly SqlValue[], link: Link | null])[];
  readonly seq: bigint;
}

export function packBatch({ rows, seq }: Batch): PackedBatch {
  const numbers = new Map<string, number>();
  const numberOf = (text: string): number => {
    const known = numbers.get(text);
    if (known !== undefined) return known;
    numbers.set(text, numbers.size);
    return numbers.size - 1;
  };
  const packed = rows.map(({ text, values, link }) => [numberOf(text), values, link] as const);
  return { texts: [...numbers.keys()], rows: packed, seq };
}

export function unpackBatch({ texts, rows, seq }: PackedBatch): Pick<Batch, 'rows' | 'seq'> {
  return { rows: rows.map(([text, values, link]) => ({ text: texts[text] ?? '', values, link })), seq };
}

/** Few sizes, since each is a statement of its own that is kept. */
const ROWS_AT_ONCE = [16, 4];
const several = new Map<string, string>();

/** The statement that inserts several rows instead of one; its text ends with the one row's `VALUES (…)`. */
function severalOf(text: string, count: number): string {
  const name = `${count} ${text}`;
  let found = several.get(name);
  if (found === undefined) {
    const row = /\([?, ]+\)$/.exec(text)?.[0];
    if (row === undefined) throw new Error(`no row of values ends: ${text}`);
    found = text + `, ${row}`.repeat(count - 1);
    several.set(name, found);
  }
  return found;
}

const EPOCH = `SELECT value FROM meta WHERE key = 'epoch'`;

/**
 * The disk's side of the journal: writes batches in the order in which they were taken, and continues the chain. It judges
 * nothing: whatever a book has decided is written, or the process must end. Each start raises the file's epoch, and a write
 * of an earlier one is refused within its own transaction: should the folder's lock fail, there is one writer all the same.
 */
export class JournalFile {
  readonly #sql: Sql;
  readonly #digest: Sha256 | undefined;
  readonly #epoch: string;
  #hash: Uint8Array = CHAIN_START;
  #seq = 0n;

  /** @param epoch of the start that writes; left out, that of the last one */
  constructor(sql: Sql, epoch?: number, digest?: Sha256) {
    this.#sql = sql;
    this.#digest = digest;
    this.#epoch = epoch === undefined ? this.#readEpoch() : String(epoch);
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
      if (this.#readEpoch() !== this.#epoch)
        throw new Error('a later gateway writes this ledger: this one is fenced off');
      const linked = new Map<string, SqlValue[][]>();
      for (const { text, values, link } of rows) {
        if (link === null) {
          this.#sql.run(text, values);
          continue;
        }
        hash = chain(hash, link, values, this.#digest);
        const group = linked.get(text);
        if (group) group.push([...values, hash]);
        else linked.set(text, [[...values, hash]]);
      }
      // Each row has its number and its link already, so those of one table may go together.
      for (const [text, group] of linked) this.#insert(text, group);
    });
    this.#hash = hash;
    this.#seq = seq;
  }

  #readEpoch(): string {
    return textOf(this.#sql.all(EPOCH)[0], 'value');
  }

  /** A call into the database costs as much as the row itself: by so many at a time it is a third less. */
  #insert(text: string, rows: readonly SqlValue[][]): void {
    let at = 0;
    for (const count of ROWS_AT_ONCE) {
      for (; at + count <= rows.length; at += count) {
        this.#sql.run(severalOf(text, count), rows.slice(at, at + count).flat());
      }
    }
    for (const row of rows.slice(at)) this.#sql.run(text, row);
  }
}
