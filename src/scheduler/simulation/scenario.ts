import type { PoolSpec } from '../../spec.ts';
import type { SimulatedProvider, Trouble } from './market.ts';
import type { ServedModel, ServerRate } from './speeds.ts';

/** Everything a run is made of besides its load, its policy and its seed. */
export interface Scenario {
  readonly name: string;
  readonly model: ServedModel;
  /** The GPU that the limit on the time to first token is counted for. */
  readonly reference: ServerRate;
  readonly spec: PoolSpec;
  readonly providers: readonly SimulatedProvider[];
  readonly troubles: readonly Trouble[];
  /** A client goes away after so long without a first token. */
  readonly patienceMs: number;
}
