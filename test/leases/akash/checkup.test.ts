import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Agent } from 'undici';
import { runCommand } from '../../../src/cli/program.ts';
import { systemClock } from '../../../src/clock.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import { checkUp } from '../../../src/leases/akash/checkup.ts';
import type { CheckupOptions, Finding } from '../../../src/leases/akash/checkup-part.ts';
import type { Devnet } from '../../../src/leases/akash/devnet/network.ts';
import { systemRandom } from '../../../src/random.ts';
import { until } from '../../fakes/clock.ts';
import { openDevnet } from './devnet/setup.ts';
import { newChain } from './market-bench.ts';
import { openDoor } from './rpc-door.ts';

/** `underbid doctor --akash`: what it looks at, what it says of it, and that it changes nothing. */

test('a network that is well has a line for each thing, and none that fails', async (t) => {
  const { devnet, check } = await setup(t);
  const before = devnet.chain.txs().length;
  const findings = await check();
  assert.deepEqual(named(findings, 'fail'), []);
  for (const [name, detail] of [
    [/^node 127/, /chain underbid-devnet-1, block \d+, \d+ s old, 0 behind/],
    [/^modules$/, /the node is devnet; every module version/],
    [/^deposits$/, /at least 0\.5 ACT/],
    [/^bids$/, /at most 20/],
    [/^reclamation$/, /notice of 1 to 720 hours/],
    [/^minting$/, /healthy, collateral \d.*at least 10 ACT a time/],
    [/^balance AKT$/, /10000 AKT for fees/],
    [/^balance ACT$/, /1000 ACT for deposits/],
    [/^providers$/, /3 of 3 visited answer, of 3 registered, 2 audited/],
    [/^provider 127/, /its own certificate, as on the chain, until 20\d\d-\d\d-\d\d, 0 leases/],
  ] as const) {
    const found = findings.filter((one) => name.test(one.name));
    assert.ok(
      found.length > 0 && found.every((one) => one.result === 'ok' && detail.test(one.detail)),
      `${name}: ${show(found)}`,
    );
  }
  assert.deepEqual(named(findings, 'warn'), ['nodes'], 'one node is one too few');
  assert.equal(devnet.chain.txs().length, before);
});

test('what is wrong is named with what to do about it', async (t) => {
  const { devnet, check } = await setup(t);
  const find = async (name: RegExp, change: Partial<CheckupOptions> = {}): Promise<Finding> => {
    const found = (await check({ providersMax: 0, ...change })).find((one) => name.test(one.name));
    assert.ok(found, `${name}`);
    assert.notEqual(found.advice, '', found.name);
    return found;
  };
  const expect = ({ result, detail }: Finding, wanted: Finding['result'], why: RegExp): void => {
    assert.equal(result, wanted, detail);
    assert.match(detail, why);
  };
  expect(await find(/^deposits$/, { denom: 'uakt2' }), 'fail', /takes none in uakt2/);
  expect(await find(/^node /, { chainId: 'akashnet-2' }), 'fail', /is of the chain underbid-devnet-1, not akashnet-2/);
  expect(await find(/^chain id$/, { chainId: null }), 'warn', /as the first node says/);
  expect(await find(/^account$/, { address: null }), 'warn', /no address/);
  const stranger = (await OwnKeyring.open('11'.repeat(32))).wallet(0).address;
  expect(await find(/^account$/, { address: stranger }), 'fail', /not known to the chain/);
  expect(await find(/^balance ACT$/, { address: devnet.payer.address }), 'fail', /^0 ACT/);
  const later = { ...systemClock, now: () => systemClock.now() + 600_000 };
  expect(await find(/^node /, { clock: later }), 'fail', /6\d\d s old/);
  devnet.setFault('mint-halted', true);
  expect(await find(/^minting$/), 'warn', /no ACT is made now/);
});

test('a node that is down is a warning beside one that answers, and a failure alone', async (t) => {
  const { devnet, check } = await setup(t);
  const shut = await openDoor(t, devnet.rpcUrl, false);
  const both = await check({ rpc: [shut.url, devnet.rpcUrl], providersMax: 0 });
  assert.deepEqual(named(both, 'fail'), []);
  assert.equal(both.find(({ name }) => name === `node ${new URL(shut.url).host}`)?.result, 'warn');
  const alone = await check({ rpc: [shut.url] });
  assert.deepEqual(named(alone, 'fail'), [`node ${new URL(shut.url).host}`]);
  assert.equal(alone.length, 1, 'nothing else can be asked');
});

test('providers that are gone, and those with a certificate that is not theirs, are told apart from the rest', async (t) => {
  const { devnet, check } = await setup(t);
  const [gone, false_, right] = devnet.providers;
  assert.ok(gone && false_ && right);
  devnet.setFault('provider-gone', true, gone.name);
  devnet.setFault('wrong-certificate', true, false_.name);
  await until('one is gone', async () => named(await check(), 'warn').length >= 3, 60_000);
  const findings = await check();
  const of = ({ hostUri }: { hostUri: string }): Finding | undefined =>
    findings.find(({ name }) => name === `provider ${new URL(hostUri).host}`);
  assert.deepEqual([of(gone)?.result, of(false_)?.result, of(right)?.result], ['warn', 'warn', 'ok']);
  assert.match(of(false_)?.detail ?? '', /certificate/);
  devnet.setFault('wrong-certificate', true);
  assert.ok(named(await check(), 'fail').includes('providers'), 'when nobody can be trusted, it fails');
  assert.match(show(await check({ allowPrivate: false })), /private address/);
});

test('grants to the address and to its pools are shown with their ends', async (t) => {
  const { devnet, check, chain } = await setup(t);
  const keyring = await OwnKeyring.open(devnet.tenant.mnemonic);
  const [treasury, pool] = [keyring.wallet(0), keyring.wallet(1)];
  const pools = [{ pool: 'tiny', address: pool.address }];
  assert.ok(
    (await check({ pools })).some(({ name, result }) => name === 'pool tiny' && result === 'warn'),
    'none yet',
  );
  const ends = { from: treasury.address, to: pool.address, untilMs: Date.now() + 2 * 86_400_000 };
  const sent = await chain.send({
    wallet: treasury,
    orders: [
      { type: 'grant_deposits', ...ends, amount: 2_500_000n },
      { type: 'grant_fees', ...ends, uakt: 1_000_000n },
    ],
    note: () => Promise.resolve(),
  });
  assert.equal(sent.kind, 'done');
  const findings = await check({ pools });
  const deposits = findings.find(({ name }) => name.startsWith('pool tiny: deposits'));
  assert.match(deposits?.detail ?? '', /^2\.5 ACT, until 20/);
  assert.match(deposits?.advice ?? '', /ends soon/);
  const own = await check({ address: pool.address });
  assert.deepEqual(named(own, 'fail'), [], 'it holds nothing, and others pay');
  assert.ok(own.some(({ name }) => name === `fees paid by ${treasury.address}`));
});

test('the command needs no gateway and no key; it ends with 1 when something fails', async (t) => {
  const { devnet } = await setup(t);
  const asked = ['doctor', '--akash', '--rpc', devnet.rpcUrl, '--address', devnet.tenant.address, '--allow-private'];
  const well = await run(t, asked);
  assert.equal(well.code, 0, well.err + well.out);
  assert.match(well.out, /^ok    node 127\.0\.0\.1:\d+: chain underbid-devnet-1, block/);
  assert.match(well.out, /warn  chain id: .*\n      -> set chain_id: underbid-devnet-1\n/);
  const ill = await run(t, [...asked, '--chain-id', 'akashnet-2', '--json']);
  assert.equal(ill.code, 1);
  const report = JSON.parse(ill.out) as { ok: boolean; findings: Finding[] };
  assert.equal(report.ok, false);
  assert.equal(report.findings[0]?.result, 'fail');
  assert.match((await run(t, ['doctor'])).err, /--akash/);
  assert.match((await run(t, ['doctor', '--akash'])).err, /name nodes with --rpc/);
});

test('what is no node, no address, no denom and no number is said before anybody is asked', async (t) => {
  for (const [option, value, why] of [
    ['--rpc', 'notaurl', /must be an http:\/\/ or https:\/\/ address/],
    ['--rpc', '', /must be an http/],
    ['--rpc', 'file:///etc/passwd', /must be an http/],
    ['--address', 'akash1bogus', /is not an address of the network/],
    ['--denom', '../x', /is not a denom/],
    ['--providers', '-1', /whole number, at most 500/],
    ['--providers', '501', /whole number, at most 500/],
  ] as const) {
    const told = await run(t, ['doctor', '--akash', '--rpc', 'http://127.0.0.1:1', option, value]);
    assert.deepEqual([told.code, told.out], [2, ''], `${option} ${value}`);
    assert.match(told.err, why);
  }
});

test('with a configuration it looks at what is configured there', async (t) => {
  const { devnet } = await setup(t);
  const file = {
    rpc: devnet.rpcUrl,
    chain_id: devnet.chainId,
    tenant: { keyfile: 'tenant.key' },
    auditor: devnet.auditor,
  };
  const told = await run(t, ['doctor', '--akash', '--providers', '0'], (folder) => {
    writeFileSync(join(folder, 'devnet.json'), JSON.stringify(file));
    writeFileSync(join(folder, 'tenant.key'), devnet.tenant.mnemonic);
    writeFileSync(join(folder, 'underbid.yaml'), 'markets:\n  akash: { devnet: devnet.json, wallets: per_pool }\n');
  });
  assert.equal(told.code, 0, told.err + told.out);
  assert.match(told.out, new RegExp(devnet.tenant.address));
  assert.match(told.out, /pool smollm2-135m/);
  assert.ok(!told.out.includes(devnet.tenant.mnemonic.split(' ').slice(0, 3).join(' ')));
});

const named = (findings: readonly Finding[], result: Finding['result']): string[] =>
  findings.filter((one) => one.result === result).map(({ name }) => name);
const show = (findings: readonly Finding[]): string => JSON.stringify(findings);

async function setup(t: TestContext) {
  const devnet: Devnet = await openDevnet(t, { blockMs: 60 });
  const dispatcher = new Agent();
  const stop = new AbortController();
  t.after(async () => {
    stop.abort(new Error('the test is over'));
    await dispatcher.destroy();
  });
  const check = (change: Partial<CheckupOptions> = {}): Promise<readonly Finding[]> =>
    checkUp({
      rpc: [devnet.rpcUrl],
      chainId: devnet.chainId,
      denom: 'uact',
      address: devnet.tenant.address,
      pools: [],
      auditors: [devnet.auditor],
      allowPrivate: true,
      providersMax: 20,
      dispatcher,
      clock: systemClock,
      resolve: () => Promise.reject(new Error('no DNS here')),
      signal: stop.signal,
      ...change,
    });
  const chain = newChain(devnet, { dispatcher, signal: stop.signal, log: () => undefined });
  await chain.open();
  return { devnet, check, chain };
}

async function run(
  t: TestContext,
  args: readonly string[],
  prepare: (folder: string) => void = () => undefined,
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const cwd = mkdtempSync(join(tmpdir(), 'underbid-doctor-'));
  t.after(() => rmSync(cwd, { recursive: true, force: true }));
  prepare(cwd);
  let [out, err] = ['', ''];
  const code = await runCommand(args, {
    env: {},
    cwd,
    clock: systemClock,
    random: systemRandom,
    out: (text) => void (out += `${text}\n`),
    err: (text) => void (err += `${text}\n`),
    serve: () => Promise.resolve(),
  });
  return { code, out, err };
}
