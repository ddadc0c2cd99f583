import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { AppError } from '../errors.ts';
import { environmentSchema } from './schema.ts';
import { Secret } from './secret.ts';

/** Where a gateway is and keeps its things: what the environment alone says. */
export interface Environment {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Absolute. */
  readonly dataDir: string;
  /** Absolute. */
  readonly cacheDir: string;
  /** Waits while another gateway uses the data folder, then takes over. */
  readonly standby: boolean;
  /** Absolute; the file to read, null when there is none. */
  readonly configFile: string | null;
  /** Null: the one in `<data>/admin.key`. */
  readonly adminKey: Secret | null;
}

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
}

const DEFAULT_FILE = 'underbid.yaml';

export interface ReadEnvironment {
  readonly settings: Omit<Environment, 'configFile'> | null;
  readonly mistakes: readonly string[];
}

export function readEnvironment({ env, cwd }: Surroundings): ReadEnvironment {
  const parsed = environmentSchema.safeParse(withoutEmpty(env));
  if (!parsed.success) {
    // None of the messages repeats the value, which may be the admin key.
    return {
      settings: null,
      mistakes: parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`),
    };
  }
  const { data } = parsed;
  const settings = {
    host: data.UNDERBID_HOST,
    port: Number(data.UNDERBID_PORT),
    dataDir: resolve(cwd, data.UNDERBID_DATA),
    cacheDir: data.UNDERBID_CACHE === undefined ? defaultCacheDir(env) : resolve(cwd, data.UNDERBID_CACHE),
    standby: data.UNDERBID_STANDBY === '1',
    adminKey: data.UNDERBID_ADMIN_KEY === undefined ? null : new Secret(data.UNDERBID_ADMIN_KEY),
  };
  return { settings, mistakes: [] };
}

/** `UNDERBID_PORT=` in a compose file means that nothing is set. */
function withoutEmpty(env: Surroundings['env']): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
}

function defaultCacheDir(env: Surroundings['env']): string {
  const xdg = env['XDG_CACHE_HOME'] ?? '';
  // The XDG specification has a relative one ignored.
  if (isAbsolute(xdg)) return join(xdg, 'underbid');
  const home = env['HOME'] ?? '';
  return join(home === '' ? homedir() : home, '.cache', 'underbid');
}

/** Absolute; one that the environment names is not checked for being there. */
export function findConfigFile({ env, cwd }: Surroundings): string | null {
  const named = env['UNDERBID_CONFIG'] ?? '';
  if (named !== '') return resolve(cwd, named);
  const usual = join(cwd, DEFAULT_FILE);
  return existsSync(usual) ? usual : null;
}

/** The part that needs no file: enough to talk to a gateway whose file is being mended. */
export function loadEnvironment(surroundings: Surroundings): Environment {
  const { settings, mistakes } = readEnvironment(surroundings);
  if (settings === null) throw new AppError('invalid_config', mistakes.join('\n'));
  return { ...settings, configFile: findConfigFile(surroundings) };
}
