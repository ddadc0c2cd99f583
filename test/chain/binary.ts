import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { loadEnvironment } from '../../src/config/environment.ts';

/** The Go module of a chain that is made of the Cosmos SDK alone. */
const SOURCE = fileURLToPath(new URL('node/', import.meta.url));
const PROGRESS_MS = 20_000;
/** Programs in the cache, 70 MB each. */
const KEPT = 4;
/** Lines of a failed build that are shown. */
const TAIL = 30;

export interface BuildOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** One line of progress. */
  readonly log: (line: string) => void;
}

/**
 * The chain's program, built when the cache does not have it: it stands there under a hash of its sources and of the Go that
 * builds it. Go takes its modules from wherever the environment says.
 * @throws Error whose message says what to install
 */
export async function chainBinary({ env = process.env, log }: BuildOptions): Promise<string> {
  const wanted = /^go (\d+)\.(\d+)/m.exec(readFileSync(join(SOURCE, 'go.mod'), 'utf8'));
  const [major, minor] = [Number(wanted?.[1]), Number(wanted?.[2])];
  const needed = `Go ${major}.${minor} or newer has to be installed, and \`go\` found by PATH, for the tests on a real chain`;
  // Go would fetch a newer Go by itself: which one builds is for people to choose.
  const goEnv = { ...env, GOTOOLCHAIN: 'local' };
  const asked = await run(['env', 'GOVERSION', 'GOOS', 'GOARCH'], { cwd: tmpdir(), env: goEnv });
  if (asked.code !== 0) throw new Error(`${needed}.`);
  const [version = '', ...platform] = asked.stdout.trim().split('\n');
  const [, gotMajor, gotMinor] = /^go(\d+)\.(\d+)/.exec(version) ?? [];
  if (Number(gotMajor) < major || (Number(gotMajor) === major && Number(gotMinor) < minor)) {
    throw new Error(`${needed}; ${version} is too old.`);
  }
  const folder = join(loadEnvironment({ env, cwd: process.cwd() }).cacheDir, 'cosmos-chain');
  const path = join(folder, `node-${hashOf([version, ...platform])}`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  const fresh = `${path}.${process.pid}`;
  log(`building a chain of the Cosmos SDK with ${version}: once, some minutes`);
  try {
    const args = ['build', '-v', '-p', '2', '-trimpath', '-ldflags=-s -w', '-o', fresh, '.'];
    const built = await run(args, { cwd: SOURCE, env: goEnv, log });
    if (built.code !== 0) {
      throw new Error(`the chain could not be built:\n${built.stderr.trim().split('\n').slice(-TAIL).join('\n')}`);
    }
    renameSync(fresh, path);
    prune(folder);
  } finally {
    rmSync(fresh, { force: true });
  }
  return path;
}

/** Other checkouts have versions of their own; old ones go. */
function prune(folder: string): void {
  const built = readdirSync(folder)
    .map((name) => join(folder, name))
    .map((path) => ({ path, atMs: statSync(path).mtimeMs }))
    .sort((a, b) => b.atMs - a.atMs);
  for (const { path } of built.slice(KEPT)) rmSync(path, { force: true });
}

function hashOf(texts: readonly string[]): string {
  const hash = createHash('sha256').update(texts.join('\n'));
  for (const name of readdirSync(SOURCE).sort()) hash.update(name).update(readFileSync(join(SOURCE, name)));
  return hash.digest('hex').slice(0, 24);
}

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface RunOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log?: BuildOptions['log'];
}

/** Ends with this process: a build that nobody waits for would go on for minutes. */
function run(args: readonly string[], { cwd, env, log }: RunOptions): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn('go', args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    let cancel = (): void => undefined;
    const tick = (): void => {
      const count = (line: RegExp): number => stderr.split('\n').filter((one) => line.test(one)).length;
      const [modules, packages] = [count(/^go: downloading /), count(/^[\w.-]+(\/[\w.~-]+)*$/)];
      log?.(`building: ${modules} modules downloaded, ${packages} packages compiled so far`);
      cancel = systemClock.timer(PROGRESS_MS, tick);
    };
    if (log) cancel = systemClock.timer(PROGRESS_MS, tick);
    const end = (code: number | null): void => {
      cancel();
      resolve({ code, stdout, stderr });
    };
    child.once('error', () => end(null));
    child.once('close', end);
  });
}
