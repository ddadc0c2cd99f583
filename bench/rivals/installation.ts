import { existsSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { runBounded, type RunContext } from '../../src/leases/local/bounded-run.ts';
import { findPython, pythonEnv } from '../../src/leases/local/python.ts';
import type { Rival } from './catalogue.ts';

/** Fetches a rival once, by the machine's own pip or npm, into the cache: never into the checkout. */
export interface InstallOptions {
  readonly cache: string;
  /** Ours: what pip and npm are set up with. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** Why a rival takes no part: one line for the report. */
export class LeftOut extends Error {
  override readonly name = 'LeftOut';
}

const INSTALL_TIMEOUT_MS = 900_000;
/** Written last: without it a folder is half of an installation. */
const MARKER = 'installed';
const PINS = fileURLToPath(new URL('./pins/', import.meta.url));

/** The folder it is in. Rejects with `LeftOut`. */
export async function installRival(rival: Rival, options: InstallOptions): Promise<string> {
  const { cache, env, signal, say } = options;
  const folder = join(cache, 'rivals', entryName(rival));
  if (isInstalled(rival, folder)) return folder;
  say(`fetching ${rival.name} ${rival.version} from the package registry, about ${rival.megabytes} MB, into ${folder}`);
  const work = `${folder}.preparing-${process.pid}`;
  const context: RunContext = { env: cleanEnv(env), clock: systemClock, signal };
  try {
    await mkdir(work, { recursive: true });
    await (rival.source.registry === 'npm'
      ? installFromNpm(rival, work, context)
      : installFromPyPi(rival, work, context));
    await writeFile(join(work, MARKER), `${rival.version}\n`);
    await rm(folder, { recursive: true, force: true });
    // A virtual environment survives that as long as its scripts are given to its Python and not run themselves.
    await rename(work, folder);
    return folder;
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof LeftOut ? error : new LeftOut(whyNotInstalled(String(error), false));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

export function entryName(rival: Rival): string {
  return `${rival.name}-${rival.version}-${process.platform}-${process.arch}`;
}

function isInstalled(rival: Rival, folder: string): boolean {
  // A link, which an upgraded Python leaves dangling.
  const python = rival.source.registry === 'npm' || existsSync(join(folder, 'bin', 'python'));
  return python && existsSync(join(folder, MARKER));
}

async function installFromPyPi(rival: Rival, folder: string, context: RunContext): Promise<void> {
  if (rival.source.registry !== 'pypi') return;
  const python = await findPython(context).catch(() => {
    context.signal.throwIfAborted();
    throw new LeftOut('it needs Python 3.10 or newer that can make virtual environments');
  });
  const env = pythonEnv(context.env);
  const run = (command: string, args: readonly string[]): Promise<void> => runStep({ ...context, env, command, args });
  await run(python.command, ['-m', 'venv', ...(python.pip ? ['--without-pip'] : []), folder]);
  const interpreter = join(folder, 'bin', 'python');
  const pip = python.pip ? [python.command, '-m', 'pip', '--python', interpreter] : [interpreter, '-m', 'pip'];
  const [command = interpreter, ...args] = pip;
  args.push('install', '--no-input', '--disable-pip-version-check', '--progress-bar', 'off', '--retries', '2');
  args.push('--only-binary=:all:', '--constraint', join(PINS, `${rival.name}.txt`), rival.source.requirement);
  await run(command, args);
}

async function installFromNpm(rival: Rival, folder: string, context: RunContext): Promise<void> {
  if (rival.source.registry !== 'npm') return;
  await writeFile(join(folder, 'package.json'), JSON.stringify(rival.source.manifest));
  await copyFile(join(PINS, `${rival.name}.json`), join(folder, 'package-lock.json'));
  const args = [
    'ci',
    '--ignore-scripts',
    '--omit=dev',
    '--no-audit',
    '--no-fund',
    '--fetch-retries=1',
    '--fetch-retry-mintimeout=1000',
  ];
  await runStep({ ...context, command: 'npm', args, cwd: folder });
}

async function runStep(step: RunContext & { command: string; args: readonly string[]; cwd?: string }): Promise<void> {
  const result = await runBounded({ ...step, timeoutMs: INSTALL_TIMEOUT_MS });
  if (!result.ok) throw new LeftOut(whyNotInstalled(result.output, result.timedOut));
}

/** `npm run` tells its children where its own package is; another npm would install there. */
function cleanEnv(env: InstallOptions['env']): Record<string, string | undefined> {
  const { npm_config_local_prefix: _, ...rest } = env;
  return rest;
}

const NETWORK =
  /Retrying \(Retry|ConnectionError|NewConnectionError|ProxyError|SSLError|Name or service not known|name resolution|Network is unreachable|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/i;

/** From what pip or npm printed. Of a network that is not there pip says that there is no such version, too. */
export function whyNotInstalled(output: string, timedOut: boolean): string {
  if (NETWORK.test(output)) return 'it is not in the cache, and the package registry could not be reached';
  if (timedOut) return 'it is not in the cache, and fetching it took too long';
  if (/No space left on device|ENOSPC|Disk quota exceeded/i.test(output)) return 'the disk is full';
  const lines = output.split('\n').map((line) => line.trim());
  const said =
    lines.findLast((line) => /^(ERROR:|npm (error|ERR!))/.test(line)) ?? lines.findLast((line) => line !== '');
  return `it could not be installed: ${(said ?? 'no reason was given').slice(0, 300)}`;
}

/** The message is that of `startChild`: what happened, and the end of what the program printed below it. */
export function whyNotStarted(message: string): string {
  const lines = message.split('\n').filter((line) => line.trim() !== '');
  const what = /did not start: (.*)/.exec(lines[0] ?? '')?.[1] ?? lines[0] ?? '';
  // Node's last words are its version.
  const last = lines.slice(1).findLast((line) => /error/i.test(line)) ?? lines.slice(1).at(-1);
  return `it did not start (${what})${last === undefined ? '' : `: ${last.trim().slice(0, 300)}`}`;
}
