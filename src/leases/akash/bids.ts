import { formatUsd, type EpochMs } from '../../units.ts';
import type { Hardware } from '../../spec/hardware.ts';
import { shortfall, type Place } from '../../spec/trust.ts';
import type { Bid } from '../market.ts';
import { nanoOfDecUp } from './amounts.ts';
import type { ChainBid, ChainProvider } from './chain-types.ts';
import { gpuKey } from './sdl.ts';
import type { OrderRow } from './records.ts';
import { TEE_ATTRIBUTE } from './workload.ts';

interface Seen {
  readonly denom: string;
  readonly nowMs: EpochMs;
  readonly providers: ReadonlyMap<string, ChainProvider>;
  /** Whose signature makes a provider an audited one. */
  readonly auditors: readonly string[];
}

export interface Gathered {
  readonly bids: readonly Bid[];
  readonly declined: readonly { readonly provider: string; readonly reason: string }[];
}

/** Pure: the chain's bids for an order, with what keeps one from being taken. Times of bids that were seen before stay. */
export function gatherBids(row: OrderRow, found: readonly ChainBid[], seen: Seen): Gathered {
  const bids: Bid[] = [];
  const declined: { provider: string; reason: string }[] = [];
  const known = new Map(row.bids.map((bid) => [bid.id, bid]));
  for (const bid of found) {
    if (bid.state !== 'open') continue;
    const provider = seen.providers.get(bid.provider);
    const place = placeOf(bid.provider, provider, seen.auditors);
    const problem = problemOf(row, { bid, place, denom: seen.denom });
    if (problem !== null) {
      declined.push({ provider: bid.provider, reason: problem });
      continue;
    }
    const id = `${row.orderId}/${bid.provider}`;
    const before = known.get(id);
    bids.push({
      id,
      orderId: row.orderId,
      provider: bid.provider,
      priceNanoUsdPerBlock: nanoOfDecUp(bid.price),
      atMs: before?.atMs ?? seen.nowMs,
      block: bid.createdAt,
      note: noteOf(bid, place),
      startMs: null,
      trust: place.trust ?? 'any',
      region: place.region ?? null,
    });
  }
  return { bids, declined };
}

/** What the chain says of a provider: audited when an auditor of ours has signed, tee when it says so of itself besides. */
export function placeOf(owner: string, provider: ChainProvider | undefined, auditors: readonly string[]): Place {
  const attributes = provider?.attributes ?? {};
  const audited = provider?.auditors.some((auditor) => auditors.includes(auditor)) ?? false;
  const region = attributes['region'] ?? attributes['location-region'] ?? null;
  const trust = !audited ? 'any' : attributes[TEE_ATTRIBUTE] === undefined ? 'audited' : 'tee';
  return { provider: owner, region, trust };
}

function problemOf(
  row: OrderRow,
  { bid, place, denom }: { readonly bid: ChainBid; readonly place: Place; readonly denom: string },
): string | null {
  if (bid.denom !== denom) return `asks for ${bid.denom}`;
  const { request } = row;
  if (!request) return 'the order is of an earlier run';
  if (nanoOfDecUp(bid.price) > request.ceilingNanoUsdPerBlock) {
    return `asks ${formatUsd(nanoOfDecUp(bid.price))} a block, above the ceiling`;
  }
  // The chain takes no other bids; what is at stake is worth a second look.
  const less = shortfall({ ...place, region: null }, { trust: request.trust, regions: null, providers: null });
  return less ?? gpuProblem(request.hardware, bid.gpus);
}

/** A bid names the GPU that would really be given: another one than asked for is not taken. */
export function gpuProblem(hardware: Hardware, offered: readonly string[]): string | null {
  if (hardware.gpus === 0 || offered.length === 0) return null;
  const fits = hardware.gpu.some(({ vendor, model, ramBytes, interface: bus = null }) => {
    const ram = ramBytes === null ? null : `${Math.round(ramBytes / 2 ** 30)}Gi`;
    const wanted = segments(gpuKey({ vendor, model, ram, interface: bus }));
    return offered.some((key) => {
      const given = new Map(segments(key));
      return wanted.every(([name, value]) => given.get(name) === value);
    });
  });
  return fits ? null : `offers ${offered.join(', ').slice(0, 200)}, which was not asked for`;
}

/** "vendor/nvidia/model/a100" as its pairs. */
function segments(key: string): [string, string][] {
  const parts = key.split('/');
  return parts.flatMap((name, index): [string, string][] =>
    index % 2 === 0 && parts[index + 1] !== undefined ? [[name, parts[index + 1] ?? '']] : [],
  );
}

function noteOf(bid: ChainBid, { region, trust = 'any' }: Place): string {
  const parts = [
    ...bid.gpus.map((key) => key.replace(/^vendor\//, '').replaceAll('/', ' ')),
    ...(region ? [region] : []),
    trust === 'any' ? 'not audited' : trust === 'tee' ? 'audited, says that it has trusted hardware' : 'audited',
  ];
  return parts.join(', ').slice(0, 300);
}
