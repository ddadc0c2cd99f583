import { setTimeout as sleep } from 'node:timers/promises';
import { get, openAccount, sameUsd, startGatewayProcess, type GatewayProcess } from '../gateway-process.ts';
import { POOL } from '../overhead/chat.ts';
import type { Total } from './client.ts';

/** Underbid over owned servers with a slot for every stream, and what its books and counters say afterwards. */
export interface StreamGateway extends GatewayProcess {
  readonly account: string;
  readonly key: string;
}

/** Of one token, in nano-USD; the configuration has USD per million tokens. */
const PRICE_NANO_USD = { input: 20, output: 50 };
const READY_MS = 30_000;
/** The most that a pool's configuration takes. */
const SLOTS_MAX = 4096;

export async function startStreamGateway(options: {
  readonly folder: string;
  readonly mockPorts: readonly number[];
  readonly streams: number;
  readonly cores: string | undefined;
  readonly signal: AbortSignal;
}): Promise<StreamGateway> {
  const { folder, mockPorts, streams, cores, signal } = options;
  const gateway = await startGatewayProcess({ folder, config: configOf(mockPorts, streams), cores, signal });
  try {
    // No more at a time than are asked for: a counter that leaks lets the next run fail.
    const limits = { rpm: 1_000_000_000, tpm: 1_000_000_000_000, concurrency: streams };
    const { account, key } = await openAccount(gateway, limits);
    const until = performance.now() + READY_MS;
    while ((await readState(gateway)).ready < mockPorts.length) {
      if (performance.now() > until) throw new Error('the replicas are not ready');
      await sleep(100, undefined, { signal });
    }
    return { ...gateway, account, key };
  } catch (error) {
    await gateway.child.stop();
    throw error;
  }
}

function configOf(ports: readonly number[], streams: number): string {
  const perMillion = (nanoUsd: number): string => (nanoUsd / 1000).toFixed(2);
  const server = (port: number): string =>
    `      - { url: "http://127.0.0.1:${port}", pool: ${POOL}, slots: ${SLOTS_MAX}, usd_per_hour: "0.10" }\n`;
  return `pools:
  ${POOL}:
    engine: llama.cpp
    resume: off
    model: mock
    context: 8192
    price: { input: "${perMillion(PRICE_NANO_USD.input)}", output: "${perMillion(PRICE_NANO_USD.output)}" }
    markets: [owned]
    replicas: { min: ${ports.length}, max: ${ports.length} }
    slots: ${SLOTS_MAX}
    ceiling_usd_per_hour: "1.00"
markets:
  owned:
    servers:
${ports.map(server).join('')}limits:
  # The admin's requests count too.
  concurrent_requests: ${streams + 16}
`;
}

interface PoolState {
  readonly ready: number;
  readonly waiting: number;
  readonly in_flight: number;
}

async function readState({ port, adminKey }: GatewayProcess): Promise<PoolState> {
  const { data } = (await get(port, '/admin/pools', adminKey)) as { data: readonly { state: PoolState }[] };
  const [pool] = data;
  if (pool === undefined) throw new Error('the gateway has no pool');
  return pool.state;
}

/** A type and not an interface, so that it can stand among the figures. */
export type Books = {
  readonly ledger_check_ok: boolean;
  readonly streams_charged_usd: number;
  readonly ledger_charged_usd: number;
  readonly held_usd: string;
  readonly in_flight: number;
  readonly waiting: number;
  readonly model_server_streams: number;
};

const QUIET_MS = 5000;

/** What the gateway says when every stream has ended, at most `QUIET_MS` after the last one did. */
export async function readBooks(
  gateway: StreamGateway,
  total: Total,
  mockStreams: () => Promise<number>,
): Promise<Books> {
  const { port, adminKey, account } = gateway;
  const until = performance.now() + QUIET_MS;
  for (;;) {
    const about = (await get(port, `/admin/accounts/${encodeURIComponent(account)}`, adminKey)) as {
      held_usd: string;
      used_usd: string;
    };
    const { in_flight, waiting } = await readState(gateway);
    const check = (await get(port, '/admin/ledger/check', adminKey)) as { ok: boolean };
    const books = {
      ledger_check_ok: check.ok,
      streams_charged_usd: Math.round(total.costUsd * 1e9) / 1e9,
      ledger_charged_usd: Number(about.used_usd),
      held_usd: about.held_usd,
      in_flight,
      waiting,
      model_server_streams: await mockStreams(),
    };
    if (problemsOfBooks(books, total).length === 0 || performance.now() > until) return books;
    await sleep(200);
  }
}

/** Whether every stream was charged exactly what its usage said, and nothing is left of any of them. */
export function problemsOfBooks(books: Books, total: Pick<Total, 'promptTokens' | 'completionTokens'>): string[] {
  const problems: string[] = [];
  const expected = (total.promptTokens * PRICE_NANO_USD.input + total.completionTokens * PRICE_NANO_USD.output) / 1e9;
  const { streams_charged_usd: told, ledger_charged_usd: charged, held_usd, in_flight, waiting } = books;
  if (!books.ledger_check_ok) problems.push("the ledger's check failed");
  if (!sameUsd(told, expected)) problems.push(`the streams' tokens cost ${expected} USD, their usage says ${told}`);
  if (!sameUsd(charged, told)) problems.push(`the streams were told ${told} USD, the ledger charged ${charged}`);
  if (Number(held_usd) !== 0) problems.push(`${held_usd} USD are still held`);
  if (in_flight !== 0) problems.push(`${in_flight} slots are still taken`);
  if (waiting !== 0) problems.push(`${waiting} requests still wait`);
  if (books.model_server_streams !== 0) problems.push(`${books.model_server_streams} streams still run upstream`);
  return problems;
}
