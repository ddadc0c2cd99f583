import { bigintOf, numberOf, textOf, textOrNull, type Sql, type SqlRow } from '../store/sql.ts';
import type { EpochMs } from '../units.ts';
import type { AdminRole, AuditNote, AuditRecord } from './access.ts';
import { storable } from './chain.ts';
import type { Journal } from './journal.ts';

/** Kept without a disk. */
const RECENT_MAX = 1000;

/** What admins did, append-only. Read from the file: the writer's memory need not hold it. */
export class AuditLog {
  readonly #journal: Journal;
  readonly #sql: Sql | null;
  readonly #recent: AuditRecord[] = [];
  #seq: number;

  constructor(journal: Journal, sql: Sql | null) {
    this.#journal = journal;
    this.#sql = sql;
    const [last] = sql?.all('SELECT COALESCE(MAX(seq), 0) AS seq FROM audit') ?? [];
    this.#seq = last ? numberOf(last, 'seq') : 0;
  }

  add(note: AuditNote, outcome: string, atMs: EpochMs): void {
    this.#seq += 1;
    const { admin, name, role, action, target, detail, request } = note;
    if (!this.#sql) {
      this.#recent.push({ ...note, seq: this.#seq, outcome, atMs });
      if (this.#recent.length > RECENT_MAX) this.#recent.shift();
      return;
    }
    const who = [admin, storable(name), role];
    const what = [action, target === null ? null : storable(target), storable(JSON.stringify(detail))];
    const values = [BigInt(this.#seq), BigInt(atMs), ...who, ...what, request, outcome];
    this.#journal.write('INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', values);
  }

  /** Newest first. */
  list(limit: number, before: number | null): AuditRecord[] {
    const below = before ?? Number.MAX_SAFE_INTEGER;
    if (!this.#sql)
      return this.#recent
        .filter(({ seq }) => seq < below)
        .toReversed()
        .slice(0, limit);
    const query = 'SELECT * FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?';
    return this.#sql.all(query, [BigInt(below), BigInt(limit)]).map(readAudit);
  }
}

function readAudit(row: SqlRow): AuditRecord {
  return {
    seq: Number(bigintOf(row, 'seq')),
    atMs: numberOf(row, 'at_ms'),
    admin: textOf(row, 'admin'),
    name: textOf(row, 'name'),
    role: textOf(row, 'role') as AdminRole,
    action: textOf(row, 'action'),
    target: textOrNull(row, 'target'),
    detail: JSON.parse(textOf(row, 'detail')) as Record<string, unknown>,
    request: textOf(row, 'request'),
    outcome: textOf(row, 'outcome'),
  };
}
