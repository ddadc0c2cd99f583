import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import { probeModelServer } from '../../src/gateway/probe.ts';
import { proveResumption } from '../../src/gateway/resume-probe.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { createIds, systemRandom } from '../../src/random.ts';
import { Scheduler } from '../../src/scheduler/loop.ts';
import { SchedulerRecords } from '../../src/scheduler/records.ts';
import type { PoolInput } from '../../src/spec.ts';
import { openStore } from '../../src/store/open.ts';
import { until } from '../fakes/clock.ts';
import { startGateway, type Gateway } from '../fakes/gateway.ts';
import { eventsOf, json, wholeOf } from '../fakes/model-replies.ts';
import { streamOf } from '../fakes/reply.ts';
import { FakeMarket, type FakeProvider } from '../fakes/markets.ts';
import { startModelServer, type FakeModelServer, type Script } from '../fakes/model-server.ts';

/** Gateway, scheduler and market in one process, as the entry puts them together; model servers on real sockets. */
export interface House {
  readonly gateway: Gateway;
  readonly scheduler: Scheduler;
  readonly records: SchedulerRecords;
  readonly market: ServedMarket;
}

export interface HouseOptions {
  readonly pool: Partial<PoolInput>;
  readonly providers?: readonly FakeProvider[];
  /** Of gateway and scheduler; default: the system's. */
  readonly clock?: Clock;
  /** Of each model server, by its provider. */
  readonly script?: (provider: string) => Script;
}

const PROVIDERS: readonly FakeProvider[] = [
  { id: 'near', price: 1000n, delivers: 'running' },
  { id: 'far', price: 1100n, delivers: 'running' },
];

export async function openHouse(t: TestContext, options: HouseOptions): Promise<House> {
  const { pool, providers = PROVIDERS, script = (): Script => counting(), clock = systemClock } = options;
  const folder = mkdtempSync(join(tmpdir(), 'underbid-acceptance-'));
  const store = await openStore(join(folder, 'underbid.db'));
  const gateway = await startGateway(t, {
    servers: 0,
    creditUsd: '100.00',
    supervised: true,
    ...(options.clock ? { clock: options.clock } : {}),
    limits: { requestsMax: 1000, keyConcurrency: 1000 },
    pool: { bid_window_s: 0, runway_s: 60, ...pool },
  });
  const market = new ServedMarket(t, { clock, providers, script });
  const upstream = createUndiciUpstream({ connectMs: 2000, connectionsMax: 64, headerBytesMax: 16_384 });
  const records = new SchedulerRecords(store);
  const scheduler = new Scheduler({
    clock,
    records,
    pools: gateway.pools,
    markets: new Map([[market.name, market]]),
    newId: createIds(systemRandom),
    epoch: store.epoch,
    log: () => undefined,
    probe: (target, spec, signal) => probeModelServer(upstream, target, spec, signal),
    proveResumption: (target, spec, signal) => proveResumption(upstream, target, spec, signal),
  });
  await scheduler.start();
  t.after(async () => {
    await scheduler.stop();
    await upstream.close();
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { gateway, scheduler, records, market };
}

/** A market whose deliveries are model servers on real sockets: they are there from the deployment to the lease's end. */
export class ServedMarket extends FakeMarket {
  /** By lease, also those that are gone. */
  readonly servers = new Map<string, FakeModelServer>();
  /** Leases that were open at a time. */
  most = 0;
  readonly #t: TestContext;
  readonly #script: (provider: string) => Script;

  constructor(t: TestContext, options: Required<Pick<HouseOptions, 'clock' | 'providers' | 'script'>>) {
    super({ ...options, terms: { blockMs: 100 } });
    this.#t = t;
    this.#script = options.script;
  }

  override async accept(...given: Parameters<FakeMarket['accept']>): ReturnType<FakeMarket['accept']> {
    const outcome = await super.accept(...given);
    this.most = Math.max(this.most, this.open().length);
    return outcome;
  }

  override async deploy(leaseId: string): ReturnType<FakeMarket['deploy']> {
    const provider = this.world.leases.get(leaseId)?.provider ?? '';
    this.servers.set(leaseId, await startModelServer(this.#t, this.#script(provider)));
    return super.deploy(leaseId);
  }

  override deliver(...given: Parameters<FakeMarket['deliver']>): void {
    super.deliver(...given);
    const [leaseId] = given;
    const delivery = this.world.deliveries.get(leaseId);
    const url = this.servers.get(leaseId)?.url;
    if (delivery?.url && url !== undefined) this.world.deliveries.set(leaseId, { ...delivery, url });
  }

  /** With the lease goes the machine, and whatever it is in the middle of. */
  override async close(...given: Parameters<FakeMarket['close']>): ReturnType<FakeMarket['close']> {
    const outcome = await super.close(...given);
    await this.servers.get(given[0])?.stop();
    return outcome;
  }
}

/** Counts: "t0 t1 t2 ", a token each `stepMs`, and goes on with a count that another one began. */
export function counting(stepMs = 20): Script {
  return async (turn) => {
    const { messages, max_tokens: most, stream } = turn.body as unknown as Asked;
    const last = messages.at(-1);
    const begun = last?.role === 'assistant' ? last.content.split(' ').length - 1 : 0;
    const pieces = Array.from({ length: most ?? 1 }, (_, at) => `t${begun + at} `);
    if (stream !== true) {
      await turn.sleep(stepMs);
      return json(200, wholeOf({ pieces }))(turn);
    }
    turn.streamHead();
    for (const event of eventsOf({ pieces })) {
      await turn.write(event);
      await turn.sleep(stepMs);
    }
    turn.end();
  };
}

interface Asked {
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly max_tokens?: number;
  readonly stream?: boolean;
}

/** The text of a count of so many tokens. */
export const countTo = (tokens: number): string => Array.from({ length: tokens }, (_, at) => `t${at} `).join('');

/** As an operator changes it over the admin API. */
export function resize({ gateway, scheduler }: House, replicasMin: number, replicasMax: number): void {
  gateway.pools.put({ ...gateway.router.spec, replicasMin, replicasMax }, 1, 'api');
  scheduler.wake();
}

export async function untilReady({ gateway }: House, count: number): Promise<void> {
  await until(`${count} are ready`, () => gateway.router.stats.ready === count, PATIENCE_MS);
}

/** For what takes a second where nothing else runs. */
export const PATIENCE_MS = 60_000;

interface Told {
  readonly status: number;
  readonly text: string | undefined;
  readonly done: boolean;
  readonly error: string | null;
}

export interface Load {
  /** So many ask, one question after another. */
  clients: number;
  readonly told: Told[];
  stop(): Promise<void>;
}

/** Clients that stream answers of so many tokens, one after another. */
export function startLoad({ gateway }: House, clients: number, tokens: number): Load {
  const told: Told[] = [];
  let going = true;
  const ask = async (): Promise<Told> => {
    const response = await gateway.chat({ stream: true, max_tokens: tokens });
    const { status } = response;
    if (status !== 200) return { status, text: await response.text(), done: false, error: null };
    const { texts, done, error } = await streamOf(response);
    return { status, text: texts[0], done, error: error?.code ?? null };
  };
  const client = async (number: number): Promise<void> => {
    while (going) {
      if (number >= load.clients) await systemClock.sleep(20);
      else told.push(await ask());
    }
  };
  const load: Load = {
    clients,
    told,
    stop: async () => {
      going = false;
      await Promise.all(all);
    },
  };
  const all = Array.from({ length: clients }, (_, number) => client(number));
  return load;
}

/** Each one has all of its answer, once. */
export function assertWhole(told: readonly Told[], tokens: number): void {
  assert.ok(told.length >= 6, `${told.length} answers`);
  for (const one of told) assert.deepEqual(one, { status: 200, text: countTo(tokens), done: true, error: null });
}
