import type { CloseReason } from '../leases/market.ts';
import type { Ending } from './ending.ts';
import { Ordering } from './ordering.ts';
import type { Parts } from './parts.ts';
import type { Pool } from './pool/pools.ts';
import type { ReplicaRecord } from './records.ts';
import { Serving } from './serving.ts';
import type { OrderOptions } from './tender.ts';

/** What is done for one replica in each state; `loop.ts` calls these, one at a time for a replica. */
export class Steps {
  readonly #ordering: Ordering;
  readonly #serving: Serving;
  readonly #ending: Ending;

  constructor(parts: Parts, ending: Ending) {
    this.#ending = ending;
    this.#ordering = new Ordering(parts, ending);
    this.#serving = new Serving(parts, ending);
  }

  /** One more replica for a pool: its rows. `advance` posts the order. */
  order(pool: Pool, reason: string, options?: OrderOptions): Promise<void> {
    return this.#ordering.order(pool, reason, options);
  }

  advance(record: ReplicaRecord): Promise<void> {
    switch (record.state) {
      case 'ordering':
        return this.#ordering.gather(record);
      case 'accepting':
        return this.#ordering.takeAgain(record);
      case 'starting':
        return this.#serving.start(record);
      case 'ready':
      case 'draining':
        return this.#serving.watch(record);
      case 'closing':
        return this.#ending.close(record);
      case 'closed':
        return Promise.resolve();
    }
  }

  drain(record: ReplicaRecord, reason: string): Promise<void> {
    return this.#ending.drain(record, reason);
  }

  end(record: ReplicaRecord, reason: string, closeReason?: CloseReason): Promise<void> {
    return this.#ending.end(record, reason, closeReason);
  }
}
