import { request } from 'node:http';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Readable } from 'node:stream';
import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { PoolKind } from '../../spec.ts';
import type { Ms, Tokens } from '../../units.ts';
import { spawnGuarded, type Guarded, type GuardedExit } from './guard.ts';
import type { LlamaRuntime } from './runtime.ts';
import { redact, Tail } from './tail.ts';

export interface ModelServerOptions {
  readonly runtime: LlamaRuntime;
  readonly kind?: PoolKind;
  /** What it calls its model. */
  readonly alias: string;
  readonly slots: number;
  readonly contextTokensPerSlot: Tokens;
  readonly apiKey: string;
  /** Address to listen on. Default: loopback, since whoever else wants it goes through the gateway. */
  readonly host?: string | undefined;
  /**
   * Default: all cores but one. All servers together must not ask for more than the cores: ggml's threads spin while they
   * wait for each other, so two servers of two threads on two cores made 2 tokens/s together, of one thread each 143.
   */
  readonly threads?: number | undefined;
  /** Of it the server gets what concerns paths and devices, nothing else. Default: ours. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly listenTimeoutMs: Ms;
}

export interface ModelServerExit {
  readonly code: number | null;
  readonly signal: string | null;
  /** The last lines it wrote to stderr, at most 8 KiB, without its key. */
  readonly detail: string;
}

export interface ModelServer {
  /** Base address, without `/v1`. */
  readonly url: string;
  readonly pid: number;
  readonly exited: Promise<ModelServerExit>;
  /** The last lines it wrote to stderr, at most 8 KiB, without its key. */
  tail(): string;
  /** Resolves when the process is gone. Idempotent. */
  stop(): Promise<void>;
}

const LOOPBACK = '127.0.0.1';
const PORT_TRIES = 5;
const PROBE_EVERY_MS = 50;
const STOP_GRACE_MS = 2_000;
/** Memory for the prompts of idle slots. */
const CACHE_MIB = 256;
const LAUNCHER = fileURLToPath(new URL('launcher.py', import.meta.url));
/** Devices, libraries and places; no secrets, and no LLAMA_ARG_* that would change what we ask for. */
const ENV_PASSED =
  /^(PATH|HOME|LANG|LC_[A-Z]+|TMPDIR|(DY)?LD_LIBRARY_PATH|XDG_[A-Z_]+|(CUDA|NVIDIA|HIP|ROCR|VK|GGML|OMP)_\w+)$/;

interface Launched {
  readonly guarded: Guarded;
  readonly stderr: Tail;
  readonly url: Promise<string>;
}

/**
 * Starts a model server and resolves when it answers requests that carry its key. Throws AppError `setup_failed` when it
 * ends or stays silent, and the signal's reason when aborted; no process is left then.
 */
export async function startModelServer(options: ModelServerOptions): Promise<ModelServer> {
  for (let tries = 1; ; tries += 1) {
    options.signal?.throwIfAborted();
    const launched = options.runtime.kind === 'xllamacpp' ? launchPython(options) : await launchBinary(options);
    try {
      return await whenReady(launched, options);
    } catch (error) {
      await launched.guarded.end(0);
      // A port that was free when we looked may be taken when the server binds it.
      const clash = options.runtime.kind === 'llama-server' && isPortClash(launched.stderr.text());
      if (clash && error instanceof EndedEarly && tries < PORT_TRIES) continue;
      throw startFailure(error, launched, options);
    }
  }
}

class EndedEarly extends Error {}
class TooLate extends Error {}

async function whenReady(launched: Launched, options: ModelServerOptions): Promise<ModelServer> {
  const { guarded, stderr } = launched;
  const timeout = new AbortController();
  const stopTimer = options.clock.timer(options.listenTimeoutMs, () => timeout.abort(new TooLate('too late')));
  const signals = options.signal === undefined ? [timeout.signal] : [timeout.signal, options.signal];
  const limit = AbortSignal.any(signals);
  try {
    const ended = guarded.exited.then((exit) => Promise.reject(new EndedEarly(describeExit(exit))));
    const cut = new Promise<never>((_resolve, reject) => {
      limit.addEventListener('abort', () => reject(reasonOf(limit)), { once: true });
    });
    // Whichever loses the race is handled here, not by the process.
    for (const loser of [ended, cut]) loser.catch(() => {});
    const [url, pid] = await Promise.race([ended, cut, untilAnswering(launched, options, limit)]);
    return {
      url,
      pid,
      exited: guarded.exited.then((exit) => {
        const detail = detailOf(stderr, options) || describeExit(exit);
        return { code: exit.code, signal: exit.signal, detail };
      }),
      tail: () => detailOf(stderr, options),
      stop: () => guarded.end(STOP_GRACE_MS),
    };
  } finally {
    stopTimer();
    timeout.abort();
  }
}

async function untilAnswering(
  launched: Launched,
  options: ModelServerOptions,
  limit: AbortSignal,
): Promise<[string, number]> {
  const url = await launched.url;
  // A route that asks for the key: on a port that another program took, it would not be ours that says 200.
  while ((await statusOf(`${url}/props`, options.apiKey, limit)) !== 200) {
    await options.clock.sleep(PROBE_EVERY_MS, limit);
  }
  const pid = await launched.guarded.pid;
  if (pid === null) throw new EndedEarly('it has no process');
  return [url, pid];
}

function launchPython(options: ModelServerOptions): Launched {
  const { runtime, clock } = options;
  const env = passedEnv(options.env ?? process.env);
  // -I: neither PYTHON* nor the user's own packages change what runs.
  const guarded = spawnGuarded({ command: runtime.command, args: ['-I', LAUNCHER], env, clock });
  const stderr = new Tail().read(guarded.stderr);
  const config = {
    model: runtime.modelPath,
    alias: options.alias,
    host: options.host ?? LOOPBACK,
    port: 0,
    api_key: options.apiKey,
    slots: options.slots,
    context_tokens: options.slots * options.contextTokensPerSlot,
    threads: threadsOf(options),
    embeddings: options.kind === 'embeddings',
    input_tokens: options.contextTokensPerSlot,
    cache_mib: CACHE_MIB,
  };
  // Left open: the launcher ends with it.
  guarded.stdin.write(`${JSON.stringify(config)}\n`);
  return { guarded, stderr, url: readAddress(guarded.stdout, addressOf(options)) };
}

async function launchBinary(options: ModelServerOptions): Promise<Launched> {
  const { runtime, clock } = options;
  const host = options.host ?? LOOPBACK;
  const port = await findFreePort(host);
  const args = ['--model', runtime.modelPath, '--alias', options.alias, '--host', host, '--port', String(port)];
  args.push('--parallel', String(options.slots), '--metrics');
  args.push(
    '--ctx-size',
    String(options.slots * options.contextTokensPerSlot),
    '--threads',
    String(threadsOf(options)),
  );
  if (options.kind === 'embeddings') {
    // An input is worked on in one batch or not at all.
    const inputTokens = String(options.contextTokensPerSlot);
    args.push('--embeddings', '--pooling', 'mean', '--batch-size', inputTokens, '--ubatch-size', inputTokens);
  }
  const env = passedEnv(options.env ?? process.env);
  // By environment: the key, and what older builds don't know as an argument and would refuse to start with.
  env['LLAMA_API_KEY'] = options.apiKey;
  env['LLAMA_ARG_CACHE_RAM'] = String(CACHE_MIB);
  const guarded = spawnGuarded({ command: runtime.command, args, env, clock });
  guarded.stdin.end();
  guarded.stdout.resume();
  const stderr = new Tail().read(guarded.stderr);
  return { guarded, stderr, url: Promise.resolve(`${addressOf(options)}:${port}`) };
}

/** Where we reach it, without the port: one that listens everywhere is reached on loopback. */
function addressOf({ host = LOOPBACK }: ModelServerOptions): string {
  const reached = host === '0.0.0.0' ? LOOPBACK : host === '::' ? '::1' : host;
  return `http://${reached.includes(':') ? `[${reached}]` : reached}`;
}

/** The launcher's one line; never settles when there is none, for then the process ends. */
function readAddress(stdout: Readable, address: string): Promise<string> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: stdout, crlfDelay: Infinity });
    lines.on('line', (line) => {
      const port = /^\{"listening": "http:\/\/[0-9A-Za-z.:[\]-]+:(\d+)"\}$/.exec(line)?.[1];
      if (port !== undefined) resolve(`${address}:${port}`);
    });
  });
}

function statusOf(url: string, apiKey: string, signal: AbortSignal): Promise<number | null> {
  return new Promise((resolve) => {
    const call = request(url, { headers: { authorization: `Bearer ${apiKey}` }, agent: false, signal }, (response) => {
      response.resume();
      response.once('error', () => {});
      resolve(response.statusCode ?? null);
    });
    call.once('error', () => resolve(null));
    call.end();
  });
}

function findFreePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, host, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

function threadsOf(options: ModelServerOptions): number {
  return options.threads ?? Math.max(1, availableParallelism() - 1);
}

function passedEnv(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => ENV_PASSED.test(name)));
}

function isPortClash(stderr: string): boolean {
  return /couldn't bind|failed to bind|address already in use|EADDRINUSE/i.test(stderr);
}

function startFailure(error: unknown, launched: Launched, options: ModelServerOptions): unknown {
  if (options.signal?.aborted) return reasonOf(options.signal);
  const cause = new Error(detailOf(launched.stderr, options));
  if (error instanceof TooLate) {
    const seconds = Math.round(options.listenTimeoutMs / 1000);
    return new AppError('setup_failed', `The model server did not answer within ${seconds} s of its start.`, { cause });
  }
  if (error instanceof EndedEarly) {
    return new AppError('setup_failed', `The model server ended before it answered: ${error.message}.`, { cause });
  }
  return new AppError('setup_failed', 'The model server could not be started.', { cause: error });
}

function describeExit(exit: GuardedExit): string {
  if (exit.error !== null) return 'it could not be run';
  return exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`;
}

function detailOf(stderr: Tail, options: ModelServerOptions): string {
  return redact(stderr.text(), [options.apiKey]);
}

function reasonOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error('aborted');
}
