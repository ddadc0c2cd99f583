import { BlockList, isIPv6 } from 'node:net';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config.ts';
import { hashKey } from '../gateway/auth.ts';
import type { ProviderDoor } from '../gateway/provider-door.ts';
import { JoinedBidder } from '../leases/local/joined-bidder.ts';
import { normalizeHost } from '../leases/local/server-address.ts';

/** Providers who may join the embedded market: what bids there, and the door that they come in by. */
export interface Joining {
  readonly bidders: readonly JoinedBidder[];
  /** Null when nobody may join. */
  readonly door: ProviderDoor | null;
}

export function openJoining(
  { markets: { local }, trustedProxies }: Pick<Settings, 'markets' | 'trustedProxies'>,
  clock: Clock,
  log: (line: string) => void,
): Joining {
  if (local === null || local.joining.length === 0) return { bidders: [], door: null };
  const { blockMs } = local;
  const joined = local.joining.map(({ id, key, audited, region, hosts }) => ({
    keyHash: hashKey(key.reveal()),
    bidder: new JoinedBidder({ id, audited, region, hosts, clock, blockMs, log }),
  }));
  const proxies = proxyList(trustedProxies);
  const providers = joined.map(({ keyHash, bidder }) => ({
    id: bidder.id,
    keyHash,
    offer: bidder.offer.bind(bidder),
    tasks: bidder.tasks.bind(bidder),
    bid: bidder.bid.bind(bidder),
    report: bidder.report.bind(bidder),
    answerDispute: bidder.answerDispute.bind(bidder),
    leave: bidder.leave.bind(bidder),
  }));
  const peerOf = (bindings: unknown): string | null => {
    const incoming = (bindings as { readonly incoming?: IncomingMessage } | undefined)?.incoming;
    const address = incoming?.socket.remoteAddress;
    if (address === undefined) return null;
    const peer = normalizeHost(address);
    // Who stands behind a proxy is not where the proxy is.
    return proxies.check(peer, isIPv6(peer) ? 'ipv6' : 'ipv4') ? null : peer;
  };
  return { bidders: joined.map(({ bidder }) => bidder), door: { providers, peerOf } };
}

function proxyList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix] = network.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(prefix), family);
  }
  return list;
}
