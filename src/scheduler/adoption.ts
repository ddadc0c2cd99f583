import { describeError } from '../errors.ts';
import type { LeaseStatus, Market } from '../leases/market.ts';
import type { Ending } from './ending.ts';
import { epochOf } from './epoch.ts';
import { marketOf, type Parts } from './parts.ts';
import type { ReplicaRecord } from './records.ts';

/** After a restart: what an earlier run left is taken over or ended. */
export class Adoption {
  readonly #parts: Parts;
  readonly #ending: Ending;
  /** Markets that could not say what is ours there. */
  readonly #silent = new Set<Market>();

  constructor(parts: Parts, ending: Ending) {
    this.#parts = parts;
    this.#ending = ending;
  }

  async adopt(record: ReplicaRecord): Promise<void> {
    const { fleet, log } = this.#parts;
    const market = marketOf(this.#parts, record);
    // Whether its bid was taken is looked up by the loop.
    if (record.state === 'accepting' && record.leaseId === null && market) return;
    const given = record.state === 'draining' || record.state === 'closing';
    try {
      const status = await this.#open(record, market);
      if (status && !given) await this.#takeOver(record);
      else await this.#ending.end(record, 'ended with an earlier run');
    } catch (error) {
      // Not known now: the loop asks again, as of a replica that starts.
      log(`replica ${record.id} of an earlier run: ${describeError(error)}`);
      const now = fleet.find(record.id) ?? record;
      const state = now.leaseId === null || given || now.state === 'closing' ? 'closing' : 'starting';
      fleet.notes(record.id).startSinceMs = this.#parts.clock.now();
      await fleet.save({ ...now, state, reason: 'left by an earlier run' });
    }
  }

  /** Ends leases and orders that no row of ours wants: nobody may pay for them. False: to be tried again. */
  async sweep(market: Market): Promise<boolean> {
    const { fleet, decide } = this.#parts;
    const listed = await this.#list(market);
    if (listed === null) return false;
    const { orders, leases } = listed;
    const replicas = fleet.active();
    const wanted = new Set(replicas.map(({ orderId }) => orderId));
    const ordered = new Set(
      replicas.filter(({ state }) => state === 'ordering' || state === 'accepting').map(({ orderId }) => orderId),
    );
    let clean = true;
    for (const { lease } of leases) {
      if (wanted.has(lease.orderId)) continue;
      const outcome = await market.close(lease.id, 'tenant');
      clean &&= outcome.kind !== 'unknown';
      const reason = `belongs to nothing here (${outcome.kind})`;
      const detail = { lease: lease.id, epoch: epochOf(lease.orderId) };
      await decide({ pool: lease.pool, kind: 'lease.stranger_closed', reason, detail });
    }
    for (const order of orders) {
      if (!ordered.has(order.id)) clean &&= (await market.cancel(order.id)).kind !== 'unknown';
    }
    return clean;
  }

  /** Null: it does not know yet. That is told once, however often it is asked. */
  async #list(market: Market): Promise<Awaited<ReturnType<Market['list']>> | null> {
    try {
      return await market.list();
    } catch (error) {
      const why = describeError(error);
      if (!this.#silent.has(market)) this.#parts.log(`sweep of the market ${market.name}: ${why}`);
      this.#silent.add(market);
      return null;
    }
  }

  async #open(record: ReplicaRecord, market: Market | undefined): Promise<LeaseStatus | null> {
    const status = market && record.leaseId !== null ? await market.status(record.leaseId) : null;
    return status && status.lease.state !== 'closed' ? status : null;
  }

  /** Ready again only after a probe: what ran before may be gone. Its start-up is timed from now. */
  async #takeOver(record: ReplicaRecord): Promise<void> {
    const { clock, fleet, decide } = this.#parts;
    const reason = 'found again after a restart';
    const order = await fleet.order(record.orderId);
    if (order?.state === 'open') await fleet.saveOrder({ ...order, state: 'won', closedMs: clock.now() });
    fleet.notes(record.id).startSinceMs = clock.now();
    await fleet.save({ ...record, state: 'starting', reason });
    const detail = { replica: record.id, lease: record.leaseId, provider: record.provider };
    await decide({ pool: record.pool, kind: 'replica.adopted', reason, detail });
  }
}
