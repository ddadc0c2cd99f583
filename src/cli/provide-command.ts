import { availableParallelism } from 'node:os';
import process from 'node:process';
import { Option, type Command } from 'commander';
import { loadEnvironment } from '../config/environment.ts';
import { AppError } from '../errors.ts';
import type { MarketCall, CallMarket } from '../leases/local/market-connection.ts';
import type { StartProvided } from '../leases/local/provided-servers.ts';
import type { Workload } from '../leases/market.ts';
import { sendHttp } from './http-call.ts';
import * as flags from './provide-options.ts';
import type { ProvideFlags } from './provide-options.ts';
import { parseAmount, parseSeconds } from './values.ts';
import type { Surface } from './terminal.ts';

const LISTEN_MS = 60_000;
const EVERYWHERE: ReadonlySet<string> = new Set(['0.0.0.0', '::']);
const EMBEDDED_MODEL = 'smollm2-135m';

export function addProvideCommand(program: Command, surface: Surface): void {
  program
    .command('provide')
    .description("join a gateway's market as a provider: bid for its orders, run model servers on this machine")
    .requiredOption('--market <url>', "the gateway's address")
    .requiredOption('--key <ref>', 'the key that its operator gave you, as env:NAME or file:PATH')
    .option('--gpu <model...>', 'GPUs of each machine that you rent out: rtx4090, or h100x8 for eight (default: none)')
    .option('--cpu <n>', 'cores of each (default: all of this one)', flags.parseCores)
    .option('--memory <size>', 'memory of each, such as 64Gi (default: its part of this one)', flags.parseMemory)
    .option('--slots <n>', 'leases at a time, each with all of the above', flags.parseSlots, 1)
    .option('--price <usd>', 'USD an hour, whatever the load', parseAmount)
    .option('--cost <usd>', 'what an hour costs you: the price is made from it', parseAmount)
    .option('--margin <percent>', 'on top of the cost', flags.parsePercent)
    .option('--idle-discount <percent>', 'off the price when nothing runs, none when full', flags.parseDiscount)
    .option('--peak-markup <percent>', 'on top when full, none below 80 % in use', flags.parsePercent)
    .option('--host <address>', 'where model servers listen', flags.parseHost, '127.0.0.1')
    .option('--advertise <host>', 'the name or address that the gateway reaches them at', flags.parseHost)
    .option('--leave-disputes', 'answer disputes by hand (underbid disputes answer), not by the log of this process')
    .option('--command <line>', 'starts a model server (default: the embedded llama.cpp, with its own model)')
    .addOption(
      new Option('--engine <name>', 'bid only for pools of this engine').choices([
        ...['vllm', 'sglang', 'llama.cpp', 'openai'],
      ]),
    )
    .option('--model <name...>', 'bid only for these models')
    .option('--start-timeout <seconds>', 'how long the command may take to answer', parseSeconds, 1800)
    .addHelpText(
      'after',
      '\nThe command has {model}, {host}, {port}, {context}, {slots} (requests at a time), {index} (which of your leases,\n' +
        'from 0) and {key}; no shell reads it. The key is also in VLLM_API_KEY and LLAMA_API_KEY, where no other user of\n' +
        "the machine sees it. Example: --command 'vllm serve {model} --host {host} --port {port} --max-model-len {context}'",
    )
    .action((options: ProvideFlags) => runProvide(surface, options));
}

async function runProvide(surface: Surface, options: ProvideFlags): Promise<void> {
  const { clock, random } = surface;
  const key = flags.keyOf(options, surface);
  const market = flags.marketOf(options);
  const provider = flags.providerOf(options);
  for (const warning of flags.gpuWarnings(provider)) surface.err(warning);
  const stopped = new AbortController();
  const stop = (): void => stopped.abort(new AppError('setup_failed', 'stopped while preparing'));
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    const start = await prepareStart(surface, options, stopped.signal);
    // Late: no other command needs it.
    const { provide } = await import('../leases/local/provide.ts');
    await provide({
      ...{ provider, start, clock, random },
      refuse: (workload) => refuseWorkload(workload, options),
      // A server that listens everywhere is found where the market sees us.
      advertise: options.advertise ?? (EVERYWHERE.has(options.host) ? null : options.host),
      answerDisputes: options.leaveDisputes !== true,
      call: callMarket(surface, market, key.reveal()),
      log: (line) => surface.err(`${new Date(clock.now()).toISOString()} ${line.replaceAll(/\p{Cc}+/gu, ' ')}`),
      onJoined: (id) => surface.out(`underbid provide joined ${market} as ${id}`),
      signal: stopped.signal,
    });
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** One connection per call; the market answers a question for tasks when it has one. */
export function callMarket({ clock }: Surface, market: string, key: string): CallMarket {
  return async ({ method, path, body, timeoutMs, signal }: MarketCall) => {
    const deadline = new AbortController();
    const cancel = clock.timer(timeoutMs, () => deadline.abort(new Error(`no answer in ${timeoutMs / 1000} s`)));
    const text = body === undefined ? undefined : JSON.stringify(body);
    const sized: Record<string, string> =
      text === undefined ? {} : { 'content-type': 'application/json', 'content-length': `${Buffer.byteLength(text)}` };
    const headers = { authorization: `Bearer ${key}`, accept: 'application/json', ...sized };
    try {
      const both = AbortSignal.any([deadline.signal, signal]);
      const reply = await sendHttp(`${market}${path}`, { method, headers, body: text, signal: both });
      return { status: reply.status, body: parseReply(reply.text) };
    } finally {
      cancel();
    }
  };
}

function parseReply(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The embedded server has one model, whatever it is asked to be called. */
function refuseWorkload({ engine, model }: Workload, options: ProvideFlags): string | null {
  const embedded = options.command === undefined;
  const wanted = options.engine ?? (embedded ? 'llama.cpp' : null);
  if (wanted !== null && engine !== wanted) return `serves ${wanted} only`;
  const models = options.model ?? (embedded ? [EMBEDDED_MODEL] : null);
  if (models !== null && !models.includes(model)) return 'does not serve this model';
  return null;
}

async function prepareStart(surface: Surface, options: ProvideFlags, signal: AbortSignal): Promise<StartProvided> {
  const { clock, env } = surface;
  const { host, slots, command } = options;
  const inherited = flags.childEnv(options, env);
  if (command !== undefined) {
    const { splitCommand } = await import('../leases/local/command-line.ts');
    const { startCommandServer } = await import('../leases/local/command-server.ts');
    const words = splitCommand(command);
    const listenTimeoutMs = options.startTimeout * 1000;
    return (request) => startCommandServer({ ...request, words, host, env: inherited, clock, listenTimeoutMs });
  }
  const { drawProgress } = await import('../leases/local/progress.ts');
  const { prepareRuntime } = await import('../leases/local/runtime.ts');
  const { startModelServer } = await import('../leases/local/model-server.ts');
  const { cacheDir } = loadEnvironment(surface);
  const drawing = drawProgress(process.stderr);
  const progress = drawing.report.bind(drawing);
  const runtime = await prepareRuntime({ cacheDir, env, clock, signal, progress }).finally(() => drawing.end());
  // Several may run at once: they share the cores (see the embedded market).
  const threads = Math.max(1, Math.min(4, Math.floor(availableParallelism() / slots)));
  return ({ workload, apiKey, signal: ending }) => {
    const { kind, model: alias, slots: requests, contextTokens } = workload;
    const sizes = { slots: requests, contextTokensPerSlot: contextTokens, threads, listenTimeoutMs: LISTEN_MS };
    return startModelServer({ runtime, kind, alias, apiKey, host, clock, signal: ending, ...sizes });
  };
}
