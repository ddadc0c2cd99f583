import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where the gateway keeps what it has fetched, unless it is told otherwise: benchmarks that fetch share it. */
export function cacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const { XDG_CACHE_HOME, UNDERBID_CACHE } = env;
  return UNDERBID_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'underbid');
}
