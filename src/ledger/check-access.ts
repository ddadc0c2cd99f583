import { bigintOf, numberOf, textOf, textOrNull, type Sql } from '../store/sql.ts';
import { formatUsd } from '../units.ts';
import { suspense } from './accounts.ts';
import { parseKeySettings } from './api-keys.ts';
import { first, type Check, type Finding } from './finding.ts';
import { windowOf } from './spend.ts';

/** Checks on who was let in and what came in: deposits, limits, rotations, the audit log. */
export const ACCESS_CHECKS: readonly Check[] = [
  { name: 'I8 a deposit is credited once', find: depositsOnce },
  { name: 'I12 no key has spent more than its limit', find: limitsKept },
  { name: 'I13 a rotated key leads to its successor', find: rotationsWhole },
  { name: 'I14 the audit log has no gaps', find: auditWhole },
];

interface Deposit {
  readonly amount: bigint;
  readonly credit: string;
  assigned: boolean;
}

function depositsOnce(sql: Sql): Finding {
  const deposits = new Map<string, Deposit>();
  const rows = sql.all(
    `SELECT t.seq, t.id, t.type, t.amount, d.name AS debit, c.name AS credit FROM transfers t
     LEFT JOIN accounts d ON d.no = t.debit LEFT JOIN accounts c ON c.no = t.credit
     WHERE t.type IN ('deposit', 'deposit_assign') ORDER BY t.seq`,
  );
  const wrong = (problem: string): Finding => ({ problem, detail: '' });
  for (const row of rows) {
    const [type, id, amount] = [textOf(row, 'type'), textOrNull(row, 'id') ?? '', bigintOf(row, 'amount')];
    const prefix = type === 'deposit' ? 'deposit:' : 'assign:';
    const reference = id.slice(prefix.length);
    if (!id.startsWith(prefix) || reference === '')
      return wrong(`transfer ${bigintOf(row, 'seq')} is a deposit without its reference`);
    const known = deposits.get(reference);
    if (type === 'deposit') {
      if (known) return wrong(`the deposit ${reference} is credited twice`);
      deposits.set(reference, { amount, credit: textOf(row, 'credit'), assigned: false });
      continue;
    }
    if (known?.credit !== suspense().name || textOf(row, 'debit') !== suspense().name)
      return wrong(`the deposit ${reference} is assigned, though it was not in suspense`);
    if (known.assigned) return wrong(`the deposit ${reference} is assigned twice`);
    if (known.amount !== amount) return wrong(`the deposit ${reference} is assigned with another amount`);
    known.assigned = true;
  }
  const waiting = [...deposits.values()].filter(({ credit, assigned }) => credit === suspense().name && !assigned);
  return { problem: null, detail: `${deposits.size} deposits, ${waiting.length} in suspense` };
}

const DAY_MS = 86_400_000;

/** Every window that ever was, not only the one of now: each is made of whole days. */
function limitsKept(sql: Sql): Finding {
  const keys = new Map(
    sql.all('SELECT id, root, settings FROM api_keys').map((row) => {
      const id = textOf(row, 'id');
      const { spendLimit, limitReset } = parseKeySettings(textOf(row, 'settings'));
      return [id, { root: textOrNull(row, 'root') ?? id, limit: spendLimit, reset: limitReset }];
    }),
  );
  const spent = new Map<string, bigint>();
  const days = `SELECT key, COALESCE(held_ms, at_ms) / ${DAY_MS} AS day, SUM(charged + COALESCE(wake_fee, 0)) AS charged FROM usage
    WHERE key IS NOT NULL GROUP BY key, day ORDER BY key, day`;
  for (const row of sql.all(days)) {
    const key = keys.get(textOf(row, 'key'));
    if (!key || key.limit === null) continue;
    const { startMs } = windowOf(key.reset, numberOf(row, 'day') * DAY_MS);
    const window = `${key.root} ${startMs}`;
    const sum = (spent.get(window) ?? 0n) + bigintOf(row, 'charged');
    spent.set(window, sum);
    if (sum <= key.limit) continue;
    const since = Number.isFinite(startMs) ? ` from ${new Date(startMs).toISOString().slice(0, 10)}` : '';
    const problem = `key ${key.root} spent ${formatUsd(sum)} USD${since}, its limit is ${formatUsd(key.limit)} USD`;
    return { problem, detail: '' };
  }
  const limited = [...keys.values()].filter(({ limit }) => limit !== null).length;
  return { problem: null, detail: `${limited} keys with a limit, ${spent.size} windows` };
}

function rotationsWhole(sql: Sql): Finding {
  const rows = sql.all(
    `SELECT k.id FROM api_keys k LEFT JOIN api_keys r ON r.id = COALESCE(k.root, k.id)
       LEFT JOIN api_keys s ON s.id = k.replaced_by
     WHERE r.customer IS NOT k.customer OR (k.replaced_by IS NULL) <> (k.ends_ms IS NULL)
       OR (k.replaced_by IS NOT NULL AND (s.customer IS NOT k.customer OR s.root IS NOT COALESCE(k.root, k.id)))
     ORDER BY k.rowid LIMIT 1`,
  );
  return first(rows, (row) => `key ${textOf(row, 'id')} does not belong to its chain of rotations`, 'all do');
}

function auditWhole(sql: Sql): Finding {
  const [found] = sql.all('SELECT COUNT(*) AS count, COALESCE(MAX(seq), 0) AS last FROM audit');
  const count = bigintOf(found, 'count');
  if (count === bigintOf(found, 'last')) return { problem: null, detail: `${count} rows` };
  const rows = sql.all(
    'SELECT a.seq FROM audit a WHERE a.seq > 1 AND NOT EXISTS (SELECT 1 FROM audit b WHERE b.seq = a.seq - 1) ORDER BY a.seq LIMIT 1',
  );
  return first(rows, (row) => `row ${bigintOf(row, 'seq') - 1n} of the audit log is missing`, '');
}
