import { describeError } from '../errors.ts';
import { LEDGER_STEPS } from '../store/ledger-schema.ts';
import { bigintOf, textOf, textOrNull, type Sql, type SqlRow, type SqlValue } from '../store/sql.ts';
import { minBig, nanoFromPicoUp } from '../units.ts';
import { CHAIN_START, TRANSFER_COLUMNS, USAGE_COLUMNS, chain } from './chain.ts';
import { ACCESS_CHECKS } from './check-access.ts';
import { first, type Check, type Finding } from './finding.ts';
import { readLegs } from './hold-rows.ts';
import type { CheckReport } from './operations.ts';

/**
 * Every invariant of the ledger, on the file itself and without the writer's memory: each names the first row that
 * breaks it. Reads one snapshot; run it on a read-only connection beside the writer.
 */
export function checkLedger(sql: Sql): CheckReport {
  sql.exec('BEGIN');
  try {
    const checks = CHECKS.map(({ name, find }) => {
      const { problem, detail } = attempt(() => find(sql));
      return { name, ok: problem === null, detail: problem ?? detail };
    });
    return { ok: checks.every((check) => check.ok), checks };
  } finally {
    sql.exec('COMMIT');
  }
}

/** What cannot even be read is broken too; the other checks go on. */
function attempt(find: () => Finding): Finding {
  try {
    return find();
  } catch (error) {
    return { problem: `unreadable: ${describeError(error)}`, detail: '' };
  }
}

const CHECKS: readonly Check[] = [
  { name: 'I1 transfers balance per asset', find: transfersBalance },
  { name: 'I2 balances are the sums of their entries', find: balancesAreSums },
  { name: 'I2 held is the sum of pending holds', find: heldIsSum },
  { name: 'I3 no bounded account is below zero', find: nothingBelowZero },
  { name: 'I4 a hold is settled once', find: holdsSettledOnce },
  { name: 'I5 captures equal the charge and stay within the hold', find: capturesMatch },
  { name: 'I5 wake fees were offered, held and taken once', find: wakeFeesMatch },
  { name: 'I6 the journal is append-only', find: triggersStand },
  { name: 'I7 an Idempotency-Key has one request', find: replaysHaveUsage },
  { name: 'I10 charges are the priced tokens', find: chargesArePriced },
  { name: 'I11 the hash chain is whole', find: chainIsWhole },
  ...ACCESS_CHECKS,
];

function transfersBalance(sql: Sql): Finding {
  const rows = sql.all(
    `SELECT t.seq FROM transfers t LEFT JOIN accounts d ON d.no = t.debit LEFT JOIN accounts c ON c.no = t.credit
     WHERE d.asset IS NULL OR c.asset IS NULL OR d.asset <> c.asset OR t.amount <= 0 ORDER BY t.seq LIMIT 1`,
  );
  return first(rows, (row) => `transfer ${bigintOf(row, 'seq')} is not between two accounts of one asset`, 'all do');
}

function balancesAreSums(sql: Sql): Finding {
  const sums = new Map<bigint, bigint>();
  const add = (no: bigint, amount: bigint): void => void sums.set(no, (sums.get(no) ?? 0n) + amount);
  for (const row of sql.all('SELECT debit, credit, SUM(amount) AS amount FROM transfers GROUP BY debit, credit')) {
    add(bigintOf(row, 'debit'), bigintOf(row, 'amount'));
    add(bigintOf(row, 'credit'), -bigintOf(row, 'amount'));
  }
  const accounts = sql.all('SELECT * FROM accounts ORDER BY no');
  for (const row of accounts) {
    const debits = sums.get(bigintOf(row, 'no')) ?? 0n;
    const kind = textOf(row, 'kind');
    const expected = kind === 'asset' || kind === 'expense' ? debits : -debits;
    const posted = bigintOf(row, 'posted');
    if (posted !== expected) {
      const problem = `account ${textOf(row, 'name')} has ${posted} posted, its entries sum to ${expected}`;
      return { problem, detail: '' };
    }
  }
  return { problem: null, detail: `${accounts.length} accounts` };
}

function heldIsSum(sql: Sql): Finding {
  const sums = new Map<string, bigint>();
  for (const row of sql.all(`SELECT request, amount, legs FROM holds WHERE state = 'pending'`)) {
    let whole = 0n;
    for (const { name, amount } of readLegs(textOf(row, 'legs'))) {
      whole += amount;
      sums.set(name, (sums.get(name) ?? 0n) + amount);
    }
    if (whole !== bigintOf(row, 'amount'))
      return { problem: `the legs of hold ${textOf(row, 'request')} do not add up`, detail: '' };
  }
  const accounts = sql.all('SELECT name, held FROM accounts ORDER BY no');
  const wrong = accounts.filter((row) => bigintOf(row, 'held') !== (sums.get(textOf(row, 'name')) ?? 0n));
  return first(
    wrong,
    (row) => `account ${textOf(row, 'name')} holds ${bigintOf(row, 'held')}, its pending holds do not`,
    `${sums.size} accounts with holds`,
  );
}

function nothingBelowZero(sql: Sql): Finding {
  const rows = sql.all(
    'SELECT name FROM accounts WHERE held < 0 OR (bounded = 1 AND posted - held < 0) ORDER BY no LIMIT 1',
  );
  return first(rows, (row) => `account ${textOf(row, 'name')} is below zero`, 'none is');
}

function holdsSettledOnce(sql: Sql): Finding {
  const rows = sql.all(
    `SELECT h.request, h.state FROM holds h LEFT JOIN usage u ON u.request = h.request
     WHERE (h.state = 'settled') <> (u.request IS NOT NULL) ORDER BY h.at_ms LIMIT 1`,
  );
  return first(
    rows,
    (row) => `hold ${textOf(row, 'request')} is ${textOf(row, 'state')}, its usage row says otherwise`,
    'all are',
  );
}

function capturesMatch(sql: Sql): Finding {
  const rows = sql.all(
    `SELECT u.request FROM usage u LEFT JOIN
       (SELECT request, SUM(amount) AS amount FROM transfers WHERE type = 'capture' GROUP BY request) c
       ON c.request = u.request
     WHERE COALESCE(c.amount, 0) <> u.charged OR u.charged > u.held
     UNION ALL
     SELECT t.request FROM transfers t LEFT JOIN usage u ON u.request = t.request
     WHERE t.type = 'capture' AND u.request IS NULL LIMIT 1`,
  );
  return first(
    rows,
    (row) => `the captures of request ${textOrNull(row, 'request')} do not match its usage row`,
    'all match',
  );
}

function wakeFeesMatch(sql: Sql): Finding {
  const rows = sql.all(
    `SELECT u.request FROM usage u LEFT JOIN
       (SELECT request, SUM(amount) AS amount FROM transfers WHERE type = 'wake_fee' GROUP BY request) f
       ON f.request = u.request
     WHERE COALESCE(f.amount, 0) <> COALESCE(u.wake_fee, 0) OR COALESCE(u.wake_fee, 0) > COALESCE(u.wake_held, 0)
     UNION ALL
     SELECT t.request FROM transfers t LEFT JOIN usage u ON u.request = t.request
     WHERE t.type = 'wake_fee' AND u.request IS NULL
     UNION ALL
     SELECT h.request FROM holds h LEFT JOIN usage u ON u.request = h.request
     WHERE h.wake_held > h.amount OR (u.request IS NOT NULL AND h.wake_held IS NOT u.wake_held) LIMIT 1`,
  );
  return first(
    rows,
    (row) => `the wake fee of request ${textOrNull(row, 'request')} is not what it offered`,
    'all match',
  );
}

function replaysHaveUsage(sql: Sql): Finding {
  const rows = sql.all(
    `SELECT r.request, r.state FROM replays r LEFT JOIN usage u ON u.request = r.request
     LEFT JOIN holds h ON h.request = r.request AND h.state = 'pending'
     WHERE (r.state = 'completed' AND u.request IS NULL) OR (r.state = 'in_flight' AND h.request IS NULL)
     ORDER BY r.expires_ms LIMIT 1`,
  );
  return first(
    rows,
    (row) =>
      `the Idempotency-Key of request ${textOf(row, 'request')} is ${textOf(row, 'state')}, but ` +
      (row['state'] === 'completed' ? 'there is no usage row' : 'nothing is held'),
    'each has its charge or its hold',
  );
}

/** What the schema says of each trigger: one of the same name that does nothing is as bad as none. */
const TRIGGERS = new Map(
  [...LEDGER_STEPS.join('\n').matchAll(/CREATE TRIGGER (\w+)[\s\S]*?END(?=;)/g)].map(([text, name]) => [
    name ?? '',
    text,
  ]),
);

function triggersStand(sql: Sql): Finding {
  const rows = sql.all(`SELECT name, sql FROM sqlite_master WHERE type = 'trigger'`);
  const found = new Map(rows.map((row) => [textOf(row, 'name'), textOf(row, 'sql')]));
  const [broken] = [...TRIGGERS].filter(([name, text]) => found.get(name) !== text);
  const what = broken && (found.has(broken[0]) ? 'another one' : 'gone');
  return { problem: broken ? `the trigger ${broken[0]} is ${what}` : null, detail: `${TRIGGERS.size} triggers` };
}

/** Rows in memory at once: the journal may be larger than that. */
const PAGE = 5_000n;

/** All rows of a query that reads `PAGE` rows from a `seq` on (its two parameters), in their order. */
function* paged(sql: Sql, query: string): Generator<SqlRow> {
  for (let next: bigint | null = -(2n ** 63n); next !== null;) {
    const rows = sql.all(query, [next, PAGE]);
    yield* rows;
    next = BigInt(rows.length) === PAGE ? bigintOf(rows.at(-1), 'seq') + 1n : null;
  }
}

function chargesArePriced(sql: Sql): Finding {
  const query = `SELECT u.seq, u.request, u.input_tokens, u.cached_tokens, u.output_tokens, u.cost_pico, u.held, u.charged,
      p.input_pico, p.cached_input_pico, p.output_pico
    FROM usage u LEFT JOIN price_versions p ON p.version = u.price_version AND p.model = u.model
    WHERE u.seq >= ? ORDER BY u.seq LIMIT ?`;
  let count = 0;
  for (const row of paged(sql, query)) {
    count += 1;
    if (isPriced(row)) continue;
    return { problem: `the charge of request ${textOf(row, 'request')} is not its priced tokens`, detail: '' };
  }
  return { problem: null, detail: `${count} usage rows` };
}

function isPriced(row: SqlRow): boolean {
  if (row['input_pico'] === null) return false;
  const uncached = bigintOf(row, 'input_tokens') - bigintOf(row, 'cached_tokens');
  const cost =
    uncached * bigintOf(row, 'input_pico') +
    bigintOf(row, 'cached_tokens') * bigintOf(row, 'cached_input_pico') +
    bigintOf(row, 'output_tokens') * bigintOf(row, 'output_pico');
  const charge = minBig(nanoFromPicoUp(cost), bigintOf(row, 'held'));
  return cost === bigintOf(row, 'cost_pico') && charge === bigintOf(row, 'charged');
}

function chainIsWhole(sql: Sql): Finding {
  const transfers = paged(
    sql,
    `SELECT t.*, d.name AS debit_name, c.name AS credit_name FROM transfers t
     JOIN accounts d ON d.no = t.debit JOIN accounts c ON c.no = t.credit WHERE t.seq >= ? ORDER BY t.seq LIMIT ?`,
  );
  const usage = paged(sql, 'SELECT * FROM usage WHERE seq >= ? ORDER BY seq LIMIT ?');
  let previous: Uint8Array = CHAIN_START;
  let seq = 0n;
  let [transfer, used] = [transfers.next(), usage.next()];
  while (!transfer.done || !used.done) {
    seq += 1n;
    let hash: Uint8Array;
    let stored: SqlValue | undefined;
    if (!transfer.done && bigintOf(transfer.value, 'seq') === seq) {
      const names = [textOf(transfer.value, 'debit_name'), textOf(transfer.value, 'credit_name')] as const;
      hash = chain(previous, names, valuesOf(transfer.value, TRANSFER_COLUMNS));
      stored = transfer.value['hash'];
      transfer = transfers.next();
    } else if (!used.done && bigintOf(used.value, 'seq') === seq) {
      hash = chain(previous, 'usage', valuesOf(used.value, USAGE_COLUMNS));
      stored = used.value['hash'];
      used = usage.next();
    } else return { problem: `row ${seq} of the journal is missing`, detail: '' };
    const same = stored instanceof Uint8Array && stored.length === 32 && hash.every((byte, at) => stored[at] === byte);
    if (!same) return { problem: `row ${seq} of the journal does not fit its hash`, detail: '' };
    previous = hash;
  }
  const end = [...previous.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return { problem: null, detail: `${seq} rows, ends in ${end}` };
}

function valuesOf(row: SqlRow, columns: readonly string[]): SqlValue[] {
  return columns.map((column) => row[column] ?? null);
}
