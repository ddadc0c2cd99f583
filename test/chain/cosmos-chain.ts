import { fail } from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '../../src/clock.ts';
import { USDC_DENOM } from '../../src/leases/akash/devnet/genesis.ts';
import { createWallet, type Wallet } from '../../src/leases/akash/devnet/wallet.ts';
import { systemRandom } from '../../src/random.ts';
import { chainBinary } from './binary.ts';

const CHAIN_ID = 'underbid-cosmos-1';
const START_MS = 120_000;
const STOP_MS = 20_000;
const TRIES = 3;
/** Kept of what a node says, for when it fails. */
const LOG_CHARS = 4_000;

export interface CosmosChain {
  readonly rpcUrl: string;
  readonly chainId: string;
  readonly process: ChildProcess;
  /** One that nobody was given yet, with FUNDS of AKT, ACT and USDC each. */
  account(): Wallet;
  stop(): Promise<void>;
}

/** Of each coin, in millionths. */
export const FUNDS = 1_000_000_000n;

/** A node of a chain of its own: one validator, a block about every half second, all on loopback, gone with this process. */
export async function startCosmosChain(accountCount: number): Promise<CosmosChain> {
  const binary = await chainBinary({ log: (line) => process.stderr.write(`${line}\n`) });
  const home = mkdtempSync(join(tmpdir(), 'underbid-cosmos-'));
  const forget = (): void => rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  try {
    const accounts = await Promise.all(Array.from({ length: accountCount }, () => createWallet(systemRandom)));
    await writeGenesis(binary, home, accounts);
    for (let tries = 1; ; tries += 1) {
      const node = await startNode(binary, home);
      if (typeof node !== 'string') {
        const stop = async (): Promise<void> => {
          await node.stop();
          forget();
        };
        const account = (): Wallet => accounts.pop() ?? fail('no account is left');
        return { chainId: CHAIN_ID, rpcUrl: node.rpcUrl, process: node.child, account, stop };
      }
      // A port that was free may have been taken meanwhile.
      if (tries === TRIES) throw new Error(`the node did not start:\n${node}`);
    }
  } catch (error) {
    forget();
    throw error;
  }
}

async function writeGenesis(binary: string, home: string, accounts: readonly Wallet[]): Promise<void> {
  const run = (...args: string[]) => promisify(execFile)(binary, [...args, '--home', home], { timeout: START_MS });
  const keyring = ['--keyring-backend', 'test'];
  await run('init', 'node0', '--chain-id', CHAIN_ID, '--default-denom', 'uakt');
  await run('keys', 'add', 'validator', ...keyring);
  await run('genesis', 'add-genesis-account', 'validator', '2000000000uakt', ...keyring);
  const path = join(home, 'config', 'genesis.json');
  const genesis = JSON.parse(readFileSync(path, 'utf8')) as {
    app_state: {
      auth: { accounts: unknown[] };
      bank: { balances: unknown[]; supply: unknown[]; send_enabled: unknown[] };
    };
  };
  const { auth, bank } = genesis.app_state;
  const coins = [USDC_DENOM, 'uact', 'uakt'].map((denom) => ({ denom, amount: String(FUNDS) }));
  for (const { address } of accounts) {
    const account = { address, pub_key: null, account_number: '0', sequence: '0' };
    auth.accounts.push({ '@type': '/cosmos.auth.v1beta1.BaseAccount', ...account });
    bank.balances.push({ address, coins });
  }
  // As on Akash. The supply is counted anew when it is not given.
  bank.send_enabled = [{ denom: 'uact', enabled: false }];
  bank.supply = [];
  writeFileSync(path, JSON.stringify(genesis));
  await run('genesis', 'gentx', 'validator', '1000000000uakt', '--chain-id', CHAIN_ID, ...keyring);
  await run('genesis', 'collect-gentxs');
  const settings = join(home, 'config', 'config.toml');
  const text = readFileSync(settings, 'utf8')
    .replace(/^timeout_commit = .*$/m, 'timeout_commit = "400ms"')
    .replace(/^pprof_laddr = .*$/m, 'pprof_laddr = ""');
  writeFileSync(settings, text);
}

interface Node {
  readonly rpcUrl: string;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** A text says why it did not start. */
async function startNode(binary: string, home: string): Promise<Node | string> {
  const [rpc, p2p, grpc] = await freePorts(3);
  const args = [
    'start',
    '--home',
    home,
    '--minimum-gas-prices',
    '0.0025uakt',
    '--log_level',
    'error',
    '--log_no_color',
  ];
  const ports = [
    ...['--rpc.laddr', `tcp://127.0.0.1:${rpc}`, '--p2p.laddr', `tcp://127.0.0.1:${p2p}`],
    ...['--grpc.address', `127.0.0.1:${grpc}`, '--grpc-web.enable=false', '--api.enable=false'],
  ];
  // A process group of its own. It ends when its standard input does, so it never outlives this process.
  const child = spawn(binary, [...args, ...ports], { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  const keep = (chunk: Buffer): void => void (said = `${said}${chunk.toString()}`.slice(-LOG_CHARS));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  child.stdin.on('error', () => undefined);
  let over = false;
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      over = true;
      resolve();
    };
    child.once('exit', end);
    child.once('error', end);
  });
  const release = onSignals(() => {
    signal(child, 'SIGKILL');
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  });
  const stop = async (): Promise<void> => {
    signal(child, 'SIGTERM');
    const cancel = systemClock.timer(STOP_MS, () => signal(child, 'SIGKILL'));
    await ended;
    cancel();
    release();
  };
  const rpcUrl = `http://127.0.0.1:${rpc}`;
  const endMs = systemClock.monotonic() + START_MS;
  while (!over && systemClock.monotonic() < endMs) {
    if ((await heightOf(rpcUrl)) >= 2) return { rpcUrl, child, stop };
    await systemClock.sleep(100);
  }
  await stop();
  return said;
}

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    // It is gone already.
  }
}

/** Ctrl-C does not reach another process group. */
function onSignals(end: () => void): () => void {
  const undo = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((name) => {
    const listener = (): void => {
      end();
      process.kill(process.pid, name);
    };
    process.once(name, listener);
    return () => process.removeListener(name, listener);
  });
  return () => undo.forEach((one) => one());
}

async function heightOf(rpcUrl: string): Promise<number> {
  try {
    const reply = await fetch(`${rpcUrl}/status`, { signal: AbortSignal.timeout(5_000) });
    const { result } = (await reply.json()) as { result: { sync_info: { latest_block_height: string } } };
    return Number(result.sync_info.latest_block_height);
  } catch {
    return 0;
  }
}

/** All at once, so that none is given twice. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
