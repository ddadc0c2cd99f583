import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { PoolSpec } from '../../spec.ts';
import { PoolRouter } from './router.ts';
import { Worths } from './worth.ts';

export interface Pool {
  readonly router: PoolRouter;
  readonly priceVersion: number;
  /** Those from the configuration file cannot be changed over the API. */
  readonly source: 'file' | 'api';
}

/** Every pool by its public model id; the gateway looks models up here, the scheduler feeds their routers. */
export class Pools {
  readonly #clock: Clock;
  readonly #supervised: boolean;
  readonly #pools = new Map<string, Pool>();
  readonly #retired = new Map<string, Pool>();
  #onDemand: () => void = () => undefined;
  /** What requests in line are worth, whatever they ask. */
  readonly worths = new Worths();

  /** @param supervised a scheduler probes replicas that failed, see `PoolRouter.supervised` */
  constructor(clock: Clock, supervised = false) {
    this.#clock = clock;
    this.#supervised = supervised;
  }

  /** Called when a request starts to wait or a draining replica falls idle. */
  onDemand(listener: () => void): void {
    this.#onDemand = listener;
  }

  get(id: string): Pool | undefined {
    return this.#pools.get(id);
  }

  list(): Pool[] {
    return [...this.#pools.values()];
  }

  /** A pool that takes requests, or one that was deleted and still has replicas to close. */
  find(id: string): Pool | undefined {
    return this.#pools.get(id) ?? this.#retired.get(id);
  }

  retired(): Pool[] {
    return [...this.#retired.values()];
  }

  put(spec: PoolSpec, priceVersion: number, source: Pool['source']): Pool {
    const known = this.#pools.get(spec.id) ?? this.#retired.get(spec.id);
    const router = known?.router ?? new PoolRouter(spec, this.#clock, () => this.#onDemand(), this.#supervised);
    router.update(spec);
    const pool = { router, priceVersion, source };
    this.#retired.delete(spec.id);
    this.#pools.set(spec.id, pool);
    return pool;
  }

  /** The model is gone for new requests; its replicas drain. */
  remove(id: string): boolean {
    const pool = this.#pools.get(id);
    if (!pool) return false;
    this.#pools.delete(id);
    pool.router.update({ ...pool.router.spec, replicasMin: 0, replicasMax: 0, schedule: null });
    this.#retired.set(id, pool);
    pool.router.close(new AppError('model_not_found', `the model ${id} was removed`));
    this.#onDemand();
    return true;
  }
  /** A deleted pool has nothing left to close. */
  forget(id: string): void {
    this.#retired.delete(id);
  }
}
