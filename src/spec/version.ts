import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import type { PoolSpec } from '../spec.ts';

/** Pure. What a running replica cannot follow when its pool is described anew: it has to be replaced by another. */
const RUNS_AS = [
  'engine',
  'model',
  'kind',
  'contextTokens',
  'slots',
  'hardware',
  'image',
  'container',
  'weights',
  'registry',
  'region',
  'trust',
  'attributes',
] as const satisfies readonly (keyof PoolSpec)[];

/** The same for pools whose replicas are interchangeable. Prices, limits and budgets change nothing of a replica. */
export function versionOf(spec: PoolSpec): string {
  const text = JSON.stringify(RUNS_AS.map((name) => sorted(spec[name] ?? null)));
  return bytesToHex(sha256(new TextEncoder().encode(text))).slice(0, 16);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}
