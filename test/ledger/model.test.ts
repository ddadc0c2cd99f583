import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { cash, customerPaid, escrow, operatorEquity, treasury } from '../../src/ledger/accounts.ts';
import { checkLedger } from '../../src/ledger/check.ts';
import type { TransferOp } from '../../src/ledger/operations.ts';
import {
  customer,
  grant,
  hold,
  key,
  openBook,
  price,
  settle,
  tempFolder,
  tokens,
  transfer,
  type OpenBook,
} from './fixtures/books.ts';
import { Model } from './fixtures/model.ts';

/** Random histories of a book, crashes included, beside a reference model: any difference is a bug in one of them. */

const RUNS = 200;
const CUSTOMERS = ['ann', 'bob'] as const;
const KEYS = { 'k-ann': 60n, 'k-bob': 25n } as const;

test('a book does what its model does, through crashes too, and its file passes the check', async (t) => {
  const folder = tempFolder(t);
  let count = 0;
  await fc.assert(
    fc.asyncProperty(fc.commands(COMMANDS, { maxCommands: 80, size: 'max' }), async (commands) => {
      count += 1;
      const real = new Real(join(folder, `${count}.db`));
      try {
        fc.modelRun(() => ({ model: newModel(), real }), commands);
        finish(real);
      } finally {
        real.close();
        // The binding closes its files only when it is collected, which needs a turn of the event loop.
        await setImmediate();
      }
    }),
    { numRuns: RUNS },
  );
});

/** The book under test; `crash` reads the file anew without closing, as a killed process would have left it. */
class Real {
  readonly #path: string;
  readonly #opened: OpenBook[] = [];
  #current: OpenBook;

  constructor(path: string) {
    this.#path = path;
    this.#current = this.#open(0);
    for (const id of CUSTOMERS) this.#current.do(customer(id));
    for (const id of CUSTOMERS) this.#current.do(key(`k-${id}`, KEYS[`k-${id}`], id));
    this.#current.do(price());
    this.#current.book.commit();
  }

  get current(): OpenBook {
    return this.#current;
  }

  crash(nowMs: number): void {
    this.#current = this.#open(nowMs);
  }

  close(): void {
    for (const { sql } of this.#opened) sql.close();
  }

  #open(nowMs: number): OpenBook {
    const one = openBook(this.#path, nowMs);
    // The process lives on in this test: what it wrote is there without waiting for the disk.
    one.sql.exec('PRAGMA synchronous = OFF');
    this.#opened.push(one);
    return one;
  }
}

const newModel = (): Model => new Model(CUSTOMERS, new Map(Object.entries(KEYS)));

/** One step of a history: does the same to both, then compares all there is to see. */
class Step implements fc.Command<Model, Real> {
  readonly #text: string;
  readonly #act: (model: Model, real: Real) => void;

  constructor(text: string, act: (model: Model, real: Real) => void) {
    this.#text = text;
    this.#act = act;
  }

  check(): boolean {
    return true;
  }

  run(model: Model, real: Real): void {
    this.#act(model, real);
    compare(model, real.current);
  }

  toString(): string {
    return this.#text;
  }
}

function compare(model: Model, { book, do: apply }: OpenBook): void {
  for (const id of CUSTOMERS) assert.deepEqual(apply({ op: 'balance', customer: id }), model.balance(id));
  for (const { name, posted } of model.lots) {
    const account = apply({ op: 'account', name });
    const held = model.heldOf(name);
    assert.deepEqual([name, account?.posted, account?.held], [name, posted, held]);
    assert.ok(posted - held >= 0n, `${name} is below zero`);
  }
  for (const [name, posted] of model.house) {
    assert.deepEqual([name, apply({ op: 'account', name })?.posted ?? 0n], [name, posted]);
  }
  assert.equal(book.pendingHolds, model.requests.length);
}

function assertWhole({ sql }: OpenBook): void {
  const report = checkLedger(sql);
  assert.ok(report.ok, JSON.stringify(report.checks.filter(({ ok }) => !ok)));
}

/** Whatever happened: the file is whole, a restart leaves nothing held, another one changes nothing. */
function finish(real: Real): void {
  real.current.book.commit();
  assertWhole(real.current);
  const seen = [1e6, 2e6].map((now) => {
    real.crash(now);
    assertWhole(real.current);
    const { sql, book } = real.current;
    return { seq: book.seq, accounts: sql.all('SELECT name, posted, held FROM accounts ORDER BY no') };
  });
  assert.deepEqual(seen[1], seen[0]);
  assert.ok(seen[0]?.accounts.every(({ held }) => held === 0n));
}

const owner = fc.constantFrom(...CUSTOMERS);
const amount = fc.bigInt({ min: 0n, max: 40n });
const pick = fc.nat(20);
const counts = fc
  .tuple(fc.nat(12), fc.nat(12), fc.nat(12))
  .map(([input, output, cached]) => tokens(input, output, Math.min(cached, input)));

/** A request in flight, or one that is not there. */
const requestAt = (model: Model, at: number): string => model.requests[at % (model.requests.length + 1)] ?? 'nobody';

const grants = fc
  .record({ id: fc.nat(9), owner, kind: fc.constantFrom('paid' as const, 'promo' as const), amount, lifeMs: fc.nat(9) })
  .map(({ id, owner: to, kind, amount: by, lifeMs }) => {
    return new Step(`grant g${id} ${to} ${kind} ${by + 1n} life ${lifeMs}`, (model, { current }) => {
      const expiresMs = lifeMs === 9 ? null : model.nowMs - 500 + lifeMs * 500;
      const more = { customer: to, kind, expiresMs, atMs: model.nowMs };
      const operation = grant(`g${id}`, by + 1n, more);
      assert.deepEqual(current.do(operation), model.grant(operation));
    });
  });

/** Of the amount, what is for a wake. */
const wake = fc.option(fc.bigInt({ min: 0n, max: 20n }), { nil: 0n });

const holds = fc.record({ owner, keyed: fc.boolean(), amount, wake, lifeMs: fc.nat(9), twice: fc.nat(9) }).map((of) => {
  return new Step(
    `hold ${of.owner} ${of.keyed ? 'by key' : ''} ${of.amount} and ${of.wake} for a wake, life ${of.lifeMs}`,
    (model, { current }) => {
      const known = of.twice === 0 ? model.requests[0] : undefined;
      if (known === undefined) model.nextRequest += 1;
      const times = { atMs: model.nowMs, deadlineMs: model.nowMs + 500 + of.lifeMs * 700 };
      const by = { customer: of.owner, key: of.keyed ? `k-${of.owner}` : null, ...times };
      const wakeFee = of.wake > 0n ? { wakeFee: of.wake } : {};
      const operation = hold(known ?? `r${model.nextRequest}`, of.amount + of.wake, { ...by, ...wakeFee });
      assert.deepEqual(current.do(operation), model.hold(operation));
    },
  );
});

const extensions = fc.record({ at: pick, amount }).map(({ at, amount: by }) => {
  return new Step(`extend ${at} by ${by}`, (model, { current }) => {
    const request = requestAt(model, at);
    const result = current.do({ op: 'extend', request, amount: by }, model.nowMs);
    assert.deepEqual(result, model.extend(request, by));
  });
});

const progresses = fc.record({ at: pick, counts, wake }).map(({ at, counts: used, wake: wakeFee }) => {
  return new Step(`progress ${at} ${JSON.stringify(used)}`, (model, { current }) => {
    const request = requestAt(model, at);
    current.do({ op: 'progress', request, tokens: used, wakeFee });
    model.progress(request, used, wakeFee);
  });
});

const settlements = fc.record({ at: pick, counts, wake }).map(({ at, counts: used, wake: wakeFee }) => {
  return new Step(`settle ${at} ${JSON.stringify(used)}`, (model, { current }) => {
    const request = requestAt(model, at);
    const result = current.do(settle(request, used, { atMs: model.nowMs, wakeFee }));
    const charged = model.settle(request, used, wakeFee);
    assert.deepEqual([result.ok, result.charged], [charged !== null, charged ?? 0n]);
  });
});

const [local, lease] = [treasury('local'), escrow('local', 'l1')];
const ROUTES = [
  { debit: local, credit: operatorEquity('local') },
  { debit: lease, credit: local },
  { debit: local, credit: lease },
  { debit: customerPaid('ann'), credit: cash() },
];
const movement = fc
  .record({ id: fc.nat(9), amount, route: fc.constantFrom(...ROUTES) })
  .map(({ id, amount: by, route }) => transfer(`t${id}`, by + 1n, route));
const show = ({ id, debit, credit, amount: by }: TransferOp): string => `${id} ${credit.name} > ${debit.name} ${by}`;

const transfers = fc.array(movement, { minLength: 1, maxLength: 3 }).map((list) => {
  return new Step(`transfer ${list.map(show).join(', ')}`, (model, { current }) => {
    const [only] = list;
    const alone = list.length === 1 && only ? only : null;
    const result = current.do(alone ?? { op: 'transfers', transfers: list });
    assert.deepEqual(result, model.transfer(list));
  });
});

const ticks = fc.nat(1500).map((ms) => {
  return new Step(`tick after ${ms} ms`, (model, { current }) => {
    model.nowMs += ms;
    current.book.tick(model.nowMs);
    model.tick();
  });
});

const commits = fc.constant(0).map(() => {
  return new Step('commit', (model, { current }) => {
    current.book.commit();
    model.commit();
    assertWhole(current);
  });
});

const crashes = fc.nat(2000).map((ms) => {
  return new Step(`crash, back after ${ms} ms`, (model, real) => {
    model.nowMs += ms;
    real.crash(model.nowMs);
    model.crash();
    assertWhole(real.current);
  });
});

/** What a gateway does most is drawn most. */
const often = <T>(times: number, one: T): T[] => Array.from({ length: times }, () => one);
const COMMANDS = [
  ...often(3, grants),
  ...often(6, holds),
  ...often(3, extensions),
  ...often(3, progresses),
  ...often(4, settlements),
  ...often(2, transfers),
  ...often(4, ticks),
  ...often(2, commits),
  crashes,
];
