import { resolve } from 'node:path';
import { MARKET_NAMES } from '../spec.ts';
import { readDevnetFile, type DevnetFile } from './devnet-file.ts';
import type { ConfigDocument, Mistake, Path } from './document.ts';
import { embeddedPools } from './embedded.ts';
import { valueAt } from './mistakes.ts';
import { secretSchema } from './fields.ts';
import type { Secret } from './secret.ts';
import { resolveSecret, type SecretSource } from './secret-references.ts';
import { didYouMean } from './spelling.ts';

/**
 * What no field shows on its own. All of it reads the raw values leniently, so that a mistake elsewhere in the file hides
 * none of these, and they hide none.
 */
export function crossCheck(document: ConfigDocument): Mistake[] {
  return [
    ...refuseNoMarket(document),
    ...checkAkash(document),
    ...checkMarketsOfPools(document),
    ...checkServers(document),
    ...checkProviderNames(document),
  ];
}

export interface ResolvedSecrets {
  /** By reference. */
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly mistakes: readonly Mistake[];
}

/** Fetches what `env:` and `file:` name; a reference of another shape is the schema's to refuse. */
export function resolveSecrets(document: ConfigDocument, source: SecretSource): ResolvedSecrets {
  const secrets = new Map<string, Secret>();
  const mistakes: Mistake[] = [];
  const holders = [
    ...eachServer(document),
    ...eachJoining(document),
    ['markets', 'akash'],
    ['markets', 'akash', 'signer'],
  ];
  const keys = holders.map((path): Path => [...path, 'key']);
  for (const at of [...keys, ...secretsOfPools(document)]) {
    const reference = valueAt(document.data, at);
    if (typeof reference !== 'string' || !secretSchema.safeParse(reference).success) continue;
    const resolved = resolveSecret(reference, source);
    if (typeof resolved === 'string') mistakes.push(mistakeAt(document, at, resolved));
    else secrets.set(reference, resolved);
  }
  const at = ['markets', 'akash', 'keyfile'];
  const keyfile = valueAt(document.data, at);
  if (typeof keyfile === 'string' && keyfile !== '') {
    const resolved = resolveSecret(`file:${keyfile}`, source);
    if (typeof resolved === 'string') mistakes.push(mistakeAt(document, at, resolved));
    else secrets.set(`file:${keyfile}`, resolved);
  }
  return { secrets, mistakes };
}

/** They are read again for each order; that they can be read is seen now. */
function secretsOfPools(document: ConfigDocument): Path[] {
  return keysOf(valueAt(document.data, ['pools'])).flatMap((pool): Path[] => [
    ['pools', pool, 'weights', 'secret'],
    ['pools', pool, 'registry', 'password'],
    ['pools', pool, 'canary', 'reference', 'key'],
  ]);
}

/** The file that `markets.akash.devnet` names; null when it names none, or none that is of use. */
export function resolveDevnet(
  document: ConfigDocument,
  folder: string,
): { readonly devnet: DevnetFile | null; readonly mistakes: readonly Mistake[] } {
  const at = ['markets', 'akash', 'devnet'];
  const path = valueAt(document.data, at);
  if (typeof path !== 'string' || path === '') return { devnet: null, mistakes: [] };
  const found = readDevnetFile(resolve(folder, path));
  return typeof found === 'string'
    ? { devnet: null, mistakes: [mistakeAt(document, at, found)] }
    : { devnet: found, mistakes: [] };
}

function mistakeAt(document: ConfigDocument, path: Path, message: string): Mistake {
  return { ...document.placeOf(path), path, message };
}

function keysOf(value: unknown): string[] {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
}

function lengthOf(value: unknown): number {
  return Array.isArray(value) ? value.length : 0;
}

function eachEntry(document: ConfigDocument, path: Path): Path[] {
  return Array.from({ length: lengthOf(valueAt(document.data, path)) }, (_, index) => [...path, index]);
}

function eachServer(document: ConfigDocument): Path[] {
  return [
    ...eachEntry(document, ['markets', 'owned', 'servers']),
    ...eachEntry(document, ['markets', 'api', 'endpoints']),
  ];
}

function eachJoining(document: ConfigDocument): Path[] {
  return eachEntry(document, ['markets', 'local', 'joining']);
}

function marketNames(document: ConfigDocument): string[] {
  const markets = valueAt(document.data, ['markets']);
  return markets === undefined ? ['local'] : keysOf(markets);
}

function refuseNoMarket(document: ConfigDocument): Mistake[] {
  const markets = valueAt(document.data, ['markets']);
  const none =
    typeof markets === 'object' && markets !== null && keysOf(markets).length === 0 && !Array.isArray(markets);
  if (!none) return [];
  return [{ ...document.placeOfKey(['markets']), path: ['markets'], message: 'name at least one market' }];
}

/** A devnet's file says all that is needed; on another chain the operator says where it is, and whose money is spent. */
function checkAkash(document: ConfigDocument): Mistake[] {
  const path = ['markets', 'akash'];
  const set = keysOf(valueAt(document.data, path));
  if (valueAt(document.data, path) === undefined) return [];
  const at = (key: string, message: string): Mistake => mistakeAt(document, [...path, key], message);
  const whole = (message: string): Mistake => ({ ...document.placeOfKey(path), path, message });
  if (set.includes('devnet')) {
    const twice = set.filter((key) => ['rpc', 'keyfile', 'key', 'signer', 'chain_id'].includes(key));
    return twice.map((key) => at(key, 'stands in the file of the devnet already: remove one of the two'));
  }
  const mistakes: Mistake[] = [];
  if (!set.includes('rpc')) mistakes.push(whole('name at least one node under rpc, or the file of a devnet'));
  const [first, second] = ['keyfile', 'key', 'signer'].filter((key) => set.includes(key));
  if (first === undefined) mistakes.push(whole('needs keyfile, key or signer: whose money is it?'));
  if (second !== undefined) mistakes.push(at(second, `is given twice: ${first} and ${second}`));
  return mistakes;
}

function checkMarketsOfPools(document: ConfigDocument): Mistake[] {
  const configured = marketNames(document);
  return keysOf(valueAt(document.data, ['pools'])).flatMap((pool) =>
    eachEntry(document, ['pools', pool, 'markets']).flatMap((path) => {
      const name = valueAt(document.data, path);
      if (!MARKET_NAMES.some((known) => known === name) || configured.includes(String(name))) return [];
      return [mistakeAt(document, path, `the market ${String(name)} is not configured: add it under markets`)];
    }),
  );
}

function checkServers(document: ConfigDocument): Mistake[] {
  const pools = valueAt(document.data, ['pools']);
  const known = keysOf(pools === undefined ? embeddedPools : pools);
  const lines = new Map<string, number>();
  const ids = new Map<string, number>();
  return eachServer(document).flatMap((path) => {
    const [url, pool, id] = ['url', 'pool', 'id'].map((key) => valueAt(document.data, [...path, key]));
    if (typeof pool !== 'string') return [];
    const mistakes: Mistake[] = [];
    if (!known.includes(pool)) {
      mistakes.push(mistakeAt(document, [...path, 'pool'], `there is no such pool${didYouMean(pool, known)}`));
    }
    if (typeof url !== 'string') return mistakes;
    const identity = nameServer(url, pool);
    const earlier = lines.get(identity);
    if (earlier !== undefined) {
      const message = `a server with the same url and pool stands on line ${earlier}`;
      return [...mistakes, mistakeAt(document, [...path, 'url'], message)];
    }
    lines.set(identity, document.placeOf(path).line);
    return [...mistakes, ...checkOnce(document, [...path, 'id'], id ?? identity, ids)];
  });
}

function checkProviderNames(document: ConfigDocument): Mistake[] {
  const seen = new Map<string, number>();
  const providers = [...eachEntry(document, ['markets', 'local', 'providers']), ...eachJoining(document)];
  return providers.flatMap((path) => {
    const at = [...path, 'id'];
    return checkOnce(document, at, valueAt(document.data, at), seen);
  });
}

function checkOnce(document: ConfigDocument, path: Path, id: unknown, seen: Map<string, number>): Mistake[] {
  if (typeof id !== 'string') return [];
  const earlier = seen.get(id);
  if (earlier === undefined) {
    seen.set(id, document.placeOf(path).line);
    return [];
  }
  return [mistakeAt(document, path, `is taken, on line ${earlier}`)];
}

/** One spelling per server: without a trailing slash or `/v1`. Anything that is no URL stays as it is. */
export function normalizeServerUrl(text: string): string {
  if (!URL.canParse(text)) return text;
  const url = new URL(text);
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '').replace(/\/v1$/, '').replace(/\/+$/, '');
}

/** What a server is called when nobody named it: `10.0.0.5:8000/llama-3.1-8b`. */
export function nameServer(url: string, pool: string): string {
  return `${normalizeServerUrl(url).replace(/^http:\/\//, '')}/${pool}`;
}
