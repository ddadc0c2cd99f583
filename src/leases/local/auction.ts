import type { OrderRequest } from '../market.ts';
import type { LocalProvider } from '../../spec.ts';
import type { Place } from '../../spec/trust.ts';
import { maxBig, perBlockFromPerHour, type Ms, type NanoUsd } from '../../units.ts';

export type BidDecision =
  | { readonly bid: true; readonly priceNanoUsdPerBlock: NanoUsd; readonly note: string }
  | { readonly bid: false; readonly reason: string };

export const ABOVE_CEILING = 'its price is above the ceiling';
const PEAK_FROM_BP = 8_000;

/** A provider's price per block at its present use (0-10,000 basis points), and how it came to it. Never below cost. */
export function askingPrice(provider: LocalProvider, inUseBp: number, blockMs: Ms): { price: NanoUsd; note: string } {
  const cost = provider.costNanoUsdPerHour;
  const { policy } = provider;
  const perBlock = (perHour: NanoUsd): NanoUsd => maxBig(1n, perBlockFromPerHour(perHour, blockMs));
  if (policy.kind === 'fixed') return { price: perBlock(policy.priceNanoUsdPerHour), note: 'fixed price' };
  const list = (cost * BigInt(10_000 + policy.marginBp)) / 10_000n;
  if (policy.kind === 'cost_plus') return { price: perBlock(list), note: `cost plus ${policy.marginBp / 100} %` };
  const discountBp = Math.round((policy.discountMaxBp * (10_000 - inUseBp)) / 10_000);
  const over = Math.max(0, inUseBp - PEAK_FROM_BP) / (10_000 - PEAK_FROM_BP);
  const markupBp = Math.round(policy.peakMarkupBp * over);
  const moved = (list * BigInt(10_000 - discountBp + markupBp)) / 10_000n;
  const note = `cost plus ${policy.marginBp / 100} %, ${inUseBp / 100} % in use: ${(markupBp - discountBp) / 100} %`;
  return { price: perBlock(maxBig(moved, cost)), note };
}

/** Where the machines stand that run here. */
export const LOCAL_REGION = 'local';

/** What counts for whether a provider may serve an order. */
export interface Fitness extends Pick<LocalProvider, 'slots' | 'cpu' | 'memoryBytes' | 'gpus' | 'audited'> {
  /** Where its machines stand; null: nobody said. */
  readonly region: string | null;
}

/** As those see it who compare bids. */
export function placeOf({
  id,
  facts,
}: {
  readonly id: string;
  readonly facts: Pick<Fitness, 'audited' | 'region'>;
}): Place {
  return { provider: id, trust: facts.audited ? 'audited' : 'any', region: facts.region };
}

/** Why a provider with so many leases cannot serve an order at any price; null when it can. */
export function findObstacle(provider: Fitness, leases: number, order: OrderRequest): string | null {
  const { hardware, trust, region = null } = order;
  if (leases >= provider.slots) return 'no free capacity';
  if (hardware.cpu > provider.cpu) return `has ${provider.cpu} cores`;
  if (hardware.memoryBytes > provider.memoryBytes) return 'has too little memory';
  const fits = (model: string): boolean => hardware.gpu.length === 0 || hardware.gpu.some((gpu) => gpu.model === model);
  if (provider.gpus.filter(fits).length < hardware.gpus) return 'does not have the GPUs';
  if (trust === 'tee') return 'has no trusted execution environment';
  if (trust === 'audited' && !provider.audited) return 'is not audited';
  if (region !== null && region !== provider.region)
    return provider.region === null ? 'stands nobody knows where' : `stands here (region ${provider.region})`;
  return null;
}

/** How much of a provider is in use, of 10,000. */
export function usedBp({ slots }: LocalProvider, leases: number): number {
  return Math.round((leases * 10_000) / slots);
}

/** Whether and at what price a provider bids. */
export function decideBid(provider: LocalProvider, leases: number, order: OrderRequest, blockMs: Ms): BidDecision {
  const obstacle = findObstacle({ ...provider, region: LOCAL_REGION }, leases, order);
  if (obstacle !== null) return { bid: false, reason: obstacle };
  const { price, note } = askingPrice(provider, usedBp(provider, leases), blockMs);
  if (price > order.ceilingNanoUsdPerBlock) return { bid: false, reason: ABOVE_CEILING };
  return { bid: true, priceNanoUsdPerBlock: price, note };
}
