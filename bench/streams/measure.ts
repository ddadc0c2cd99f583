import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pinSystem, readCpu, startChild, type Child, type CpuUse, type Placement } from '../child.ts';
import { watchNoise, type Noise } from '../noise.ts';
import { chatRequest } from '../overhead/chat.ts';
import type { Opened, OpenOrder, Total, Window } from './client.ts';
import { problemsOfBooks, readBooks, startStreamGateway, type Books, type StreamGateway } from './gateway.ts';

export const SYSTEMS = ['direct', 'dispatch', 'underbid'] as const;
export type SystemName = (typeof SYSTEMS)[number];

export interface MeasureJob {
  readonly system: SystemName;
  readonly streams: number;
  readonly round: number;
  readonly seconds: number;
  readonly intervalMs: number;
  readonly folder: string;
  readonly placement: Placement | undefined;
  readonly signal: AbortSignal;
}

/** One system with so many streams in one round, every process of it fresh: memory that was once taken is not given back. */
export interface Measure {
  readonly system: SystemName;
  readonly scenario: string;
  readonly streams: number;
  readonly round: number;
  readonly opened: Opened;
  readonly window: Window;
  readonly failed: number;
  readonly cpuUs: number;
  readonly mainThreadCpuUs: number;
  /** Of the client and the model server together. */
  readonly clientCpuUs: number;
  /** Resident memory before the streams were opened, and with all of them open at the end of the window. */
  readonly rssBaseKib: number;
  readonly rssOpenKib: number;
  readonly noise: Noise;
  readonly books: Books | undefined;
  readonly problems: readonly string[];
}

const WARM_STREAMS = 100;
/** Less than the 4,096 slots that a pool may give a replica, so that a replica that is a little fuller than the others has room. */
const STREAMS_PER_PORT = 3000;
const DESCRIPTORS_FOR_FILES = 256;

export async function measure(job: MeasureJob): Promise<Measure> {
  const children: Child[] = [];
  const folder = join(job.folder, `${job.system}-${job.streams}-${job.round}`);
  mkdirSync(folder);
  try {
    const stage = await setStage({ ...job, folder }, children);
    const warm = await runWarmUp(stage, job);
    const main = await runStreams(stage, job);
    const totals = [warm, main.total];
    const failed = totals.reduce((sum, total) => sum + total.failed, 0);
    const firstFailure = totals.find((total) => total.firstFailure !== undefined)?.firstFailure;
    const problems = failed === 0 ? [] : [`${failed} streams failed, the first: ${firstFailure}`];
    if (main.window.chunks === 0) problems.push('no chunk came');
    const { gateway } = stage;
    const total = addTotals(totals);
    const books = gateway === undefined ? undefined : await readBooks(gateway, total, () => countUpstream(stage));
    if (books !== undefined) problems.push(...problemsOfBooks(books, total));
    return { ...describe(job), ...main, failed, books, problems };
  } finally {
    await Promise.all(children.map((child) => child.stop()));
  }
}

function describe({ system, streams, round }: MeasureJob): Pick<Measure, 'system' | 'scenario' | 'streams' | 'round'> {
  return { system, scenario: `s${streams}`, streams, round };
}

function addTotals(totals: readonly Total[]): Total {
  const sum = (key: 'answered' | 'failed' | 'promptTokens' | 'completionTokens' | 'costUsd'): number =>
    totals.reduce((all, total) => all + total[key], 0);
  return {
    answered: sum('answered'),
    failed: sum('failed'),
    firstFailure: undefined,
    promptTokens: sum('promptTokens'),
    completionTokens: sum('completionTokens'),
    costUsd: sum('costUsd'),
  };
}

interface Stage {
  readonly mock: Child;
  readonly mockControl: string;
  readonly client: Child;
  readonly clientControl: string;
  readonly port: number;
  readonly key: string;
  /** Whose CPU and memory count: for `direct` the model server's own. */
  readonly pid: number;
  readonly gateway: StreamGateway | undefined;
  readonly signal: AbortSignal;
}

async function setStage(job: MeasureJob, children: Child[]): Promise<Stage> {
  const { folder, placement, signal, streams, system } = job;
  const start = async (path: string, args: readonly unknown[], cores: string | undefined): Promise<Child> => {
    const file = fileURLToPath(new URL(path, import.meta.url));
    const child = await startChild({ file, args: args.map(String), folder, ready: / ready on /, cores, signal });
    children.push(child);
    return child;
  };
  const mock = await start(
    './paced-server.ts',
    [Math.ceil(streams / STREAMS_PER_PORT), job.intervalMs],
    placement?.rest,
  );
  const [, list = '', mockControl = ''] = /ready on ([\d,]+) steered by (http:\S+)/.exec(mock.line) ?? [];
  const ports = list.split(',').map(Number);
  const client = await start('./client.ts', [], placement?.rest);
  const clientControl = /http:\S+/.exec(client.line)?.[0] ?? '';
  const parts = { mock, mockControl, client, clientControl, signal, key: 'sk-ub-'.padEnd(49, '0') };
  const [firstPort = 0] = ports;
  if (system === 'direct') return { ...parts, port: firstPort, pid: mock.pid, gateway: undefined };
  if (system === 'dispatch') {
    const upstream = `http://127.0.0.1:${firstPort}`;
    const child = await start('../overhead/dispatch-proxy.ts', [upstream, 0, streams + 1], placement?.all);
    return { ...parts, port: Number(/:(\d+)\s*$/.exec(child.line)?.[1]), pid: child.pid, gateway: undefined };
  }
  const cores = placement?.all;
  const gateway = await startStreamGateway({ folder, mockPorts: ports, streams, cores, signal });
  children.push(gateway.child);
  return { ...parts, port: gateway.port, key: gateway.key, pid: gateway.child.pid, gateway };
}

/** Compiles what is hot in every process; what it costs is no stream's. */
async function runWarmUp(stage: Stage, job: MeasureJob): Promise<Total> {
  await openStreams(stage, Math.min(job.streams, WARM_STREAMS));
  await sleep(Math.min(2 * job.intervalMs, 3000), undefined, { signal: job.signal });
  return endStreams(stage);
}

type Figures = Pick<
  Measure,
  'opened' | 'window' | 'cpuUs' | 'mainThreadCpuUs' | 'clientCpuUs' | 'rssBaseKib' | 'rssOpenKib' | 'noise'
>;

async function runStreams(stage: Stage, job: MeasureJob): Promise<Figures & { readonly total: Total }> {
  const { pid, mock, client } = stage;
  const { placement, signal, seconds, intervalMs } = job;
  if (job.system !== 'direct' && placement !== undefined) pinSystem(pid, placement);
  const rssBaseKib = readRssKib(pid);
  const opened = await openStreams(stage, job.streams);
  // Holds are in the journal once they are a second old: what that costs is over before the window.
  await sleep(Math.max(2 * intervalMs, 2000), undefined, { signal });
  const readClientUs = (): number => [client, mock].reduce((sum, child) => sum + readCpu(child.pid).processUs, 0);
  const none: CpuUse = { processUs: 0, mainThreadUs: 0 };
  const readSystem = (): CpuUse => (job.system === 'direct' ? none : readCpu(pid));
  const readNoise = watchNoise([process.pid, client.pid, mock.pid, ...(pid === mock.pid ? [] : [pid])]);
  const before = { system: readSystem(), clientUs: readClientUs() };
  await ask(stage, `${stage.clientControl}/window/begin`);
  await sleep(seconds * 1000, undefined, { signal });
  const window = await ask<Window>(stage, `${stage.clientControl}/window/end`);
  const after = { system: readSystem(), clientUs: readClientUs() };
  const noise = readNoise();
  const rssOpenKib = readRssKib(pid);
  const total = await endStreams(stage);
  return {
    opened,
    window,
    total,
    rssBaseKib,
    rssOpenKib,
    noise,
    cpuUs: after.system.processUs - before.system.processUs,
    mainThreadCpuUs: after.system.mainThreadUs - before.system.mainThreadUs,
    clientCpuUs: after.clientUs - before.clientUs,
  };
}

function openStreams(stage: Stage, streams: number): Promise<Opened> {
  const { port, key, clientControl } = stage;
  const request = chatRequest({ port, key, stream: true, maxTokens: MAX_TOKENS }).toString('latin1');
  const order: OpenOrder = { port, streams, request };
  return ask<Opened>(stage, `${clientControl}/open`, order);
}

/** More than a stream has chunks in the longest run: no hold has to grow. */
const MAX_TOKENS = 2000;

async function endStreams(stage: Stage): Promise<Total> {
  await ask(stage, `${stage.mockControl}/finish`);
  return ask<Total>(stage, `${stage.clientControl}/end`);
}

async function countUpstream(stage: Stage): Promise<number> {
  return (await ask<{ open: number }>(stage, `${stage.mockControl}/open`)).open;
}

const ASK_MS = 300_000;

async function ask<T>({ signal }: Stage, url: string, body: object = {}): Promise<T> {
  const late = AbortSignal.timeout(ASK_MS);
  try {
    const limit = AbortSignal.any([signal, late]);
    const response = await fetch(url, { method: 'POST', body: JSON.stringify(body), signal: limit });
    const text = await response.text();
    if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text.slice(0, 300)}`);
    return JSON.parse(text) as T;
  } catch (error) {
    if (late.aborted) throw new Error(`${url}: not done within ${ASK_MS / 1000} s`, { cause: error });
    throw error;
  }
}

function readRssKib(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? Number.NaN);
  } catch {
    return Number.NaN;
  }
}

/** Descriptors that a process may have; the proxies need two a stream. */
export function readStreamsMax(): number {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
    return limit === undefined ? Infinity : Math.floor((Number(limit) - DESCRIPTORS_FOR_FILES) / 2);
  } catch {
    return Infinity;
  }
}
