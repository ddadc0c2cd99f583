import { lookup } from 'node:dns/promises';
import { InvalidArgumentError, type Command } from 'commander';
import { loadSettings, type Settings } from '../config.ts';
import { addressSchema, denomSchema } from '../config/akash-schema.ts';
import { serverUrl } from '../config/fields.ts';
import { AppError } from '../errors.ts';
import type { CheckupOptions, Finding } from '../leases/akash/checkup-part.ts';
import { cleanLine } from './table.ts';
import type { OutputOptions, Surface } from './terminal.ts';

interface DoctorOptions extends OutputOptions {
  readonly akash?: boolean;
  readonly rpc?: string[];
  readonly address?: string;
  readonly chainId?: string;
  readonly denom?: string;
  readonly providers?: number;
  readonly allowPrivate?: boolean;
}

/** Akash's own, as the configuration has it by default. */
const AUDITORS = ['akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63'];
const PROVIDERS = 20;
const PROVIDERS_MAX = 500;

/** Read-only, and without a gateway: whether what a market needs is there. */
export function addDoctorCommand(program: Command, surface: Surface): void {
  program
    .command('doctor')
    .description("whether a market's chain, money and providers are as they should be; changes nothing")
    .option('--akash', 'the Akash network: as in the configuration, or at --rpc')
    .option('--rpc <url...>', 'nodes to ask instead of the configured ones', (text, before: string[] | undefined) => [
      ...(before ?? []),
      parsed(serverUrl, text),
    ])
    .option('--address <akash1…>', 'whose money to look at; needs no key', (text) => parsed(addressSchema, text))
    .option('--chain-id <id>', 'what the chain has to be')
    .option('--denom <denom>', 'what leases are paid in (uact)', (text) => parsed(denomSchema, text))
    .option('--providers <n>', `so many providers are visited (${PROVIDERS})`, parseProviders)
    .option('--allow-private', 'visit providers on private networks too')
    .option('--json', 'print the findings as JSON')
    .action((options: DoctorOptions) => examine(surface, options));
}

async function examine(surface: Surface, options: DoctorOptions): Promise<void> {
  if (!options.akash) throw new AppError('invalid_request', 'say what to look at: underbid doctor --akash');
  const findings = await examineAkash(surface, options);
  const failed = findings.filter(({ result }) => result === 'fail').length;
  if (options.json) surface.out(JSON.stringify({ ok: failed === 0, findings }));
  else for (const finding of findings) surface.out(describe(finding));
  if (failed > 0) throw new AppError('setup_failed', `${failed} of ${findings.length} checks failed`);
}

/** Whether it is what the file would take. */
function parsed(schema: typeof serverUrl, text: string): string {
  const { error } = schema.safeParse(text);
  if (error) throw new InvalidArgumentError(`It ${error.issues[0]?.message ?? 'is not right'}.`);
  return text;
}

function parseProviders(text: string): number {
  if (!/^\d{1,3}$/.test(text) || Number(text) > PROVIDERS_MAX) {
    throw new InvalidArgumentError(`It must be a whole number, at most ${PROVIDERS_MAX}.`);
  }
  return Number(text);
}

/** What to do about it stands below it. */
function describe({ result, name, detail, advice }: Finding): string {
  const mark = (result === 'fail' ? 'FAIL' : result).padEnd(4);
  const line = cleanLine(`${mark}  ${name}: ${detail}`);
  return advice === '' ? line : `${line}\n      -> ${cleanLine(advice)}`;
}

async function examineAkash(surface: Surface, options: DoctorOptions) {
  // Late: no other command needs the chain's libraries.
  const { checkUp } = await import('../leases/akash/checkup.ts');
  const { Agent } = await import('undici');
  const dispatcher = new Agent({ connect: { timeout: 5000 } });
  const stop = new AbortController();
  try {
    const {
      rpc,
      chainId = null,
      denom = 'uact',
      address = null,
      providers = PROVIDERS,
      allowPrivate = false,
    } = options;
    const asked = {
      rpc: rpc ?? [],
      chainId,
      denom,
      address,
      pools: [],
      auditors: AUDITORS,
      allowPrivate,
    };
    const configured = rpc && address !== null ? null : await configuredAkash(surface, options);
    return await checkUp({
      ...asked,
      ...configured,
      ...(rpc ? { rpc } : {}),
      ...(address === null ? {} : { address, pools: [] }),
      ...(options.chainId === undefined ? {} : { chainId }),
      ...(options.denom === undefined ? {} : { denom }),
      ...(options.allowPrivate ? { allowPrivate } : {}),
      providersMax: providers,
      resolve: (hostname) => lookup(hostname, { all: true }),
      signal: stop.signal,
      ...{ dispatcher, clock: surface.clock },
    });
  } finally {
    stop.abort(new Error('the check-up is over'));
    await dispatcher.destroy();
  }
}

type Configured = Omit<CheckupOptions, 'providersMax' | 'resolve' | 'signal' | 'dispatcher' | 'clock'>;

/** Null: nothing is configured, and nothing is needed of it. */
async function configuredAkash(surface: Surface, { rpc }: DoctorOptions): Promise<Configured | null> {
  let settings: Settings;
  try {
    settings = loadSettings({ env: surface.env, cwd: surface.cwd, nowMs: surface.clock.now() });
  } catch (error) {
    // With the nodes given, the file is a help and no need.
    if (rpc) return null;
    throw error;
  }
  const { akash } = settings.markets;
  if (!akash) {
    if (rpc) return null;
    throw new AppError('invalid_request', 'no markets.akash is configured: name nodes with --rpc, and an --address');
  }
  const { openKeyring } = await import('../node/akash-keyring.ts');
  const { walletIndexOf } = await import('../leases/akash/names.ts');
  const pools = settings.pools.filter(({ markets }) => markets?.includes('akash') ?? true).map(({ id }) => id);
  const keyring = await openKeyring(akash, pools, surface.clock);
  return {
    rpc: akash.rpc,
    chainId: akash.chainId,
    denom: akash.denom,
    address: keyring.wallet(0).address,
    pools: akash.walletPerPool
      ? pools.map((pool) => ({ pool, address: keyring.wallet(walletIndexOf(pool)).address }))
      : [],
    auditors: akash.auditors,
    allowPrivate: akash.allowPrivate,
  };
}
