import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Agent } from 'undici';
import { systemClock } from '../../../src/clock.ts';
import { createMemoryLedger } from '../../../src/ledger/memory.ts';
import type { Ledger } from '../../../src/ledger/operations.ts';
import type { Chain } from '../../../src/leases/akash/chain.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import { startDevnet, type Devnet } from '../../../src/leases/akash/devnet/network.ts';
import { DEFAULT_PROVIDERS } from '../../../src/leases/akash/devnet/provider-spec.ts';
import { AkashMarket } from '../../../src/leases/akash/market.ts';
import { dseqOf } from '../../../src/leases/akash/names.ts';
import { TreasuryRecords } from '../../../src/leases/akash/treasury-records.ts';
import { AkashRecords, type OrderRow } from '../../../src/leases/akash/records.ts';
import type { Outcome } from '../../../src/leases/market.ts';
import { DisputeRecords } from '../../../src/leases/dispute-records.ts';
import { MarketRecords } from '../../../src/leases/records.ts';
import { systemRandom } from '../../../src/random.ts';
import { openStore, type Store } from '../../../src/store/open.ts';
import { testOrder } from '../../fakes/market-samples.ts';
import { FakeServers } from '../local-market-bench.ts';
import { akashOrder, newChain } from './market-bench.ts';

/** More than the story has calls to the store, the ledger and the chain; that it ends before is checked. */
const CALLS_MAX = 120;
const DEPOSIT = 1_000_000_000n;
const FUND = 7_000n;
const RULES = {
  denom: 'uact',
  orderDeposit: null,
  depositsPerHour: null,
  expose: 'port',
  ingressTls: false,
  auditors: [],
  defaultImage: null,
  allowPrivate: true,
  walletPerPool: false,
} as const;

type When = 'before' | 'after';

let devnet: Devnet;
let dispatcher: Agent;
let keyring: OwnKeyring;
/** Another client, that nothing befalls. */
let client: Chain;

before(async () => {
  const servers = new FakeServers(true);
  dispatcher = new Agent();
  devnet = await startDevnet({
    clock: systemClock,
    random: systemRandom,
    startContainer: (_spec, signal) => servers.start(testOrder('any').workload, 'key', signal),
    blockMs: 15,
    providers: DEFAULT_PROVIDERS.slice(0, 1).map((provider) => ({ ...provider, bidDelayMs: 0 })),
  });
  keyring = await OwnKeyring.open(devnet.tenant.mnemonic);
  client = newChain(devnet, { dispatcher, signal: new AbortController().signal, log: () => undefined });
  await client.open();
});

after(async () => {
  await devnet.stop();
  await dispatcher.destroy();
});

for (const when of ['before', 'after'] as const) {
  test(
    `a crash ${when} any write or call of the chain loses no lease and pays nothing twice`,
    { timeout: 300_000 },
    async () => {
      let told = 0;
      for (let at = 1; at <= CALLS_MAX; at += 1) {
        const world = await openWorld(`crash-${when}-${at}`);
        const fault = new Fault(at, when, 'crash');
        const what = `${when} call ${at}`;
        const crashed = world.market(fault);
        const end = await tellStory(crashed.market, world.id, fault);
        // The process is gone: nothing of it acts any more.
        if (end === 'crashed' || fault.struck !== null) {
          const restarted = world.market(null);
          await tellStory(restarted.market, world.id, null);
          await assertWorld(world, restarted.market, `${what} (${fault.struck})`);
          told += 1;
        } else await assertWorld(world, crashed.market, what);
        await world.close();
        if (fault.struck === null) break;
      }
      assert.ok(told > 20 && told < CALLS_MAX, `${told} places to crash`);
    },
  );

  test(
    `an error ${when} any write or call of the chain is made up for by asking again`,
    { timeout: 300_000 },
    async () => {
      let told = 0;
      for (let at = 1; at <= CALLS_MAX; at += 1) {
        const world = await openWorld(`error-${when}-${at}`);
        const fault = new Fault(at, when, 'error');
        const { market } = world.market(fault);
        assert.equal(await tellStory(market, world.id, fault), 'done');
        await assertWorld(world, market, `${when} call ${at} (${fault.struck})`);
        await world.close();
        if (fault.struck === null) break;
        told += 1;
      }
      assert.ok(told > 20 && told < CALLS_MAX, `${told} places to fail`);
    },
  );
}

test('what a lost record leaves on the chain is found there, closed and booked', async () => {
  const world = await openWorld('lost');
  const { market } = world.market(null);
  await tellStory(market, world.id, null, 'until the lease');
  await market.stop();
  const fresh = await openWorld('lost', '-again');
  const { market: second } = fresh.market(null);
  await second.open();
  const { leases } = await second.list();
  assert.deepEqual(
    leases.map(({ lease }) => [lease.orderId, lease.state, lease.depositNanoUsd]),
    [[world.id, 'active', DEPOSIT]],
  );
  const closed = await known(() => second.close(`lease-${world.id}`, 'tenant'), null);
  assert.equal(closed?.state, 'closed');
  assert.equal(closed.rentNanoUsd + closed.refundNanoUsd, DEPOSIT);
  assert.equal(await fresh.balance(`escrow:akash:lease-${world.id}`), 0n);
  await world.close();
  await fresh.close();
});

/** Strikes at the n-th call: an error, or the end of the process, after which nothing answers. */
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
    if (this.struck !== null && this.#kind === 'crash') return new Promise(() => undefined);
    this.#count += 1;
    if (this.#count !== this.#at) return effect();
    // Before it is struck, so that what the call itself calls has its effect too.
    if (this.#when === 'after') await effect();
    this.struck = what;
    if (this.#kind === 'error') throw new Error(`${what} failed`);
    this.#crash.reject(new Crash());
    return new Promise(() => undefined);
  }

  alive<T>(work: Promise<T>): Promise<T> {
    return this.#kind === 'crash' ? Promise.race([work, this.#crash.promise]) : work;
  }
}

class Crash extends Error {}

/** Calls of the chain that change something or on which something hangs; looking for news is not worth a story each. */
const STRUCK = new Set(['open', 'deployments', 'send', 'resolve', 'deployment']);

function faulty<T extends object>(target: T, fault: Fault | null, methods: ReadonlySet<string>): T {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        const call = (): Promise<unknown> => Promise.resolve(Reflect.apply(value, target, args));
        return fault && methods.has(String(name))
          ? fault.around(String(name), call)
          : Reflect.apply(value, target, args);
      };
    },
  });
}

class FaultyRecords extends AkashRecords {
  readonly #fault: Fault | null;

  constructor(store: Store, fault: Fault | null) {
    super(store);
    this.#fault = fault;
  }

  override save(row: OrderRow): Promise<void> {
    const save = (): Promise<void> => super.save(row);
    return this.#fault?.around(`save ${row.state} ${row.pending?.purpose ?? ''}`, save) ?? save();
  }
}

interface World {
  readonly id: string;
  readonly held: bigint;
  market(fault: Fault | null): { readonly market: AkashMarket };
  balance(account: string): Promise<bigint>;
  close(): Promise<void>;
}

/** A data folder and a ledger of its own; the chain and the wallet are everybody's. */
async function openWorld(id: string, folderName = ''): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), `underbid-akash-crash${folderName}-`));
  const store = await openStore(join(folder, 'underbid.db'));
  const real = createMemoryLedger(systemClock);
  const markets: AkashMarket[] = [];
  const market = (fault: Fault | null): { market: AkashMarket } => {
    const ledger: Ledger = {
      ask: (operation) => fault?.around(operation.op, () => real.ask(operation)) ?? real.ask(operation),
      close: () => real.close(),
    };
    const made = new AkashMarket({
      newChain: (signal): Chain =>
        faulty(
          newChain(devnet, { dispatcher, signal, log: () => undefined, pollMs: 5, lifeMs: 15_000 }),
          fault,
          STRUCK,
        ),
      // No looks of its own: the story is the same every time.
      pollMs: 3_600_000,
      rules: RULES,
      grants: { deposits: 0n, feesUakt: 0n, lifeMs: 0 },
      keyring,
      pools: [],
      records: new FaultyRecords(store, fault),
      treasuryRecords: new TreasuryRecords(store),
      disputes: new DisputeRecords(store),
      marketRecords: new MarketRecords(store),
      ledger,
      clock: systemClock,
      resolve: () => Promise.resolve([{ address: '127.0.0.1', family: 4 }]),
      leaseKey: (leaseId) => `key-of-${leaseId}`,
      log: () => undefined,
    });
    markets.push(made);
    return { market: made };
  };
  return {
    id,
    held: await client.balance(devnet.tenant.address),
    market,
    balance: async (name) => (await real.ask({ op: 'account', name }))?.posted ?? 0n,
    close: async () => {
      await Promise.race([Promise.all(markets.map((one) => one.stop())), systemClock.sleep(50)]);
      await real.close();
      store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Asks again while the outcome is unknown or the call fails, as the scheduler does. Null: refused. */
async function known<T>(call: () => Promise<Outcome<T>>, fault: Fault | null): Promise<T | null> {
  let why = '';
  for (let tries = 0; tries < 20; tries += 1) {
    try {
      const outcome = await (fault ? fault.alive(call()) : call());
      if (outcome.kind === 'done') return outcome.value;
      why = outcome.reason;
      if (outcome.kind === 'refused') return null;
    } catch (error) {
      if (error instanceof Crash) throw error;
    }
    await systemClock.sleep(5);
  }
  throw new Error(`stays unknown: ${why}`);
}

/** A lease's whole life; told again after a crash it goes on where it was. */
async function tellStory(
  market: AkashMarket,
  id: string,
  fault: Fault | null,
  part: 'whole' | 'until the lease' = 'whole',
): Promise<'done' | 'crashed'> {
  const leaseId = `lease-${id}`;
  try {
    await known(async () => ({ kind: 'done', value: await market.open() }), fault);
    await known(() => market.tender(akashOrder(id)), fault);
    for (let tries = 0; tries < 200; tries += 1) {
      const view = await (fault ? fault.alive(look(market, id)) : look(market, id));
      if (view === 'go on') break;
      await systemClock.sleep(5);
    }
    const order = await (fault ? fault.alive(market.order(id)) : market.order(id));
    const [bid] = order?.bids ?? [];
    await known(() => market.accept(id, bid?.id ?? 'none', DEPOSIT), fault);
    if (part === 'until the lease') return 'done';
    await known(() => market.fund(leaseId, FUND, 'fund-1'), fault);
    const closed = await known(() => market.close(leaseId, 'tenant'), fault);
    assert.equal(closed?.state, 'closed');
    return 'done';
  } catch (error) {
    if (error instanceof Crash) return 'crashed';
    throw error;
  }
}

async function look(market: AkashMarket, id: string): Promise<'go on' | 'wait'> {
  try {
    // The market does not look by itself here.
    await market.look();
    const view = await market.order(id);
    return view === null || view.state !== 'open' || view.bids.length > 0 ? 'go on' : 'wait';
  } catch (error) {
    if (error instanceof Crash) throw error;
    return 'wait';
  }
}

/** What must hold whatever happened on the way. */
async function assertWorld(world: World, market: AkashMarket, what: string): Promise<void> {
  const { id } = world;
  const deployment = await client.deployment({ owner: devnet.tenant.address, dseq: dseqOf(id) });
  assert.equal(deployment?.state, 'closed', `${what}: the deployment is closed`);
  assert.deepEqual(await client.deployments(devnet.tenant.address), [], `${what}: none is forgotten`);
  assert.deepEqual((await market.list()).leases, [], what);
  assert.deepEqual((await market.list()).orders, [], what);
  assert.equal(await world.balance(`escrow:akash:lease-${id}`), 0n, `${what}: nothing is left in escrow`);
  const status = await market.status(`lease-${id}`);
  assert.equal(status?.lease.state, 'closed', what);
  const { rentNanoUsd: rent, refundNanoUsd: refund, depositNanoUsd: deposit } = status.lease;
  assert.equal(deposit, DEPOSIT + FUND, `${what}: paid once`);
  assert.equal(rent + refund, deposit, what);
  assert.equal(await world.balance('expense:lease:tiny'), rent, `${what}: row and books agree on the rent`);
  assert.equal(paymentsOnChain(id), 2, `${what}: with the lease and with the funding, each once`);
  // Another start: the wallet is looked at when nothing is under way.
  await world.market(null).market.open();
  const held = await client.balance(devnet.tenant.address);
  assert.equal((world.held - held) * 1000n, rent, `${what}: the chain took the rent and nothing else`);
  assert.equal(await world.balance('treasury:akash'), held * 1000n, `${what}: the books are the chain's`);
  assert.equal(await world.balance('equity:akash'), world.held * 1000n, `${what}: nothing had to be made up`);
}

/** Transactions that added to the escrow of an order, as the chain has them. */
function paymentsOnChain(id: string): number {
  const [type, xid] = ['/akash.escrow.v1.MsgAccountDeposit', `${devnet.tenant.address}/${dseqOf(id)}`];
  return devnet.chain.txs().filter(({ bytes, result }) => {
    const text = Buffer.from(bytes).toString('latin1');
    return result.code === 0 && text.includes(type) && text.includes(xid);
  }).length;
}
