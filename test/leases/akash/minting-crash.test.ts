import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Agent } from 'undici';
import { systemClock } from '../../../src/clock.ts';
import { createMemoryLedger } from '../../../src/ledger/memory.ts';
import type { Ledger } from '../../../src/ledger/operations.ts';
import { Alarms } from '../../../src/leases/akash/alarms.ts';
import type { Chain } from '../../../src/leases/akash/chain.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import { startDevnet, type Devnet } from '../../../src/leases/akash/devnet/network.ts';
import { Minting, type MintingOptions } from '../../../src/leases/akash/minting.ts';
import { Purse } from '../../../src/leases/akash/purse.ts';
import { DAY_MS, SpendingLimits } from '../../../src/leases/akash/spending-limits.ts';
import { Treasury } from '../../../src/leases/akash/treasury.ts';
import { TreasuryRecords } from '../../../src/leases/akash/treasury-records.ts';
import { Escrow } from '../../../src/leases/local/escrow.ts';
import { systemRandom } from '../../../src/random.ts';
import { openStore } from '../../../src/store/open.ts';
import { newChain } from './market-bench.ts';

/** One need for ACT, met over the emulated network, with the process ending or a call failing at every place in turn. */

const CALLS_MAX = 80;
const ONE = 1_000_000n;
const GAP = 12n * ONE;

let devnet: Devnet;
let dispatcher: Agent;
let keyring: OwnKeyring;

before(async () => {
  dispatcher = new Agent();
  devnet = await startDevnet({
    clock: systemClock,
    random: systemRandom,
    startContainer: () => Promise.reject(new Error('nothing is started here')),
    blockMs: 10,
    providers: [],
  });
  keyring = await OwnKeyring.open(devnet.tenant.mnemonic);
});

after(async () => {
  await devnet.stop();
  await dispatcher.destroy();
});

for (const kind of ['crash', 'error'] as const) {
  for (const when of ['before', 'after'] as const) {
    test(
      `${kind} ${when} any write or call: the need is met once, and the books agree`,
      { timeout: 300_000 },
      async () => {
        let told = 0;
        for (let at = 1; at <= CALLS_MAX; at += 1) {
          const world = await openWorld();
          const fault = new Fault(at, when, kind);
          await world.tell(fault);
          // A new process over the same rows; and it finds that nothing more is wanted.
          if (kind === 'crash') await world.tell(null);
          await world.assert(`${kind} ${when} call ${at} (${fault.struck})`);
          await world.close();
          if (fault.struck === null) break;
          told += 1;
        }
        assert.ok(told > 15 && told < CALLS_MAX, `${told} places`);
      },
    );
  }
}

test('a mint that the network cancels in silence is booked back, told, and not tried at once again', async () => {
  devnet.setFault('mint-cancelled', true);
  const world = await openWorld();
  await world.tell(null, 'cancelled');
  devnet.setFault('mint-cancelled', false);
  const alarms = world.alarms();
  assert.deepEqual(alarms, ['mint.cancelled']);
  assert.equal(mintsOnChain(), world.mintsBefore + 1, 'one try');
  assert.equal(await world.posted('minting:akash'), 0n);
  assert.equal(await world.posted('expense:mint-spread:akash'), 0n);
  assert.equal(await world.counted(), 0n, 'the limit of the day has its room again');
  await world.close();
});

class Crash extends Error {}

/** Strikes at the n-th call: an error, or the end of the process, after which nothing answers. */
class Fault {
  readonly #at: number;
  readonly #when: 'before' | 'after';
  readonly kind: 'crash' | 'error';
  readonly crashed = Promise.withResolvers<never>();
  #count = 0;
  struck: string | null = null;

  constructor(at: number, when: 'before' | 'after', kind: 'crash' | 'error') {
    this.#at = at;
    this.#when = when;
    this.kind = kind;
    this.crashed.promise.catch(() => undefined);
  }

  async around<T>(what: string, effect: () => Promise<T>): Promise<T> {
    if (this.struck !== null && this.kind === 'crash') return new Promise(() => undefined);
    this.#count += 1;
    if (this.#count !== this.#at) return effect();
    if (this.#when === 'after') await effect();
    this.struck = what;
    if (this.kind === 'error') throw new Error(`${what} failed`);
    this.crashed.reject(new Crash());
    return new Promise(() => undefined);
  }
}

/** Every method of it is struck. */
function faulty<T extends object>(target: T, fault: Fault | null, methods: ReadonlySet<string>): T {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        if (!fault || !methods.has(String(name))) return Reflect.apply(value, target, args);
        return fault.around(String(name), () => Promise.resolve(Reflect.apply(value, target, args)));
      };
    },
  });
}

const OF_CHAIN = new Set(['balance', 'balanceUakt', 'mintTerms', 'mintRecords', 'send', 'resolve']);
const OF_RECORDS = new Set(['addSpending', 'markSpending', 'removeSpending', 'spendingAfter', 'saveMint', 'mints']);

function mintsOnChain(): number {
  return devnet.chain.txs().filter(({ bytes, result }) => {
    return result.code === 0 && Buffer.from(bytes).toString('latin1').includes('/akash.bme.v1.MsgMintACT');
  }).length;
}

/** Rows and books of its own; the chain and the wallet are everybody's. */
async function openWorld() {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-minting-'));
  const store = await openStore(join(folder, 'underbid.db'));
  const ledger = createMemoryLedger(systemClock);
  const wallet = keyring.wallet(0);
  const stop = new AbortController();
  const log = (): void => undefined;
  const observer = newChain(devnet, { dispatcher, signal: stop.signal, log });
  await observer.open();
  const before = { uact: await observer.balance(wallet.address), uakt: await observer.balanceUakt(wallet.address) };
  const mintsBefore = mintsOnChain();
  const alarms = new Alarms(systemClock, log);
  const rules = {
    ...{ on: true, hoursMin: 1, hoursMax: 1, leastPerHour: before.uact + GAP, stockMax: before.uact + GAP },
    ...{ spreadMaxBp: 100, reserveUakt: 0n },
  };
  const posted = async (name: string): Promise<bigint> => (await ledger.ask({ op: 'account', name }))?.posted ?? 0n;

  async function open(fault: Fault | null): Promise<{ minting: Minting; wire: Chain }> {
    const wire = newChain(devnet, { dispatcher, signal: stop.signal, log, pollMs: 5, lifeMs: 15_000 });
    await wire.open();
    const records = faulty(new TreasuryRecords(store), fault, OF_RECORDS);
    const asked: Ledger = {
      ask: (operation) => fault?.around(operation.op, () => ledger.ask(operation)) ?? ledger.ask(operation),
      close: () => Promise.resolve(),
    };
    const escrow = new Escrow(asked, systemClock, 'akash');
    const treasury = new Treasury({ ledger: asked, escrow, clock: systemClock, log });
    const limit = { kind: 'mint', windowMs: DAY_MS, max: 4n * GAP, setting: 'mints' } as const;
    const limits = new SpendingLimits(records, [limit], systemClock);
    wire.guardBy(new Purse({ limits, alarms, bookFee: (tx) => treasury.fee(tx), log }));
    const chain = faulty(wire, fault, OF_CHAIN);
    const options: MintingOptions = {
      rules,
      chain,
      wallet,
      records,
      treasury,
      limits,
      alarms,
      hourly: () => 0n,
      clock: systemClock,
      log,
    };
    return { minting: new Minting(options), wire };
  }

  /** Looks until nothing is open and nothing is wanted, as the market does. */
  async function tell(fault: Fault | null, until: 'rest' | 'cancelled' = 'rest'): Promise<void> {
    const { minting, wire } = await open(fault);
    for (let tries = 0; tries < 4000; tries += 1) {
      const look = async (): Promise<boolean> => {
        await minting.advance();
        const { recent, plan } = await minting.view();
        if (recent.some(({ booked }) => !booked)) return false;
        if (until === 'cancelled') return recent[0]?.state === 'cancelled' && /next try comes later/.test(plan);
        return /are enough/.test(plan);
      };
      try {
        if (await (fault ? Promise.race([look(), fault.crashed.promise]) : look())) return;
      } catch (error) {
        if (error instanceof Crash) return;
      }
      await wire.refresh();
      await systemClock.sleep(5);
    }
    assert.fail(`it comes to no rest: ${JSON.stringify((await minting.view()).plan)}`);
  }

  async function assertWorld(what: string): Promise<void> {
    assert.equal(mintsOnChain() - mintsBefore, 1, `${what}: one mint on the chain`);
    await observer.refresh();
    observer.demandFresh();
    const uact = (await observer.balance(wallet.address)) - before.uact;
    const burnt = before.uakt - (await observer.balanceUakt(wallet.address));
    assert.ok(uact >= GAP && uact <= GAP + ONE, `${what}: ${uact} uact came`);
    const rows = await new TreasuryRecords(store).mints(10);
    assert.deepEqual(
      rows.filter(({ state }) => state !== 'dropped').map(({ state, booked }) => [state, booked]),
      [['executed', true]],
      what,
    );
    const [done] = rows.filter(({ state }) => state === 'executed');
    assert.ok((await counted()) >= (done?.worth ?? 0n), `${what}: what was minted counts in the limit of the day`);
    assert.equal(await posted('minting:akash'), 0n, what);
    assert.equal(await posted('expense:mint-spread:akash'), (done?.spread ?? 0n) * 1000n, what);
    assert.equal(await posted('treasury:akash'), uact * 1000n, `${what}: what came is in the books`);
    assert.equal(await posted('exchange:akash:usd'), (done?.minted ?? 0n) * 1000n, what);
    // A process that ends right after its transaction was included books no fee: reconciling names it.
    const fees = await posted('expense:network-fees:akash');
    const left = burnt * 1000n - (done?.burnUakt ?? 0n) * 1000n;
    assert.ok(fees === left || fees === 0n, `${what}: ${fees} of ${left} went to fees`);
  }

  async function counted(): Promise<bigint> {
    const rows = await new TreasuryRecords(store).spendingAfter(0);
    return rows.reduce((sum, { amount }) => sum + amount, 0n);
  }

  return {
    mintsBefore,
    posted,
    counted,
    tell,
    assert: assertWorld,
    alarms: () => alarms.list().map(({ name }) => name),
    close: async () => {
      stop.abort();
      await ledger.close();
      store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
