import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../errors.ts';
import { runBounded, type RunContext } from './bounded-run.ts';

/** A Python that can make a virtual environment and fill it. */
export interface Python {
  readonly command: string;
  /** True: its own pip can install into another environment (22.3 or newer), which saves the 6 s that ensurepip takes. */
  readonly pip: boolean;
}

const NAMES = ['python3', 'python', 'python3.14', 'python3.13', 'python3.12', 'python3.11', 'python3.10'];
const PROBE_TIMEOUT_MS = 20_000;

/** Python 2 must be able to read it too, to say what it is. */
const PROBE = `
import json, sys
found = {"version": list(sys.version_info[:2]), "executable": sys.executable}
if sys.version_info >= (3, 10):
    import importlib.metadata, importlib.util
    try:
        found["pip"] = importlib.metadata.version("pip")
    except Exception:
        pass
    found["venv"] = importlib.util.find_spec("venv") is not None
    found["ensurepip"] = importlib.util.find_spec("ensurepip") is not None
print(json.dumps(found))
`;

const probeSchema = z.object({
  version: z.tuple([z.number(), z.number()]),
  executable: z.string().min(1),
  pip: z.string().nullish(),
  venv: z.boolean().default(false),
  ensurepip: z.boolean().default(false),
});

/** What pip and Python are run with: the user's settings for indexes and proxies, without what would lead them astray. */
export function pythonEnv(env: RunContext['env'], tmp?: string): Record<string, string | undefined> {
  const cleaned: Record<string, string | undefined> = { ...env };
  for (const name of ['PYTHONHOME', 'PYTHONPATH', 'PYTHONSTARTUP', 'VIRTUAL_ENV']) delete cleaned[name];
  for (const name of ['TARGET', 'PREFIX', 'ROOT', 'CONSTRAINT', 'REQUIREMENT', 'PYTHON']) delete cleaned[`PIP_${name}`];
  return { ...cleaned, PIP_USER: '0', ...(tmp === undefined ? {} : { TMPDIR: tmp }) };
}

/** The first Python >= 3.10 on PATH that has what it takes. Throws `setup_failed` and says what was found instead. */
export async function findPython(context: RunContext): Promise<Python> {
  const old: string[] = [];
  let bare: string | null = null;
  for (const name of NAMES) {
    const path = await findOnPath(name, context.env);
    if (path === null) continue;
    const probe = await probePython(path, context);
    if (probe === null) {
      old.push(`${name} does not run`);
      continue;
    }
    const version = probe.version.join('.');
    if (probe.version[0] !== 3 || probe.version[1] < 10) old.push(`${name} is ${version}`);
    else if (probe.venv && (isRecentPip(probe.pip) || probe.ensurepip)) {
      return { command: probe.executable, pip: isRecentPip(probe.pip) };
    } else bare ??= version;
  }
  if (bare !== null) throw noVenv(bare);
  const found = old.length === 0 ? 'none was found' : `found: ${old.join(', ')}`;
  throw new AppError(
    'setup_failed',
    `The embedded model server needs Python 3.10 or newer (${found}): install one, ` +
      'or put a llama-server on PATH or name one in the configuration.',
  );
}

export function noVenv(version: string | null, cause?: unknown): AppError {
  return new AppError(
    'setup_failed',
    `Python${version === null ? '' : ` ${version}`} cannot make a virtual environment: ` +
      'install its venv module (on Debian and Ubuntu: apt install python3-venv).',
    { cause },
  );
}

/** The first executable file of that name on PATH. */
export async function findOnPath(name: string, env: RunContext['env']): Promise<string | null> {
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    if (folder !== '' && (await isExecutable(join(folder, name)))) return join(folder, name);
  }
  return null;
}

export async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

async function probePython(command: string, context: RunContext): Promise<z.infer<typeof probeSchema> | null> {
  const env = pythonEnv(context.env);
  // Not in the user's folder: a json.py there would be imported.
  const result = await runBounded({
    ...context,
    env,
    command,
    args: ['-c', PROBE],
    cwd: '/',
    timeoutMs: PROBE_TIMEOUT_MS,
  });
  try {
    return probeSchema.parse(JSON.parse(result.stdout.split('\n').at(-1) ?? ''));
  } catch {
    return null;
  }
}

function isRecentPip(version: string | null | undefined): boolean {
  const match = /^(\d+)\.(\d+)/.exec(version ?? '');
  if (match === null) return false;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  return major > 22 || (major === 22 && minor >= 3);
}
