import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import type { Command } from 'commander';
import { loadEnvironment } from '../config/environment.ts';
import { AppError } from '../errors.ts';
import { FAULT_NAMES, FAULTS, readFault } from '../leases/akash/devnet/faults.ts';
import { DEFAULT_PROVIDERS } from '../leases/akash/devnet/provider-spec.ts';
import type { Devnet } from '../leases/akash/devnet/network.ts';
import { writeSecret } from '../node/secrets.ts';
import type { Surface } from './terminal.ts';

interface DevnetOptions {
  readonly port?: string;
  readonly fault?: readonly string[];
  readonly blockMs?: string;
}

export function addDevnetCommand(program: Command, surface: Surface): void {
  program
    .command('devnet')
    .description('an emulated Akash network on this machine, to try pools on before paying')
    .option('--port <n>', 'port of its RPC, REST is on the next one (default: any free ones)')
    .option('--block-ms <n>', 'milliseconds from block to block (default: 1000)')
    .option('--fault <name...>', 'start with something going wrong; name=provider: with that provider alone')
    .addHelpText('after', `\nFaults:\n${FAULT_NAMES.map((name) => `  ${name.padEnd(20)}  ${FAULTS[name]}`).join('\n')}`)
    .action((options: DevnetOptions) => runDevnet(surface, options));
}

async function runDevnet(surface: Surface, options: DevnetOptions): Promise<void> {
  const port = readNumber('--port', options.port, { least: 0, most: 65_534 }) ?? 0;
  const blockMs = readNumber('--block-ms', options.blockMs, { least: 10, most: 600_000 }) ?? 1000;
  const faults = readFaults(options.fault ?? []);
  const { dataDir, cacheDir } = loadEnvironment(surface);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const stopped = new AbortController();
  const stop = (): void => stopped.abort(new AppError('setup_failed', 'stopped while preparing'));
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    const startContainer = await prepareContainers(surface, cacheDir, stopped.signal);
    const { startDevnet } = await import('../leases/akash/devnet/network.ts');
    const { USER_FUNDS: tenantFunds } = await import('../leases/akash/devnet/genesis.ts');
    const { clock, random } = surface;
    const devnet = await startDevnet({ clock, random, startContainer, port, blockMs, faults, tenantFunds }).catch(
      describePort,
    );
    try {
      announce(surface, writeFiles(dataDir, devnet), devnet);
      await aborted(stopped.signal);
    } finally {
      await devnet.stop();
    }
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

async function prepareContainers(surface: Surface, cacheDir: string, signal: AbortSignal) {
  // Late: no other command needs the model server or the chain.
  const { drawProgress } = await import('../leases/local/progress.ts');
  const { prepareRuntime } = await import('../leases/local/runtime.ts');
  const { modelContainers } = await import('../leases/akash/devnet/model-container.ts');
  const { clock, env } = surface;
  const drawing = drawProgress(process.stderr);
  try {
    const progress = drawing.report.bind(drawing);
    const runtime = await prepareRuntime({ cacheDir, env, clock, signal, progress });
    // Several may run at once: they share the cores (see the embedded market).
    return modelContainers({ runtime, clock, threads: Math.max(1, Math.floor(availableParallelism() / 2)) });
  } finally {
    drawing.end();
  }
}

function describePort(error: unknown): never {
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
    throw new AppError('setup_failed', 'the port is taken: choose another --port, or none for any free one');
  }
  throw error;
}

/** The keys are new each time, as the network is. */
function writeFiles(dataDir: string, devnet: Devnet): string {
  const keyfiles = { tenant: join(dataDir, 'devnet-tenant.key'), payer: join(dataDir, 'devnet-payer.key') };
  writeSecret(keyfiles.tenant, `${devnet.tenant.mnemonic}\n`);
  writeSecret(keyfiles.payer, `${devnet.payer.mnemonic}\n`);
  const path = join(dataDir, 'devnet.json');
  const description = {
    rpc: devnet.rpcUrl,
    rest: devnet.restUrl,
    chain_id: devnet.chainId,
    tenant: { address: devnet.tenant.address, keyfile: keyfiles.tenant },
    payer: { address: devnet.payer.address, keyfile: keyfiles.payer },
    usdc_denom: devnet.usdcDenom,
    auditor: devnet.auditor,
    providers: devnet.providers.map(({ name, address, hostUri: host_uri, audited }) => ({
      name,
      address,
      host_uri,
      audited,
    })),
    pid: process.pid,
  };
  writeSecret(path, `${JSON.stringify(description, null, 2)}\n`);
  return path;
}

function announce(surface: Surface, path: string, devnet: Devnet): void {
  const { tenant, payer, chain } = devnet;
  surface.out(
    [
      `underbid devnet ready on ${devnet.rpcUrl}`,
      `  REST       ${devnet.restUrl}`,
      `  chain id   ${devnet.chainId}`,
      `  tenant     ${tenant.address} (10000 AKT, 10 ACT)`,
      `  payer      ${payer.address} (10000 USDC, 100 AKT)`,
      `  USDC       ${devnet.usdcDenom}`,
      ...devnet.providers.map(
        ({ name, hostUri, audited }) => `  provider   ${name.padEnd(8)} ${hostUri}${audited ? ' (audited)' : ''}`,
      ),
      ...(chain.faults.list().length > 0 ? [`  faults     ${chain.faults.list().join(', ')}`] : []),
      `All of it, with the key files, is in ${path}; a gateway uses it with`,
      `  markets: { akash: { devnet: ${path} } }`,
      `Faults are switched by POST ${devnet.restUrl}/devnet/faults {"fault": NAME, "on": true}; GET lists what is on.`,
      'The chain lives in memory: it ends with this command, and the next one starts a new one with new keys.',
    ].join('\n'),
  );
}

function readFaults(names: readonly string[]): readonly string[] {
  for (const name of names) {
    const fault = readFault(name);
    const known = fault?.provider === null || DEFAULT_PROVIDERS.some((spec) => spec.name === fault?.provider);
    if (fault !== null && known) continue;
    throw new AppError('invalid_request', `there is no fault ${name}: ${FAULT_NAMES.join(', ')}`);
  }
  return names;
}

function readNumber(name: string, text: string | undefined, { least, most }: { least: number; most: number }) {
  if (text === undefined) return null;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new AppError('invalid_request', `${name} takes a whole number from ${least} to ${most}`);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
