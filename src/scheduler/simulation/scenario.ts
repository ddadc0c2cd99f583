import type { PoolSpec } from '../../spec.ts';
import type { Ms } from '../../units.ts';
import type { MarketSetting } from './market.ts';
import type { ServedModel, ServerRate } from './speeds.ts';

/** Everything a run is made of besides its load, its policy and its seed. */
export interface Scenario extends MarketSetting {
  readonly name: string;
  readonly model: ServedModel;
  /** The GPU that the limit on the time to first token is counted for. */
  readonly reference: ServerRate;
  readonly spec: PoolSpec;
  /** A client goes away after so long without a first token. */
  readonly patienceMs: number;
  /** Time to first token that counts as kept, cold or not, instead of the service model's. */
  readonly ttftMs?: Ms;
}
