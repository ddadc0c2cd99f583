import { sha256 } from '@noble/hashes/sha2.js';

/**
 * Pure: how our ids become the chain's. A deployment's number follows from the order's id, so an order that is posted
 * again meets the deployment of the first time; the group carries the order's id in its name, so the chain alone is enough
 * to find what is ours.
 */

const GROUP_PREFIX = 'underbid-';
/** As the provider knows it; one service in a deployment. */
export const SERVICE_NAME = 'server';
/** Numbers of deployments stay below 2^52: tokens carry them as JSON numbers. */
const DSEQ_BITS = 52n;
const HD_INDEX_BITS = 31n;

function hashNumber(text: string, bits: bigint): bigint {
  const hash = sha256(new TextEncoder().encode(text));
  let value = 0n;
  for (const byte of hash.subarray(0, 8)) value = (value << 8n) | BigInt(byte);
  return value >> (64n - bits);
}

/** Never 0. */
export function dseqOf(orderId: string): bigint {
  return hashNumber(`dseq:${orderId}`, DSEQ_BITS) || 1n;
}

export function groupNameOf(orderId: string): string {
  return `${GROUP_PREFIX}${orderId}`;
}

/** Null: the deployment was not made by this program, and is left alone. */
export function orderOfGroup(groupName: string): string | null {
  return groupName.startsWith(GROUP_PREFIX) ? groupName.slice(GROUP_PREFIX.length) : null;
}

/** One lease per order: its id follows from the order's. */
export function leaseIdOf(orderId: string): string {
  return `lease-${orderId}`;
}

/** Names the secret that the key of a lease's certificate follows from; no lease has such an id. */
export function tlsSecretOf(leaseId: string): string {
  return `tls:${leaseId}`;
}

export function orderOfLease(leaseId: string): string | null {
  return leaseId.startsWith('lease-') ? leaseId.slice('lease-'.length) : null;
}

/** Which derived wallet pays for a pool; 0 is the treasury's own. It needs no memory of who has which. */
export function walletIndexOf(pool: string): number {
  return Number(hashNumber(`pool:${pool}`, HD_INDEX_BITS)) || 1;
}
