import { describeError } from '../errors.ts';
import type { CloseReason, Lease, Market } from '../leases/market.ts';
import { backoffKey } from './failures.ts';
import { meterReplica } from './metering.ts';
import { marketOf, type Parts } from './parts.ts';
import type { Blame } from './provider-book.ts';
import type { ReplicaRecord } from './records.ts';

/** What a start-up that failed counts where nobody has brought that description up: it may be the pool's own fault. */
const UNPROVEN_SHARE = 0.3;

/** How replicas end: no more requests, then the lease or order given back, and only then closed. */
export class Ending {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Stops new requests; the plan closes it when its last answer has ended. */
  async drain(record: ReplicaRecord, reason: string): Promise<void> {
    const { clock, fleet, pools, decide } = this.#parts;
    if (record.state !== 'ready') return;
    pools.find(record.pool)?.router.drain(record.id);
    await fleet.save({ ...record, state: 'draining', drainMs: clock.now(), reason });
    const detail = { replica: record.id, lease: record.leaseId };
    await decide({ pool: record.pool, kind: 'replica.draining', reason, detail });
  }

  /** Ends a replica in whatever state it is. */
  async end(record: ReplicaRecord, reason: string, closeReason: CloseReason = 'tenant'): Promise<void> {
    if (record.state === 'closed') return;
    const closing =
      record.state === 'closing'
        ? record
        : await this.#parts.fleet.save({ ...record, state: 'closing', reason: reason.slice(0, 500) });
    await this.close(closing, closeReason);
  }

  /**
   * It did not work out: the pool pauses before the next order, and the provider when it is to blame. What a gateway that
   * stops no longer hears is nobody's fault; what no machine has brought up yet may be the pool's.
   */
  async fail(record: ReplicaRecord, reason: string, blame: Blame | null): Promise<void> {
    const { clock, fleet, pools, decide, signal } = this.#parts;
    const busyMs = pools.find(record.pool)?.router.load(record.id)?.busyMs ?? record.busyMs ?? 0;
    pools.find(record.pool)?.router.remove(record.id);
    const { reserve, retries } = fleet.notes(record.id);
    if (!retries) fleet.failures.failed(backoffKey(record, reserve));
    const { provider: blamed = null, cause = null } = (signal.aborted ? null : blame) ?? {};
    const blameShare = record.readyMs === null && !fleet.isProven(record) ? UNPROVEN_SHARE : 1;
    const told = {
      failed: true,
      failedMs: retries ? null : clock.now(),
      blamed,
      cause,
      blameShare,
      reason: reason.slice(0, 500),
      busyMs,
    };
    const saving = fleet.save({ ...record, ...told, state: 'closing' });
    // With the row, so that no order that is decided meanwhile goes to the same provider.
    const failed = fleet.find(record.id);
    if (failed) fleet.book.ended(failed);
    await saving;
    const { id, pool, orderId, leaseId, provider } = record;
    const detail = { replica: id, order: orderId, lease: leaseId, provider, cause };
    // An order that fell has told its reason.
    if (record.state !== 'ordering') await decide({ pool, kind: 'replica.failed', reason, detail });
    const { replaces: old, why = 'changed' } = record.beside ?? {};
    if (old !== undefined && record.readyMs === null && why === 'cheaper') fleet.moves.failed(pool);
    if (old !== undefined && record.readyMs === null && why === 'changed' && record.runs) {
      const stands = fleet.rollouts.failed(pool, record.runs.version);
      const told = { ...detail, old };
      await decide({ pool, kind: 'rollout.failed', reason: `${stands}: ${reason}`, detail: told });
    }
    await this.close(failed ?? record, record.state === 'starting' ? 'delivery_failed' : 'tenant');
  }

  /** Gives back what a closing replica has; tried again at later ticks until the market has said that nothing is left. */
  async close(record: ReplicaRecord, closeReason: CloseReason = 'tenant'): Promise<void> {
    const { pools } = this.#parts;
    const busyMs = pools.find(record.pool)?.router.load(record.id)?.busyMs ?? record.busyMs ?? 0;
    const metered = { ...(await meterReplica(this.#parts, record, true)), busyMs };
    // Before the machine goes, so that requests at work move on and new ones go elsewhere.
    pools.find(record.pool)?.router.remove(record.id);
    const ended = record.leaseId === null ? await this.#withdraw(metered) : await this.#giveBack(metered, closeReason);
    if (ended) await this.#closed(ended);
  }

  /** Withdraws a leased replica's order from the markets that did not win it; true when they all said that it is gone. */
  async cancelElsewhere(record: ReplicaRecord): Promise<boolean> {
    const { fleet, markets, log } = this.#parts;
    const { uncancelled } = fleet.notes(record.id);
    for (const name of uncancelled) {
      try {
        const outcome = await markets.get(name)?.cancel(record.orderId);
        if (outcome?.kind !== 'unknown') uncancelled.delete(name);
      } catch (error) {
        log(`order ${record.orderId} could not be withdrawn from ${name}: ${describeError(error)}`);
      }
    }
    return uncancelled.size === 0;
  }

  async #giveBack(record: ReplicaRecord, closeReason: CloseReason): Promise<ReplicaRecord | null> {
    const closed = await this.#closeLease(record, closeReason);
    return (await this.cancelElsewhere(record)) && closed ? record : null;
  }

  /** True when nothing of the lease is left to pay for. */
  async #closeLease(record: ReplicaRecord, closeReason: CloseReason): Promise<boolean> {
    const { decide, fleet } = this.#parts;
    const market = marketOf(this.#parts, record);
    const { leaseId, pool } = record;
    if (!market || leaseId === null) {
      const reason = `its market ${record.market} is not configured: the lease can burn its escrow`;
      await decide({ pool, kind: 'lease.abandoned', reason, detail: { lease: leaseId } });
      return true;
    }
    const outcome = await market.close(leaseId, closeReason);
    if (outcome.kind !== 'refused') return outcome.kind === 'done';
    const status = await market.status(leaseId);
    if (!status || status.lease.state === 'closed') return true;
    const notes = fleet.notes(record.id);
    if (notes.told !== outcome.reason) {
      notes.told = outcome.reason;
      await decide({ pool, kind: 'lease.not_closed', reason: outcome.reason, detail: { lease: leaseId } });
    }
    return false;
  }

  /**
   * Ends a replica that has no lease as far as we know: its order falls everywhere. Where a market says that the order
   * became a lease (its bid was being taken, and the outcome unknown), that lease is closed. Null: to be tried again.
   */
  async #withdraw(record: ReplicaRecord): Promise<ReplicaRecord | null> {
    const { clock, fleet, markets } = this.#parts;
    const order = await fleet.order(record.orderId);
    let ended = record;
    for (const { name } of order?.markets ?? []) {
      const market = markets.get(name);
      if (!market) continue;
      const outcome = await market.cancel(record.orderId);
      if (outcome.kind === 'unknown') return null;
      const lease = outcome.kind === 'refused' ? await leaseOfOrder(market, record.orderId) : null;
      if (!lease) continue;
      const { id: leaseId, provider, openedAtMs: leasedMs } = lease;
      ended = await fleet.save({ ...record, market: name, leaseId, provider, leasedMs });
      if (!(await this.#closeLease(ended, 'tenant'))) return null;
    }
    const state = ended.leaseId === null ? 'fell' : 'won';
    if (order?.state === 'open') await fleet.saveOrder({ ...order, state, closedMs: clock.now() });
    return ended;
  }

  async #closed(record: ReplicaRecord): Promise<void> {
    const { clock, fleet, pools, decide } = this.#parts;
    const { id, pool, failed, reason, leaseId } = record;
    const closed: ReplicaRecord = { ...record, state: 'closed', closedMs: clock.now() };
    if (!failed) fleet.book.ended(closed);
    await fleet.save(closed);
    const router = pools.find(pool)?.router;
    if (router && !failed && fleet.ofPool(pool).length === 0) router.setPhase('asleep');
    await decide({ pool, kind: 'replica.closed', reason, detail: { replica: id, lease: leaseId } });
  }
}

/** The open lease that an order became, if any. */
export async function leaseOfOrder(market: Market, orderId: string): Promise<Lease | null> {
  const { leases } = await market.list();
  return leases.find(({ lease }) => lease.orderId === orderId)?.lease ?? null;
}
