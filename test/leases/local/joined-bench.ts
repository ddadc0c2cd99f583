import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import type { Settings } from '../../../src/config.ts';
import { Secret } from '../../../src/config/secret.ts';
import { createMemoryLedger } from '../../../src/ledger/memory.ts';
import type { RunningServer } from '../../../src/leases/local/delivery.ts';
import { Escrow } from '../../../src/leases/local/escrow.ts';
import { LocalMarket } from '../../../src/leases/local/market.ts';
import type { CallMarket } from '../../../src/leases/local/market-connection.ts';
import { provide } from '../../../src/leases/local/provide.ts';
import type { StartProvided } from '../../../src/leases/local/provided-servers.ts';
import type { PricePolicy } from '../../../src/spec/local-provider.ts';
import { MarketRecords } from '../../../src/leases/records.ts';
import { openJoining, type Joining } from '../../../src/node/provider-door.ts';
import { systemRandom } from '../../../src/random.ts';
import { openStore } from '../../../src/store/open.ts';
import { startGateway, type Gateway } from '../../fakes/gateway.ts';
import { provider, TERMS } from '../local-market-bench.ts';
import { disputeParts } from '../../fakes/disputes.ts';

const BLOCK_MS = 40;

export interface JoinedBench {
  readonly market: LocalMarket;
  readonly joining: Joining;
  readonly gateway: Gateway;
  readonly keyOf: (id: string) => string;
  /** A request of the provider with this key, as it stands. */
  readonly send: (key: string, method: string, path: string, body?: unknown) => Promise<Response>;
}

/** A market that only joined providers bid on, behind a gateway on a real socket. Time passes as it does. */
export async function openJoined(
  t: TestContext,
  ids: readonly string[],
  hosts: readonly string[] = [],
): Promise<JoinedBench> {
  const clock = systemClock;
  const keyOf = (id: string): string => `key-of-${id}-0123456789`;
  const joined = ids.map((id) => ({ id, key: new Secret(keyOf(id)), audited: false, region: null, hosts }));
  const local = { blockMs: BLOCK_MS, joining: joined };
  const settings = { markets: { local }, trustedProxies: [] } as unknown as Settings;
  const joining = openJoining(settings, clock, () => undefined);
  const folder = mkdtempSync(join(tmpdir(), 'underbid-joined-'));
  const store = await openStore(join(folder, 'underbid.db'));
  const ledger = createMemoryLedger(clock);
  const market = new LocalMarket({
    bidders: () => joining.bidders,
    terms: { ...TERMS, blockMs: BLOCK_MS },
    treasuryNanoUsd: 100_000_000_000n,
    records: new MarketRecords(store),
    escrow: new Escrow(ledger, clock, 'local'),
    disputes: disputeParts(store, ledger, clock),
    clock,
    leaseKey: (leaseId) => `key-of-${leaseId}`,
    log: () => undefined,
  });
  await market.open();
  t.after(async () => {
    for (const bidder of joining.bidders) bidder.stop();
    await market.stop();
    await ledger.close();
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const gateway = await startGateway(t, { servers: 0, ...(joining.door ? { joining: joining.door } : {}) });
  const send: JoinedBench['send'] = (key, method, path, body) => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const text = body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body);
    return gateway.fetch(`/provider/v1${path}`, { method, headers, body: text });
  };
  return { market, joining, gateway, keyOf, send };
}

export interface Agent {
  readonly over: Promise<void>;
  readonly log: readonly string[];
  /** Model servers that run. */
  readonly running: () => number;
  readonly stop: () => Promise<void>;
}

export interface AgentOptions {
  readonly key: string;
  readonly perBlock?: bigint;
  readonly policy?: PricePolicy;
  readonly answerDisputes?: boolean;
  readonly start?: StartProvided;
  /** What stands between it and the market. */
  readonly wrap?: (call: CallMarket) => CallMarket;
}

/** `underbid provide` without its process: the same code, model servers of straw. */
export function startAgent(t: TestContext, url: string | (() => string), options: AgentOptions): Agent {
  const ending = new AbortController();
  const log: string[] = [];
  let running = 0;
  const start: StartProvided = () => {
    running += 1;
    const exited = Promise.withResolvers<{ detail: string }>();
    const stop = (): Promise<void> => {
      running -= 1;
      exited.resolve({ detail: 'stopped' });
      return Promise.resolve();
    };
    const server: RunningServer = { url: 'http://127.0.0.1:9', exited: exited.promise, stop };
    return Promise.resolve(server);
  };
  const call: CallMarket = async ({ method, path, body, timeoutMs, signal }) => {
    const init: RequestInit = {
      method,
      headers: { authorization: `Bearer ${options.key}`, 'content-type': 'application/json' },
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    };
    if (body !== undefined) init.body = JSON.stringify(body);
    const reply = await fetch(`${typeof url === 'string' ? url : url()}${path}`, init);
    const text = await reply.text();
    return { status: reply.status, body: text === '' ? undefined : (JSON.parse(text) as unknown) };
  };
  const perHour = ((options.perBlock ?? 1000n) * 3_600_000n) / BigInt(BLOCK_MS);
  const over = provide({
    provider: provider('agent', 1n, {
      slots: 2,
      costNanoUsdPerHour: perHour,
      policy: options.policy ?? { kind: 'fixed', priceNanoUsdPerHour: perHour },
    }),
    refuse: () => null,
    start: options.start ?? start,
    advertise: '127.0.0.1',
    answerDisputes: options.answerDisputes ?? true,
    call: options.wrap?.(call) ?? call,
    clock: systemClock,
    random: systemRandom,
    log: (line) => log.push(line),
    onJoined: (id) => log.push(`joined as ${id}`),
    signal: ending.signal,
  });
  over.catch(() => undefined);
  const stop = (): Promise<void> => {
    ending.abort(new Error('the test is over'));
    return over;
  };
  t.after(() => stop().catch(() => undefined));
  return { over, log, running: () => running, stop };
}
