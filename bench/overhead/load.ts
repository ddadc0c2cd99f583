import { connect, type Socket } from 'node:net';
import { Histogram } from './histogram.ts';
import { ResponseReader } from './response-reader.ts';

export interface LoadOptions {
  readonly port: number;
  /** Keep-alive connections, each with one request at a time. */
  readonly connections: number;
  /** Head and body of the request, the same every time. */
  readonly request: Buffer;
  readonly stream: boolean;
  /** Events every stream must have; only for `stream`. */
  readonly eventsMin: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly signal: AbortSignal;
  /** Called at the two edges of the measured time. */
  onWindow?(): void;
}

export interface LoadResult {
  /** Good answers that ended within the measured time. */
  readonly requests: number;
  readonly requestsPerS: number;
  /** The measured time. */
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Over the whole run, warm-up too. */
  readonly failures: number;
  readonly firstFailure: string | undefined;
  /** Good answers over the whole run, warm-up and the last ones in flight too: what a ledger must have charged. */
  readonly answered: number;
}

const REQUEST_MS = 10_000;
const RECONNECT_MS = 20;
const READ_BYTES = 65_536;
/** Beyond these the rest of the run tells nothing new. */
const FAILURES_MAX = 1000;

/** Takes warm-up, measured time and at most `REQUEST_MS` for what is in flight then. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  options.signal.throwIfAborted();
  const run = new Run(options);
  try {
    run.start();
    await pause(options.warmUpMs, options.signal);
    run.openWindow();
    options.onWindow?.();
    await pause(options.measureMs, options.signal);
    options.onWindow?.();
    run.closeWindow();
    await run.drained;
  } finally {
    run.end();
  }
  options.signal.throwIfAborted();
  return run.result();
}

class Run {
  readonly options: LoadOptions;
  readonly #latencies = new Histogram();
  readonly #lines: Line[];
  readonly #drained = Promise.withResolvers<void>();
  readonly #watch: NodeJS.Timeout;
  #failures = 0;
  #firstFailure: string | undefined;
  #answered = 0;
  #measuring = false;
  #going = true;
  #openedAt = 0;
  #seconds = 0;

  constructor(options: LoadOptions) {
    this.options = options;
    this.#lines = Array.from({ length: options.connections }, () => new Line(this));
    this.#watch = setInterval(() => this.#expire(), 250);
  }

  get drained(): Promise<void> {
    return this.#drained.promise;
  }

  /** Whether a connection that is free takes another request. */
  get going(): boolean {
    return this.#going && this.#failures < FAILURES_MAX;
  }

  start(): void {
    for (const line of this.#lines) line.open();
  }

  openWindow(): void {
    this.#latencies.clear();
    this.#measuring = true;
    this.#openedAt = performance.now();
  }

  closeWindow(): void {
    this.#seconds = (performance.now() - this.#openedAt) / 1000;
    this.#measuring = false;
    this.#going = false;
    this.idle();
  }

  end(): void {
    this.#going = false;
    clearInterval(this.#watch);
    for (const line of this.#lines) line.close();
  }

  answered(us: number): void {
    this.#answered += 1;
    if (this.#measuring) this.#latencies.record(us);
  }

  failed(why: string): void {
    this.#failures += 1;
    this.#firstFailure ??= why;
  }

  /** To be called whenever a connection has nothing in flight. */
  idle(): void {
    if (!this.#going && this.#lines.every((line) => line.startedAt === undefined)) this.#drained.resolve();
  }

  result(): LoadResult {
    const requests = this.#latencies.total;
    return {
      requests,
      requestsPerS: requests / this.#seconds,
      seconds: this.#seconds,
      p50Us: this.#latencies.quantile(0.5),
      p99Us: this.#latencies.quantile(0.99),
      failures: this.#failures,
      firstFailure: this.#firstFailure,
      answered: this.#answered,
    };
  }

  #expire(): void {
    const before = performance.now() - REQUEST_MS;
    for (const line of this.#lines) {
      if (line.startedAt !== undefined && line.startedAt < before) line.fail('no end in time');
    }
  }
}

/** One connection; opened anew after a failure. */
class Line {
  readonly #run: Run;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  #socket: Socket | undefined;
  #reader: ResponseReader;
  #retry: NodeJS.Timeout | undefined;
  /** When the request in flight was sent; undefined between requests. */
  startedAt: number | undefined;

  constructor(run: Run) {
    this.#run = run;
    this.#reader = new ResponseReader(run.options);
  }

  open(): void {
    const socket = connect({
      port: this.#run.options.port,
      host: '127.0.0.1',
      noDelay: true,
      // Past the stream machinery of sockets: the client shares its core with the model server.
      onread: { buffer: this.#buffer, callback: (length, buffer) => this.#read(buffer, length) },
    });
    this.#socket = socket;
    this.#reader = new ResponseReader(this.#run.options);
    this.startedAt = performance.now();
    socket.on('connect', () => this.#send(performance.now()));
    socket.on('error', (error) => this.#lost(socket, error.message));
    socket.on('close', () => this.#lost(socket, 'the connection was closed'));
  }

  close(): void {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
  }

  fail(why: string): void {
    this.startedAt = undefined;
    this.#run.failed(why);
    this.close();
    if (this.#run.going) this.#retry = setTimeout(() => this.open(), RECONNECT_MS);
    else this.#run.idle();
  }

  #send(now: number): void {
    if (!this.#run.going) {
      this.startedAt = undefined;
      this.#run.idle();
      return;
    }
    this.startedAt = now;
    this.#socket?.write(this.#run.options.request);
  }

  /** True asks the socket for more. */
  #read(buffer: Uint8Array, length: number): boolean {
    if (this.startedAt === undefined) return true;
    const outcome = this.#reader.feed(Buffer.from(buffer.buffer, buffer.byteOffset, length));
    if (outcome === undefined) return true;
    if (outcome !== 'ok') {
      this.fail(outcome);
      return false;
    }
    const now = performance.now();
    this.#run.answered((now - this.startedAt) * 1000);
    this.#send(now);
    return true;
  }

  #lost(socket: Socket, why: string): void {
    // A socket already given up closes too; that is no second failure.
    if (socket !== this.#socket) return;
    if (this.startedAt !== undefined) this.fail(why);
    else this.close();
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = (): void => reject(new Error('stopped', { cause: signal.reason }));
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', onAbort);
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  });
}
