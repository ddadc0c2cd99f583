/**
 * Opens thousands of streams and reads them, steered over HTTP so that the benchmark's own process has nothing to do
 * while it measures: `POST /open` with an `OpenOrder` answers when all streams have begun or failed, `POST /window/begin`
 * and `POST /window/end` are the edges of the measured time, `POST /end` answers when all streams have ended.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { Histogram } from '../overhead/histogram.ts';
import { monotonicUs } from './paced-replies.ts';
import { StreamReader } from './stream-reader.ts';

export interface OpenOrder {
  readonly port: number;
  readonly streams: number;
  /** The request, head and body. */
  readonly request: string;
}

export interface Opened {
  readonly opened: number;
  readonly seconds: number;
  readonly failed: number;
  readonly firstFailure: string | undefined;
}

export interface Window {
  readonly chunks: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Of all streams since the last `/end`. */
export interface Total {
  readonly answered: number;
  readonly failed: number;
  readonly firstFailure: string | undefined;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly costUsd: number;
}

/** Asked for and not begun: the accept queue of whatever is measured is not what is measured. */
const OPENING_MAX = 64;
/** Reads are one after another, so one buffer serves all sockets: one each would be more than the gateway has. */
const BUFFER = Buffer.allocUnsafeSlow(65_536);

const latencies = new Histogram();
let measuring = false;
let begunAt = 0;
let live = 0;
let opening = 0;
let toOpen = 0;
let opened = 0;
let order: OpenOrder | undefined;
let onChange = (): void => undefined;
let total = nothing();

function nothing(): { -readonly [K in keyof Total]: Total[K] } {
  return { answered: 0, failed: 0, firstFailure: undefined, promptTokens: 0, completionTokens: 0, costUsd: 0 };
}

function record(stampUs: number): void {
  if (measuring) latencies.record(monotonicUs() - stampUs);
}

function openMore(): void {
  while (toOpen > 0 && opening < OPENING_MAX && order !== undefined) {
    toOpen -= 1;
    opening += 1;
    live += 1;
    openOne(order);
  }
}

function openOne({ port, request }: OpenOrder): void {
  let state: 'opening' | 'open' | 'over' = 'opening';
  const reader = new StreamReader(record);
  const begin = (): void => {
    state = 'open';
    opening -= 1;
    opened += 1;
    openMore();
    onChange();
  };
  const end = (problem: string | undefined): void => {
    if (state === 'over') return;
    if (state === 'opening') opening -= 1;
    state = 'over';
    live -= 1;
    if (reader.ended === undefined) {
      total.failed += 1;
      total.firstFailure ??= problem ?? 'no reason';
    } else {
      const { promptTokens, completionTokens, cost } = reader.ended;
      total.answered += 1;
      total.promptTokens += promptTokens;
      total.completionTokens += completionTokens;
      total.costUsd += cost;
    }
    socket.destroy();
    openMore();
    onChange();
  };
  const read = (length: number): boolean => {
    reader.feed(BUFFER.toString('latin1', 0, length));
    if (state === 'opening' && reader.chunks > 0) begin();
    if (reader.problem !== undefined || reader.ended !== undefined) end(reader.problem);
    return true;
  };
  const socket = connect({
    port,
    host: '127.0.0.1',
    noDelay: true,
    onread: { buffer: BUFFER, callback: read },
  });
  socket.on('connect', () => socket.write(request));
  socket.on('error', (error) => end(error.message));
  socket.on('close', () => end('the connection was closed'));
}

function until(check: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    onChange = () => {
      if (check()) resolve();
    };
    onChange();
  });
}

const ACTIONS: Readonly<Record<string, (body: string) => Promise<Opened | Window | Total | object>>> = {
  '/open': async (body) => {
    order = JSON.parse(body) as OpenOrder;
    const startedAt = performance.now();
    opened = 0;
    toOpen = order.streams;
    openMore();
    await until(() => toOpen === 0 && opening === 0);
    const { failed, firstFailure } = total;
    return { opened, seconds: (performance.now() - startedAt) / 1000, failed, firstFailure };
  },
  '/window/begin': async () => {
    latencies.clear();
    measuring = true;
    begunAt = performance.now();
    return {};
  },
  '/window/end': async () => {
    measuring = false;
    const [p50Us, p99Us] = [latencies.quantile(0.5), latencies.quantile(0.99)];
    return { chunks: latencies.total, seconds: (performance.now() - begunAt) / 1000, p50Us, p99Us };
  },
  '/end': async () => {
    await until(() => live === 0);
    const result = total;
    total = nothing();
    return result;
  },
};

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

const control = createServer((request, response) => {
  const action = ACTIONS[request.url ?? ''];
  bodyOf(request)
    .then((body) => action?.(body) ?? {})
    .then(
      (result) => response.end(JSON.stringify(result)),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
});
process.stdin.on('end', () => process.exit(0)).resume();
process.once('SIGTERM', () => process.exit(0));
control.listen(0, '127.0.0.1', () => {
  console.log(`client ready on http://127.0.0.1:${(control.address() as AddressInfo).port}`);
});
