import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { SPEND_RESETS, type SpendReset } from '../../src/ledger/access.ts';
import { checkLedger } from '../../src/ledger/check.ts';
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
  type OpenBook,
} from './fixtures/books.ts';
import { DAY_MS, dayOf, endOf, sameWindow } from './fixtures/calendar.ts';

/**
 * Limits of keys and projects over random histories across days, weeks, months and leap years, with rotations and crashes,
 * beside a model that keeps every request and adds them up anew each time.
 */

const CREDIT = 1_000_000n;
const PROJECT = 'web';

interface Request {
  readonly id: string;
  readonly key: string;
  readonly heldMs: number;
  held: bigint;
  charged: bigint;
  open: boolean;
  /** What a crash charges. */
  readonly progress: bigint;
  journaled: boolean;
}

interface ModelKey {
  readonly id: string;
  readonly root: string;
  readonly inProject: boolean;
  readonly limit: bigint | null;
  readonly reset: SpendReset;
  endsMs: number | null;
  rotated: boolean;
  revoked: boolean;
}

class Model {
  nowMs: number;
  readonly keys: ModelKey[] = [];
  requests: Request[] = [];
  project: { limit: bigint | null; reset: SpendReset } = { limit: null, reset: 'none' };

  constructor(nowMs: number) {
    this.nowMs = nowMs;
  }

  get open(): Request[] {
    return this.requests.filter((one) => one.open);
  }

  works({ revoked, endsMs }: ModelKey): boolean {
    return !revoked && (endsMs === null || this.nowMs < endsMs);
  }

  /** Charged and held of all requests that count together, in the window of a moment. */
  sums(counts: (owner: ModelKey) => boolean, reset: SpendReset, atMs: number): { spent: bigint; held: bigint } {
    let [spent, held] = [0n, 0n];
    for (const request of this.requests) {
      const owner = this.keys.find(({ id }) => id === request.key);
      if (!owner || !counts(owner) || !sameWindow(reset, request.heldMs, atMs)) continue;
      spent += request.charged;
      if (request.open) held += request.held;
    }
    return { spent, held };
  }

  /** Null when it fits. */
  short(owner: ModelKey, amount: bigint, heldMs: number): Record<string, unknown> | null {
    const all = this.sums(() => true, 'none', 0);
    let resetsMs: number | undefined;
    let [available, posted, limitSource] = [CREDIT - all.spent - all.held, CREDIT - all.spent, 'account'];
    const caps = [
      { source: 'key', ...owner, counts: (one: ModelKey) => one.root === owner.root },
      { source: 'project', ...this.project, counts: (one: ModelKey) => one.inProject },
    ];
    for (const { source, limit, reset, counts } of owner.inProject ? caps : caps.slice(0, 1)) {
      if (limit === null) continue;
      const { spent, held } = this.sums(counts, reset, heldMs);
      if (limit - spent - held < available) {
        [available, limitSource] = [limit - spent - held, source];
        resetsMs = reset === 'none' ? undefined : endOf(reset, heldMs);
      }
      if (limit - spent < posted) posted = limit - spent;
    }
    if (amount <= available) return null;
    const transient = amount <= posted;
    const resets = resetsMs === undefined ? {} : { resetsMs };
    return { ok: false, why: 'insufficient', needed: amount, available, limitSource, transient, ...resets };
  }
}

type Step = (model: Model, real: Real) => void;

class Real {
  readonly #path: string;
  readonly #opened: OpenBook[] = [];
  current: OpenBook;

  constructor(path: string, model: Model, limits: readonly (readonly [bigint | null, SpendReset])[]) {
    this.#path = path;
    this.current = this.#open(model.nowMs);
    const { do: apply, book } = this.current;
    apply(customer());
    apply(price());
    apply(grant('g1', CREDIT));
    for (const [at, [limit, reset]] of limits.entries()) {
      const of = key(`k${at}`, limit);
      const project = at < 2 ? PROJECT : null;
      apply({ ...of, settings: { ...of.settings, limitReset: reset, project }, atMs: model.nowMs });
      const open = { endsMs: null, rotated: false, revoked: false };
      model.keys.push({ id: `k${at}`, root: `k${at}`, inProject: project !== null, limit, reset, ...open });
    }
    book.commit();
  }

  crash(nowMs: number): void {
    this.current.book.commit();
    this.current = this.#open(nowMs);
  }

  close(): void {
    for (const { sql } of this.#opened) sql.close();
  }

  #open(nowMs: number): OpenBook {
    const one = openBook(this.#path, nowMs);
    one.sql.exec('PRAGMA synchronous = OFF');
    this.#opened.push(one);
    return one;
  }
}

const pickKey = (model: Model, at: number): ModelKey => model.keys[at % model.keys.length] ?? assert.fail();
const amount = fc.bigInt({ min: 0n, max: 40n });

const holds = fc.record({ at: fc.nat(20), amount, progress: amount }).map(({ at, amount: by, progress }): Step => {
  return (model, { current }) => {
    const owner = pickKey(model, at);
    const id = `r${model.requests.length}`;
    const result = current.do(hold(id, by, { key: owner.id, atMs: model.nowMs, deadlineMs: 1e15 }));
    if (!model.works(owner)) {
      assert.equal(!result.ok && result.why, 'key_ended');
      return;
    }
    assert.deepEqual(result, model.short(owner, by, model.nowMs) ?? { ok: true });
    if (!result.ok) return;
    current.do({ op: 'progress', request: id, tokens: tokens(Number(progress), 1) });
    const counted = { progress: progress + 2n, journaled: false };
    model.requests.push({ id, key: owner.id, heldMs: model.nowMs, held: by, charged: 0n, open: true, ...counted });
  };
});

const extensions = fc.record({ at: fc.nat(20), amount }).map(({ at, amount: by }): Step => {
  return (model, { current }) => {
    const request = model.open[at % Math.max(1, model.open.length)];
    const owner = model.keys.find(({ id }) => id === request?.key);
    if (!request || !owner) return;
    const result = current.do({ op: 'extend', request: request.id, amount: by }, model.nowMs);
    assert.deepEqual(result, model.short(owner, by, request.heldMs) ?? { ok: true });
    if (result.ok) request.held += by;
  };
});

const settlements = fc.record({ at: fc.nat(20), used: amount }).map(({ at, used }): Step => {
  return (model, { current }) => {
    const request = model.open[at % Math.max(1, model.open.length)];
    if (!request) return;
    const { charged } = current.do(settle(request.id, tokens(Number(used)), { atMs: model.nowMs }));
    request.charged = used < request.held ? used : request.held;
    request.open = false;
    assert.equal(charged, request.charged);
  };
});

/** To an edge of the calendar, or by any time up to six weeks. */
const jumps = fc
  .record({
    to: fc.constantFrom('day', 'week', 'month', 'any'),
    by: fc.nat(42 * DAY_MS),
    off: fc.integer({ min: -1, max: 1 }),
  })
  .map(({ to, by, off }): Step => {
    return (model, { current }) => {
      let next = model.nowMs + by;
      if (to !== 'any') {
        next = dayOf(model.nowMs).startMs + DAY_MS;
        while (to !== 'day' && sameWindow(to as SpendReset, model.nowMs, next)) next += DAY_MS;
        next += off;
      }
      model.nowMs = Math.max(model.nowMs, next);
      current.book.tick(model.nowMs);
      for (const request of model.open) request.journaled ||= model.nowMs - request.heldMs >= 1000;
    };
  });

const rotations = fc.record({ at: fc.nat(20), overlapDays: fc.nat(30) }).map(({ at, overlapDays }): Step => {
  return (model, { current }) => {
    const old = pickKey(model, at);
    const id = `k${model.keys.length}`;
    const successor = { id, hash: `hash of ${id}`, hint: id };
    const overlapMs = overlapDays * DAY_MS;
    const result = current.do({ op: 'rotate', id: old.id, successor, overlapMs, atMs: model.nowMs });
    assert.equal(result.ok, model.works(old) && !old.rotated);
    if (!result.ok) return;
    model.keys.push({ ...old, id });
    old.rotated = true;
    old.endsMs = model.nowMs + overlapMs;
  };
});

const revocations = fc.nat(20).map((at): Step => {
  return (model, { current }) => {
    const owner = pickKey(model, at);
    if (model.keys.length < 4) return;
    current.do({ op: 'revoke', id: owner.id, atMs: model.nowMs });
    owner.revoked = true;
  };
});

const limitOf = fc.option(fc.bigInt({ min: 0n, max: 120n }), { freq: 4 });
const projects = fc.record({ limit: limitOf, reset: fc.constantFrom(...SPEND_RESETS) }).map((project): Step => {
  return (model, { current }) => {
    const { limit: spendLimit, reset } = project;
    current.do({ op: 'project', customer: 'ann', name: PROJECT, spendLimit, reset, atMs: model.nowMs });
    model.project = project;
  };
});

const crashes = fc.constant(0).map((): Step => {
  return (model, real) => {
    real.crash(model.nowMs);
    for (const request of model.open) {
      const { progress, held, journaled } = request;
      request.charged = journaled ? (progress < held ? progress : held) : 0n;
      request.open = false;
    }
  };
});

function compare(model: Model, { current }: Real): void {
  const atMs = model.nowMs;
  for (const { id, root, limit, reset } of model.keys) {
    const own = (one: ModelKey): boolean => one.root === root;
    const spending = current.do({ op: 'spending', key: id, atMs });
    assert.ok(spending);
    const { total, day, week, month, cap } = spending;
    const expected = SPEND_RESETS.map((of) => model.sums(own, of, atMs).spent);
    assert.deepEqual([total, day, week, month], expected, id);
    const { spent, held } = model.sums(own, reset, atMs);
    assert.deepEqual([cap.limit, cap.reset, cap.spent, cap.held], [limit, reset, spent, held]);
    assert.ok(limit === null || spent + held <= limit, `${id} is above its limit`);
  }
  const [project] = current.do({ op: 'projects', customer: 'ann', atMs });
  const { spent, held } = model.sums(({ inProject }) => inProject, model.project.reset, atMs);
  assert.deepEqual([project?.limit, project?.spent, project?.held], [model.project.limit, spent, held]);
}

const often = <T>(weight: number, arbitrary: T): { weight: number; arbitrary: T } => ({ weight, arbitrary });
const steps = fc.array(
  fc.oneof(
    often(8, holds),
    often(3, extensions),
    often(6, settlements),
    often(6, jumps),
    often(2, rotations),
    often(1, revocations),
    often(2, projects),
    often(2, crashes),
  ),
  { maxLength: 60, size: 'max' },
);
const startMs = fc.integer({ min: Date.parse('2023-01-01'), max: Date.parse('2029-01-01') });
const limits = fc.tuple(
  ...[0, 1, 2].map(
    () => fc.tuple(limitOf, fc.constantFrom(...SPEND_RESETS)) as fc.Arbitrary<[bigint | null, SpendReset]>,
  ),
);

test('limits of keys and projects hold in every window, through rotations and crashes', async (t) => {
  const folder = tempFolder(t);
  let count = 0;
  await fc.assert(
    fc.asyncProperty(startMs, limits, steps, async (start, of, list) => {
      count += 1;
      const model = new Model(start);
      const real = new Real(join(folder, `${count}.db`), model, of);
      try {
        for (const step of list) {
          step(model, real);
          compare(model, real);
        }
        real.current.book.commit();
        const report = checkLedger(real.current.sql);
        assert.ok(report.ok, JSON.stringify(report.checks.filter(({ ok }) => !ok)));
      } finally {
        real.close();
        await setImmediate();
      }
    }),
    { numRuns: 150 },
  );
});
