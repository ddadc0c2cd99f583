import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { checkLedger } from '../../src/ledger/check.ts';
import type { HoldResult, UsageStatus } from '../../src/ledger/operations.ts';
import { bigintOf } from '../../src/store/sql.ts';
import { customer, grant, hold, openBook, price, settle, tempFolder, tokens, type OpenBook } from './fixtures/books.ts';
import { DAY, ReplayModel, type Judgement } from './fixtures/replay-model.ts';

/** Random histories of requests under few keys, crashes included, beside a reference model. */

const RUNS = 200;

test('there is one charge per Idempotency-Key and day, through crashes too, and each repeat is judged as by the model', async (t) => {
  const folder = tempFolder(t);
  let count = 0;
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.commands(COMMANDS, { maxCommands: 60, size: 'max' }), async (commands) => {
      count += 1;
      const real = new Real(join(folder, `${count}.db`), seen);
      try {
        fc.modelRun(() => ({ model: new ReplayModel(), real }), commands);
      } finally {
        real.close();
        await setImmediate();
      }
    }),
    { numRuns: RUNS },
  );
  // A generator that never repeats a key would prove nothing.
  for (const state of ['ok', 'in_flight', 'mismatch', 'completed', 'replayed']) {
    assert.ok((seen.get(state) ?? 0) > 5, `only ${seen.get(state)} times: ${state}`);
  }
});

class Real {
  readonly #path: string;
  readonly #opened: OpenBook[] = [];
  readonly #seen: Map<string, number>;
  current: OpenBook;

  constructor(path: string, seen: Map<string, number>) {
    this.#path = path;
    this.#seen = seen;
    this.current = this.#open(0);
    this.current.do(customer());
    this.current.do(price());
    this.current.do(grant('g', 1_000_000n));
    this.current.book.commit();
  }

  crash(nowMs: number): void {
    this.current = this.#open(nowMs);
  }

  close(): void {
    for (const { sql } of this.#opened) sql.close();
  }

  note(judgement: Judgement): void {
    const state = judgement === 'ok' ? 'ok' : judgement[2] === null ? judgement[0] : 'replayed';
    this.#seen.set(state, (this.#seen.get(state) ?? 0) + 1);
  }

  #open(nowMs: number): OpenBook {
    const one = openBook(this.#path, nowMs);
    one.sql.exec('PRAGMA synchronous = OFF');
    this.#opened.push(one);
    return one;
  }
}

class Step implements fc.Command<ReplayModel, Real> {
  readonly #text: string;
  readonly #act: (model: ReplayModel, real: Real) => void;

  constructor(text: string, act: (model: ReplayModel, real: Real) => void) {
    this.#text = text;
    this.#act = act;
  }

  check(): boolean {
    return true;
  }

  run(model: ReplayModel, real: Real): void {
    this.#act(model, real);
    const { book, do: apply } = real.current;
    assert.equal(book.pendingHolds, model.running.length);
    const charged = model.ended.reduce((sum, { end }) => sum + (end?.charged ?? 0), 0);
    assert.equal(apply({ op: 'balance', customer: 'ann' })?.used, BigInt(charged));
    assertOneCharge(model);
  }

  toString(): string {
    return this.#text;
  }
}

/** The promise itself, which the model must keep too. */
function assertOneCharge(model: ReplayModel): void {
  const charges = model.ended.filter(({ key, end }) => key !== null && (end?.charged ?? 0) > 0);
  for (const [at, one] of charges.entries()) {
    for (const other of charges.slice(at + 1)) {
      const apart = Math.abs((one.end?.atMs ?? 0) - (other.end?.atMs ?? 0));
      assert.ok(one.key !== other.key || apart >= DAY, `${one.request} and ${other.request} were both charged`);
    }
  }
}

/** What the file says, once all is written. */
function assertWhole(model: ReplayModel, { book, sql }: OpenBook): void {
  book.commit();
  model.commit();
  const report = checkLedger(sql);
  assert.ok(report.ok, JSON.stringify(report.checks.filter(({ ok }) => !ok)));
  const used = model.ended.filter(({ key, end }) => key !== null && end?.usesKey && end.atMs + DAY > model.nowMs);
  const query = `SELECT COUNT(*) AS n FROM replays WHERE state = 'completed' AND expires_ms > ?`;
  assert.equal(bigintOf(sql.all(query, [BigInt(model.nowMs)])[0], 'n'), BigInt(used.length));
}

const judged = (result: HoldResult): Judgement => {
  if (result.ok) return 'ok';
  const { earlier } = result;
  assert.ok(earlier, result.why);
  return [earlier.state, earlier.request, earlier.sealed && new TextDecoder().decode(earlier.sealed)];
};

const requestAt = (model: ReplayModel, at: number): string =>
  model.running[at % (model.running.length + 1)] ?? 'nobody';
const pick = fc.nat(20);

const holds = fc
  .record({ key: fc.constantFrom('a', 'b', 'c', null), body: fc.constantFrom('x', 'x', 'x', 'y'), life: fc.nat(9) })
  .map(({ key, body, life }) => {
    return new Step(`hold ${key} ${body} life ${life}`, (model, real) => {
      model.nextRequest += 1;
      const request = `r${model.nextRequest}`;
      const lifeMs = 500 + life * 700;
      const idempotency = key === null ? {} : { idempotency: { hash: key, bodyHash: body } };
      const times = { atMs: model.nowMs, deadlineMs: model.nowMs + lifeMs };
      const result = judged(real.current.do(hold(request, 20n, { ...times, ...idempotency })));
      const expected = model.hold(request, key, body, lifeMs);
      assert.deepEqual(result, expected);
      real.note(expected);
    });
  });

const progresses = fc.record({ at: pick, charge: fc.nat(9) }).map(({ at, charge }) => {
  return new Step(`progress ${at} ${charge}`, (model, { current }) => {
    const request = requestAt(model, at);
    current.do({ op: 'progress', request, tokens: tokens(charge) });
    model.progress(request, charge);
  });
});

const statuses = fc.constantFrom<UsageStatus>('done', 'done', 'done', 'length', 'cancelled', 'failed', 'failed');
const settlements = fc
  .record({ at: pick, charge: fc.constantFrom(0, 0, 3, 9), status: statuses, kept: fc.boolean() })
  .map(({ at, charge, status, kept }) => {
    return new Step(`settle ${at} ${charge} ${status} ${kept ? 'kept' : ''}`, (model, { current }) => {
      const request = requestAt(model, at);
      const reply = kept ? `reply of ${request}` : null;
      const replay =
        reply === null ? {} : { replay: { sealed: new TextEncoder().encode(reply), cost: BigInt(charge) } };
      const result = current.do(settle(request, tokens(charge), { status, atMs: model.nowMs, ...replay }));
      const charged = model.settle(request, charge, { whole: status === 'done' || status === 'length', reply });
      assert.deepEqual([result.ok, Number(result.charged)], [charged !== null, charged ?? 0]);
    });
  });

const tick = (ms: number): Step =>
  new Step(`tick after ${ms} ms`, (model, { current }) => {
    model.nowMs += ms;
    current.book.tick(model.nowMs);
    model.tick();
  });
const ticks = fc.nat(1500).map(tick);
const days = fc.constantFrom(DAY - 2000, DAY).map(tick);

const commits = fc.constant(0).map(() => new Step('commit', (model, { current }) => assertWhole(model, current)));

const crashes = fc.nat(2000).map((ms) => {
  return new Step(`crash, back after ${ms} ms`, (model, real) => {
    model.nowMs += ms;
    real.crash(model.nowMs);
    model.crash();
    assertWhole(model, real.current);
  });
});

const often = <T>(times: number, one: T): T[] => Array.from({ length: times }, () => one);
const COMMANDS = [
  ...often(8, holds),
  ...often(3, progresses),
  ...often(5, settlements),
  ...often(4, ticks),
  ...often(2, commits),
  ...often(2, crashes),
  days,
];
