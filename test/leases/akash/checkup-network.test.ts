import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent, request } from 'undici';
import { systemClock } from '../../../src/clock.ts';
import { checkUp } from '../../../src/leases/akash/checkup.ts';
import { formatMicro, type CheckupOptions, type Finding } from '../../../src/leases/akash/checkup-part.ts';
import type { Devnet } from '../../../src/leases/akash/devnet/network.ts';
import { openDevnet } from './devnet/setup.ts';
import { openDoor } from './rpc-door.ts';

/** What `underbid doctor --akash` reads by `abci_query`, beside what the network's own REST says of the same things. */

test('parameters, minting, money and providers are what REST answers', async (t) => {
  const { devnet, check, rest } = await setup(t);
  for (const halted of [false, true]) {
    devnet.setFault('mint-halted', halted);
    const findings = await check();
    const detail = (name: string): string => findings.find((one) => one.name === name)?.detail ?? `no ${name}`;

    const deposits = await rest<{ params: { min_deposits: Coin[] } }>('/akash/deployment/v1beta4/params');
    const least = deposits.params.min_deposits.find(({ denom }) => denom === 'uact');
    assert.ok(detail('deposits').includes(`at least ${formatMicro(BigInt(least?.amount ?? 0), 'uact')}`));

    const { params } = await rest<{ params: MarketParams }>('/akash/market/v1beta5/params');
    assert.equal(detail('bids'), `at most ${params.order_max_bids} for an order`);
    const hours = (text: string): number => Number(text.replace('s', '')) / 3600;
    const [from, to] = [hours(params.min_reclamation_window), hours(params.max_reclamation_window)];
    assert.ok(detail('reclamation').endsWith(`${from} to ${to} hours`));

    const status = await rest<MintStatus>('/akash/bme/v1/status');
    const mint = await rest<{ params: { min_mint: Coin[] } }>('/akash/bme/v1/params');
    assert.equal(status.mints_allowed, !halted);
    const state = status.status.replace('mint_status_', '').replace(/^halt.*/, 'halted');
    const minting = detail('minting');
    assert.ok(minting.startsWith(`${state}, collateral ${Number(status.collateral_ratio).toFixed(2)}`), minting);
    assert.ok(minting.includes(`at least ${formatMicro(BigInt(mint.params.min_mint[0]?.amount ?? 0), 'uact')} a time`));
    assert.equal(minting.includes('no ACT is made now'), halted);

    for (const [name, denom] of [
      ['balance AKT', 'uakt'],
      ['balance ACT', 'uact'],
    ] as const) {
      const path = `/cosmos/bank/v1beta1/balances/${devnet.tenant.address}/by_denom?denom=${denom}`;
      const { balance } = await rest<{ balance: Coin }>(path);
      assert.ok(detail(name).startsWith(formatMicro(BigInt(balance.amount), denom)), detail(name));
    }

    const { providers } = await rest<{ providers: { owner: string; host_uri: string }[] }>(
      '/akash/provider/v1beta4/providers',
    );
    const audits = await rest<{ providers: { owner: string }[] }>('/akash/audit/v1/audit/attributes/list');
    const audited = new Set(audits.providers.map(({ owner }) => owner)).size;
    assert.equal(
      detail('providers'),
      `${providers.length} of ${providers.length} visited answer, of ${providers.length} registered, ${audited} audited`,
    );
    for (const { host_uri: uri } of providers)
      assert.match(detail(`provider ${new URL(uri).host}`), /its own certificate/);
  }
});

test('the versions of modules that it says are there are those that the network tells', async (t) => {
  const { check, rest } = await setup(t);
  const findings = await check({ providersMax: 0 });
  assert.equal(findings.find(({ name }) => name === 'modules')?.result, 'ok');
  const told = JSON.stringify(await rest('/akash/discovery/v1/info'));
  for (const version of ['v1beta4', 'v1beta5']) assert.ok(told.includes(version), told);
});

test('of several nodes each has a line: one that lags is told apart, and its older state is not read', async (t) => {
  const { devnet, check, rest } = await setup(t, null);
  for (let count = 0; count < 60; count += 1) devnet.nextBlock();
  const [near, far, shut] = await Promise.all([true, true, false].map((open) => openDoor(t, devnet.rpcUrl, open)));
  assert.ok(near && far && shut);
  near.behind = 2;
  far.behind = 40;
  const findings = await check({ rpc: [far.url, near.url, shut.url, devnet.rpcUrl], providersMax: 0 });
  const of = (url: string): Finding | undefined => findings.find(({ name }) => name === `node ${new URL(url).host}`);
  assert.match(of(devnet.rpcUrl)?.detail ?? '', /, 0 behind the best$/);
  assert.deepEqual([of(devnet.rpcUrl)?.result, of(near.url)?.result], ['ok', 'ok'], JSON.stringify(findings));
  assert.match(of(near.url)?.detail ?? '', /, 2 behind the best$/);
  assert.equal(of(far.url)?.result, 'warn');
  assert.match(of(far.url)?.detail ?? '', /is 40 blocks behind/);
  assert.equal(of(shut.url)?.result, 'warn');
  assert.ok(!findings.some(({ name }) => name === 'nodes'), 'there is more than one');
  const block = await rest<{ block: { header: { height: string } } }>('/cosmos/base/tendermint/v1beta1/blocks/latest');
  const said = Number(/block (\d+)/.exec(of(devnet.rpcUrl)?.detail ?? '')?.[1]);
  assert.equal(said, Number(block.block.header.height));
  assert.deepEqual(
    findings.filter(({ result }) => result === 'fail').map(({ name }) => name),
    [],
  );
});

interface Coin {
  readonly denom: string;
  readonly amount: string;
}

interface MarketParams {
  readonly order_max_bids: number;
  readonly min_reclamation_window: string;
  readonly max_reclamation_window: string;
}

interface MintStatus {
  readonly status: string;
  readonly collateral_ratio: string;
  readonly mints_allowed: boolean;
}

async function setup(t: TestContext, blockMs: number | null = 60) {
  const devnet: Devnet = await openDevnet(t, { blockMs });
  const dispatcher = new Agent();
  const stop = new AbortController();
  t.after(async () => {
    stop.abort(new Error('the test is over'));
    await dispatcher.destroy();
  });
  const check = (change: Partial<CheckupOptions> = {}): Promise<readonly Finding[]> =>
    checkUp({
      ...{ rpc: [devnet.rpcUrl], chainId: devnet.chainId, denom: 'uact', address: devnet.tenant.address, pools: [] },
      ...{ auditors: [devnet.auditor], allowPrivate: true, providersMax: 20, dispatcher, clock: systemClock },
      resolve: () => Promise.reject(new Error('no DNS here')),
      signal: stop.signal,
      ...change,
    });
  const rest = async <T>(path: string): Promise<T> => {
    const { statusCode, body } = await request(`${devnet.restUrl}${path}`, { dispatcher });
    assert.equal(statusCode, 200, path);
    return (await body.json()) as T;
  };
  return { devnet, check, rest };
}
