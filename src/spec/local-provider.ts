import type { Ms, NanoUsd } from '../units.ts';

/** How a provider sets its price. Basis points of its cost, or a price that never moves. */
export type PricePolicy =
  | { readonly kind: 'cost_plus'; readonly marginBp: number }
  /** Cheaper the idler: the whole discount when nothing runs, none when full; above 80 % in use it marks up. */
  | {
      readonly kind: 'idle_discount';
      readonly marginBp: number;
      readonly discountMaxBp: number;
      readonly peakMarkupBp: number;
    }
  | { readonly kind: 'fixed'; readonly priceNanoUsdPerHour: NanoUsd };

/** One provider of the embedded market. */
export interface LocalProvider {
  readonly id: string;
  /** Leases it can serve at once. */
  readonly slots: number;
  readonly cpu: number;
  readonly memoryBytes: number;
  readonly gpus: readonly string[];
  readonly audited: boolean;
  readonly costNanoUsdPerHour: NanoUsd;
  readonly policy: PricePolicy;
  /** How long it takes to answer an order. */
  readonly replyMs: Ms;
}
