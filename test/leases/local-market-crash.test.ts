import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openLedger } from '../../src/ledger/client.ts';
import type { Ledger } from '../../src/ledger/operations.ts';
import { Escrow } from '../../src/leases/local/escrow.ts';
import { embeddedBidders } from '../../src/leases/local/bidder.ts';
import { LocalMarket } from '../../src/leases/local/market.ts';
import { MarketRecords, type LeaseRow, type ProviderRecord } from '../../src/leases/records.ts';
import { openStore } from '../../src/store/open.ts';
import { FakeClock, turns } from '../fakes/clock.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { FakeServers, openBook, provider, TERMS, type OpenLedger } from './local-market-bench.ts';
import { WINDOWS, type Dispute } from '../../src/leases/dispute.ts';
import { DisputeRecords } from '../../src/leases/dispute-records.ts';
import { WithheldRent } from '../../src/leases/local/withheld-rent.ts';
import { breachOf, disputeIdOf } from '../../src/spec/dispute.ts';

const OPENING = 1_000_000n;
/** More than the story has calls to the store and the ledger; that it ends before is checked. */
const CALLS_MAX = 100;

/** Before the call has an effect, or after it had one that nobody came to know of. */
type When = 'before' | 'after';

for (const when of ['before', 'after'] as const) {
  test(`a crash ${when} any write leaves, after the restart, no open lease and books that add up`, async (t) => {
    let told = 0;
    for (let at = 1; at <= CALLS_MAX; at += 1) {
      const { files, remove } = folders();
      t.after(remove);
      const fault = new Fault(at, when, 'crash');
      const open = await openParts(files, openBook, fault);
      const end = await tellStory(open, fault);
      if (end === 'done') {
        open.close();
        break;
      }
      // The process is gone; its files are opened anew.
      open.close();
      await assertBooks(files, `${when} call ${at} (${fault.struck})`);
      told += 1;
    }
    assert.ok(told > 15 && told < CALLS_MAX, `${told} places to crash`);
  });

  test(`an error ${when} any write is made up for by asking again, without a restart`, async (t) => {
    let told = 0;
    for (let at = 1; at <= CALLS_MAX; at += 1) {
      const { files, remove } = folders();
      t.after(remove);
      const fault = new Fault(at, when, 'error');
      const open = await openParts(files, openBook, fault);
      const what = `${when} call ${at}`;
      assert.equal(await tellStory(open, fault), 'done', what);
      if (fault.struck === null) {
        open.close();
        break;
      }
      const status = await open.market.status('lease-o1');
      const { rentNanoUsd, takeFeeNanoUsd, makeFeeNanoUsd, depositNanoUsd, refundNanoUsd } = status?.lease ?? {};
      assert.equal(status?.lease.withheldNanoUsd ?? 0n, 0n, `${what}: both disputes are decided`);
      assert.equal(rentNanoUsd, 8_000n, `${what}: four of twelve blocks were not paid`);
      assert.deepEqual([status?.lease.state, depositNanoUsd], ['closed', 130_000n], `${what} (${fault.struck})`);
      assert.equal((rentNanoUsd ?? 0n) + (takeFeeNanoUsd ?? 0n) + (refundNanoUsd ?? 0n), depositNanoUsd);
      const posted = open.balance('expense:lease:tiny') + open.balance('expense:market-fees:local');
      assert.equal(posted, (rentNanoUsd ?? 0n) + (takeFeeNanoUsd ?? 0n), `${what}: row and books agree`);
      assert.equal(open.balance('expense:market-fees:local'), (takeFeeNanoUsd ?? 0n) + (makeFeeNanoUsd ?? 0n));
      assert.equal(open.balance('escrow:local:lease-o1'), 0n);
      open.close();
      told += 1;
    }
    assert.ok(told > 15 && told < CALLS_MAX, `${told} places to fail`);
  });
}

test('a crash in the middle of a recovery is recovered from', async (t) => {
  for (const at of [9, 11, 15]) {
    for (let again = 1; again <= CALLS_MAX; again += 1) {
      const { files, remove } = folders();
      t.after(remove);
      const first = new Fault(at, 'before', 'crash');
      const crashed = await openParts(files, openBook, first);
      assert.equal(await tellStory(crashed, first), 'crashed');
      crashed.close();
      const second = new Fault(again, 'after', 'crash');
      const recovering = await openParts(files, openBook, second);
      const end = await second.alive(recovering.market.open()).catch((error: unknown) => error);
      recovering.close();
      await assertBooks(files, `call ${at} (${first.struck}), then call ${again} (${second.struck})`);
      if (!(end instanceof Crash)) break;
    }
  }
});

for (const at of [8, 15]) {
  test(`with the writer's thread and its file, a crash at call ${at} is made up for too`, async (t) => {
    const { files, remove } = folders();
    t.after(remove);
    const fault = new Fault(at, 'after', 'crash');
    const open = await openParts(files, openThread, fault);
    assert.equal(await tellStory(open, fault), 'crashed');
    await open.closeLedger();
    open.close();
    await assertBooks(files, `call ${at}`, openThread);
  });
}

/** Strikes at the n-th call of the store or the ledger: an error, or the end of the process, after which nothing answers. */
class Fault {
  readonly #at: number;
  readonly #when: When;
  readonly #kind: 'crash' | 'error';
  readonly #crash = Promise.withResolvers<never>();
  #count = 0;
  struck: string | null = null;

  constructor(at: number, when: When, kind: 'crash' | 'error') {
    this.#at = at;
    this.#when = when;
    this.#kind = kind;
    this.#crash.promise.catch(() => undefined);
  }

  async around<T>(what: string, effect: () => Promise<T>): Promise<T> {
    if (this.struck !== null && this.#kind === 'crash') return this.#never();
    this.#count += 1;
    if (this.#count !== this.#at) return effect();
    this.struck = what;
    if (this.#when === 'after') await effect();
    if (this.#kind === 'error') throw new Error(`${what} failed`);
    this.#crash.reject(new Crash());
    return this.#never();
  }

  /** What the process was doing, unless it is gone. */
  alive<T>(work: Promise<T>): Promise<T> {
    return this.#kind === 'crash' ? Promise.race([work, this.#crash.promise]) : work;
  }

  #never(): Promise<never> {
    return new Promise(() => undefined);
  }
}

class Crash extends Error {}

class FaultyRecords extends MarketRecords {
  #fault: Fault | null = null;

  strike(fault: Fault): this {
    this.#fault = fault;
    return this;
  }

  override saveLease(row: LeaseRow): Promise<void> {
    return this.#around('saveLease', () => super.saveLease(row));
  }

  override saveProvider(id: string, record: ProviderRecord): Promise<void> {
    return this.#around('saveProvider', () => super.saveProvider(id, record));
  }

  override findLease(id: string): Promise<LeaseRow | null> {
    return this.#around('findLease', () => super.findLease(id));
  }

  #around<T>(what: string, effect: () => Promise<T>): Promise<T> {
    return this.#fault?.around(what, effect) ?? effect();
  }
}

class FaultyDisputes extends DisputeRecords {
  #fault: Fault | null = null;

  strike(fault: Fault): this {
    this.#fault = fault;
    return this;
  }

  override save(dispute: Dispute): Promise<void> {
    const effect = (): Promise<void> => super.save(dispute);
    return this.#fault?.around('saveDispute', effect) ?? effect();
  }

  override find(id: string): Promise<Dispute | null> {
    const effect = (): Promise<Dispute | null> => super.find(id);
    return this.#fault?.around('findDispute', effect) ?? effect();
  }
}

type OpenBook = (files: string) => Promise<OpenLedger>;

interface Parts {
  readonly market: LocalMarket;
  readonly clock: FakeClock;
  readonly balance: (account: string) => bigint;
  readonly closeLedger: () => Promise<void>;
  readonly close: () => void;
}

async function openParts(files: string, openBooks: OpenBook, fault: Fault): Promise<Parts> {
  const store = await openStore(join(files, 'underbid.db'));
  const { ledger: real, balance, close } = await openBooks(files);
  const clock = new FakeClock(1_699_999_998_000);
  const ledger: Ledger = {
    ask: (operation) => fault.around(operation.op, () => real.ask(operation)),
    close: () => real.close(),
  };
  const disputes = new FaultyDisputes(store).strike(fault);
  const market = newMarket({ records: new FaultyRecords(store).strike(fault), disputes, ledger, clock });
  const end = (): void => {
    store.close();
    void close();
  };
  return { market, clock, balance, closeLedger: close, close: end };
}

function newMarket(from: {
  records: MarketRecords;
  disputes: DisputeRecords;
  ledger: Ledger;
  clock: FakeClock;
}): LocalMarket {
  const { records, disputes, ledger, clock } = from;
  return new LocalMarket({
    bidders: embeddedBidders([provider('desk', 1000n)], { ...TERMS, clock, startServer: new FakeServers(true).start }),
    terms: TERMS,
    treasuryNanoUsd: OPENING,
    records,
    escrow: new Escrow(ledger, clock, 'local'),
    disputes: { records: disputes, money: new WithheldRent(ledger, clock, 'local'), windows: WINDOWS },
    clock,
    leaseKey: () => 'key',
    log: () => undefined,
  });
}

/**
 * A lease's whole life: opened, delivered, filled, six and six blocks of rent, disputed for the last four, closed, the
 * dispute upheld; another for the two before it rejected. Errors are met by asking again.
 */
async function tellStory({ market, clock }: Parts, fault: Fault): Promise<'done' | 'crashed'> {
  const insist = async <T>(call: () => Promise<T>): Promise<T> => {
    try {
      return await fault.alive(call());
    } catch (error) {
      if (error instanceof Crash) throw error;
      return fault.alive(call());
    }
  };
  const passBlocks = async (count: number): Promise<void> => {
    for (let left = count; left > 0; left -= 1) {
      await fault.alive(clock.advance(6000));
      await fault.alive(turns(5));
    }
  };
  try {
    await insist(() => market.open());
    await insist(() => market.tender(testOrder('o1')));
    await fault.alive(clock.advance(100));
    await insist(() => market.accept('o1', 'o1/desk', 100_000n));
    await insist(() => market.deploy('lease-o1', testOrder('o1').workload));
    await passBlocks(6);
    await insist(() => market.fund('lease-o1', 30_000n, 'fund-1'));
    await passBlocks(6);
    const nowMs = clock.now();
    const bad = { fromMs: nowMs - 4 * 6000, toMs: nowMs, reason: 'x' };
    const slow = await insist(() => market.dispute('lease-o1', breachOf({ ...bad, kind: 'slow' })));
    const closed = await insist(() => market.close('lease-o1', 'tenant'));
    assert.equal(closed.kind, 'done');
    const worse = { ...bad, fromMs: nowMs - 6 * 6000, kind: 'wrong_weights' as const };
    const weights = await insist(() => market.dispute('lease-o1', breachOf(worse)));
    assert.ok(slow.kind === 'done' && weights.kind === 'done');
    await insist(() => market.judge(slow.value.id, { upheld: true, reason: 'seen' }));
    await insist(() => market.judge(weights.value.id, { upheld: false, reason: 'not seen' }));
    if (fault.struck !== null) await insist(() => market.judge(slow.value.id, { upheld: true, reason: 'seen' }));
    await fault.alive(market.stop());
    return 'done';
  } catch (error) {
    if (error instanceof Crash) return 'crashed';
    throw error;
  }
}

/** Opens the files as the next start does, and holds the books against what must be. */
async function assertBooks(files: string, what: string, openBooks: OpenBook = openBook): Promise<void> {
  const store = await openStore(join(files, 'underbid.db'));
  const records = new MarketRecords(store);
  const { ledger, close } = await openBooks(files);
  const clock = new FakeClock(1_700_000_500_000);
  const disputes = new DisputeRecords(store);
  const market = newMarket({ records, disputes, ledger, clock });
  await market.open();
  const balance = async (name: string): Promise<bigint> => (await ledger.ask({ op: 'account', name }))?.posted ?? 0n;
  assert.deepEqual((await market.list()).leases, [], what);
  assert.deepEqual(await records.openLeases(), [], `${what}: every lease is closed`);
  assert.equal(await balance('escrow:local:lease-o1'), 0n, `${what}: nothing is left in escrow`);
  const [rent, fees] = [await balance('expense:lease:tiny'), await balance('expense:market-fees:local')];
  let withheld = 0n;
  for (const kind of ['slow', 'wrong_weights'] as const)
    withheld += await balance(`withheld:local:${disputeIdOf('lease-o1', kind)}`);
  const all = (await balance('treasury:local')) + rent + fees + withheld;
  assert.equal(all, OPENING, `${what}: no nano is lost or made`);
  const lease = (await market.status('lease-o1'))?.lease;
  if (lease) {
    const { rentNanoUsd, takeFeeNanoUsd, refundNanoUsd, withheldNanoUsd = 0n } = lease;
    assert.equal(rentNanoUsd + takeFeeNanoUsd, rent + fees, `${what}: rows and books agree on the rent`);
    assert.equal(withheldNanoUsd, withheld, `${what}: and on what is withheld`);
    assert.equal(lease.depositNanoUsd, rentNanoUsd + takeFeeNanoUsd + refundNanoUsd + withheldNanoUsd, what);
  }
  await market.stop();
  const report = await ledger.ask({ op: 'check' });
  assert.equal(report.ok, true, `${what}: ${JSON.stringify(report)}`);
  await close();
  store.close();
}

async function openThread(files: string): Promise<OpenLedger> {
  const ledger = await openLedger({
    dataDir: files,
    onFatal: (error) => {
      throw error;
    },
  });
  return { ledger, balance: () => 0n, close: () => ledger.close() };
}

function folders(): { files: string; remove: () => void } {
  const files = mkdtempSync(join(tmpdir(), 'underbid-crash-'));
  return { files, remove: () => rmSync(files, { recursive: true, force: true }) };
}
