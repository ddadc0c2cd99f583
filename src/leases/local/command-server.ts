import { request } from 'node:http';
import { createServer } from 'node:net';
import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import type { Workload } from '../market.ts';
import { fillCommand } from './command-line.ts';
import type { RunningServer } from './delivery.ts';
import { spawnGuarded } from './guard.ts';
import { redact, Tail } from './tail.ts';

export interface CommandServerOptions {
  /** As `splitCommand` gives them. */
  readonly words: readonly string[];
  readonly workload: Workload;
  readonly apiKey: string;
  /** The address to listen on. */
  readonly host: string;
  readonly index: number;
  /** What it inherits; its key is added under the names that engines know. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly listenTimeoutMs: Ms;
}

const PROBE_EVERY_MS = 250;
const PROBE_MS = 5_000;
const STOP_GRACE_MS = 10_000;

/**
 * Starts a provider's own command as a model server and resolves when it answers requests that carry its key. It dies with
 * us. Rejects when it ends or stays silent, and with the signal's reason when aborted; no process is left then.
 * @returns with the address on this machine
 */
export async function startCommandServer(options: CommandServerOptions): Promise<RunningServer> {
  const { words, workload, apiKey: key, host, index, clock, signal } = options;
  const port = await findFreePort(host);
  const [command = '', ...args] = fillCommand(words, { workload, host, port, key, index });
  // The environment is its owner's alone, a command line is everybody's.
  const keys = { VLLM_API_KEY: key, LLAMA_API_KEY: key, UNDERBID_LEASE_KEY: key };
  signal.throwIfAborted();
  const guarded = spawnGuarded({ command, args, env: { ...options.env, ...keys }, clock });
  guarded.stdin.end();
  const output = new Tail().read(guarded.stdout).read(guarded.stderr);
  const detail = (): string => redact(output.text(), [key]).slice(-600);
  const url = `http://${host.includes(':') ? `[${reachable(host)}]` : reachable(host)}:${port}`;
  const over = new AbortController();
  const stopTimer = clock.timer(options.listenTimeoutMs, () => over.abort(new Error('it did not answer in time')));
  const limit = AbortSignal.any([over.signal, signal]);
  void guarded.exited.then(() => over.abort(new Error('it ended before it answered')));
  try {
    while ((await statusOf(`${url}/v1/models`, key, clock, limit)) !== 200) {
      await clock.sleep(PROBE_EVERY_MS, limit);
      limit.throwIfAborted();
    }
  } catch (error) {
    await guarded.end(0);
    signal.throwIfAborted();
    const why = error instanceof Error ? error.message : 'it failed';
    throw new AppError('setup_failed', `the command's model server: ${why}`, { cause: new Error(detail()) });
  } finally {
    stopTimer();
  }
  return {
    url,
    exited: guarded.exited.then(({ code, signal: by }) => ({ detail: detail() || `ended with ${by ?? code}` })),
    stop: () => guarded.end(STOP_GRACE_MS),
  };
}

/** A server that listens everywhere is asked on the loopback address. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

async function statusOf(url: string, key: string, clock: Clock, signal: AbortSignal): Promise<number | null> {
  const late = new AbortController();
  const cancel = clock.timer(PROBE_MS, () => late.abort());
  try {
    return await new Promise((resolve) => {
      const headers = { authorization: `Bearer ${key}` };
      const call = request(url, { headers, agent: false, signal: AbortSignal.any([late.signal, signal]) }, (reply) => {
        reply.resume();
        reply.once('error', () => undefined);
        resolve(reply.statusCode ?? null);
      });
      call.once('error', () => resolve(null));
      call.end();
    });
  } finally {
    cancel();
  }
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
