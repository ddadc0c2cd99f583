import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestContext } from 'node:test';

/** The gateway as a user starts it: a process of its own over a data folder, on a free port. */
export interface GatewayProcess {
  readonly url: string;
  readonly child: ChildProcess;
  readonly folder: string;
  readonly dataDir: string;
  readonly demoKey: string;
  readonly adminKey: string;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly exited: Promise<number | null>;
  admin(path: string, init?: { readonly method?: string; readonly body?: unknown }): Promise<unknown>;
}

export interface GatewayOptions {
  /** Of an earlier process whose data to go on with. */
  readonly folder?: string;
  /** Text of underbid.yaml; default: none, so the embedded pools. */
  readonly config?: string;
  /** Of `underbid serve`. */
  readonly args?: readonly string[];
}

const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));
const READY_MS = 300_000;

export async function startGateway(t: TestContext, options: GatewayOptions = {}): Promise<GatewayProcess> {
  const launched = launch(t, options);
  const url = await launched.says(/underbid ready on (\S+)/);
  return describe(launched, url);
}

/** A second gateway over a folder in use. */
export interface StandbyProcess {
  readonly url: string;
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  readonly stderr: () => string;
  /** When it leads: the same process, which may be talked to from then on. */
  readonly ready: Promise<GatewayProcess>;
}

export async function startStandby(t: TestContext, options: GatewayOptions): Promise<StandbyProcess> {
  const launched = launch(t, { ...options, args: ['--standby', ...(options.args ?? [])] });
  const ready = launched.says(/underbid ready on (\S+)/).then((url) => describe(launched, url));
  // One that never leads ends with the test.
  ready.catch(() => undefined);
  const url = await launched.says(/underbid stands by on (\S+)/);
  const { child, exited, err } = launched;
  return { url, child, exited, stderr: err, ready };
}

interface Launched {
  readonly child: ChildProcess;
  readonly folder: string;
  readonly exited: Promise<number | null>;
  readonly out: () => string;
  readonly err: () => string;
  /** The address in a line of its output, as soon as that is there. */
  says(line: RegExp): Promise<string>;
}

function launch(t: TestContext, options: GatewayOptions): Launched {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'underbid-e2e-'));
  if (options.folder === undefined) t.after(() => rmSync(folder, { recursive: true, force: true }));
  if (options.config !== undefined) writeFileSync(join(folder, 'underbid.yaml'), options.config);
  const child = spawn(process.execPath, [ENTRY, 'serve', ...(options.args ?? [])], {
    cwd: folder,
    env: { ...process.env, UNDERBID_PORT: '0', UNDERBID_HOST: '127.0.0.1', UNDERBID_DATA: 'data' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr.on('data', (part: Buffer) => (err += part.toString()));
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  t.after(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  });
  const says = (line: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`it never said ${line}: ${err}`)), READY_MS);
      timer.unref();
      const look = (): void => {
        const match = line.exec(out);
        if (!match?.[1]) return;
        clearTimeout(timer);
        resolve(match[1]);
      };
      child.stdout.on('data', look);
      look();
      void exited.then((code) => {
        clearTimeout(timer);
        reject(new Error(`ended with ${code}: ${err}`));
      });
    });
  return { child, folder, exited, out: () => out, err: () => err, says };
}

function describe({ child, folder, exited, out, err }: Launched, url: string): GatewayProcess {
  const dataDir = join(folder, 'data');
  const secret = (name: string): string => readFileSync(join(dataDir, name), 'utf8').trim();
  const adminKey = secret('admin.key');
  const admin: GatewayProcess['admin'] = async (path, init = {}) => {
    const headers = { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' };
    const body = init.body === undefined ? null : JSON.stringify(init.body);
    const reply = await fetch(`${url}${path}`, { method: init.method ?? 'GET', headers, body });
    if (!reply.ok) throw new Error(`${path}: ${reply.status} ${await reply.text()}`);
    return reply.status === 204 ? null : reply.json();
  };
  const demoKey = secret('demo.key');
  return { url, child, folder, dataDir, demoKey, adminKey, stdout: out, stderr: err, exited, admin };
}

/** Asks until `look` gives something, at most for `ms`. */
export async function until<T>(what: string, ms: number, look: () => Promise<T | null> | T | null): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
