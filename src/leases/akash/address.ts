import { BlockList, isIP } from 'node:net';

/** Addresses that no provider on the public network has: what a host name of theirs leads there would reach our own. */
const PRIVATE = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  PRIVATE.addSubnet(network, prefix, 'ipv4');
}
for (const [network, prefix] of [
  ['::', 128],
  ['::1', 128],
  // Addresses that carry an IPv4 address, whatever that one is: NAT64, 6to4, Teredo.
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['2001::', 32],
  ['2002::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
] as const) {
  PRIVATE.addSubnet(network, prefix, 'ipv6');
}

/** True also for anything that is no address. An IPv4 address within an IPv6 one is judged as itself. */
export function isPrivateAddress(address: string): boolean {
  const bare = address.replace(/%.*$/, '');
  const version = isIP(bare);
  if (version === 0) return true;
  return PRIVATE.check(bare, version === 4 ? 'ipv4' : 'ipv6');
}

export interface Resolved {
  readonly address: string;
  readonly family: number;
}

/** Every address of a host name; given, so that tests need no DNS. */
export type Resolve = (hostname: string) => Promise<readonly Resolved[]>;

/**
 * The address to connect to. One private address among several has the name refused: a name that answers with both is
 * no accident.
 * @throws Error that names the host
 */
export async function resolvePublic(hostname: string, resolve: Resolve, allowPrivate: boolean): Promise<Resolved> {
  const bare = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(bare);
  const found = family === 0 ? await resolve(bare) : [{ address: bare, family }];
  const [first] = found;
  if (!first) throw new Error(`the host ${bare.slice(0, 255)} has no address`);
  if (!allowPrivate && found.some(({ address }) => isPrivateAddress(address))) {
    throw new Error(`the host ${bare.slice(0, 255)} leads to a private address`);
  }
  return first;
}
