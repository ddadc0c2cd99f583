import type { Clock } from '../clock.ts';
import { describeError } from '../errors.ts';
import type { Lease, LeaseStatus, Market, Outcome, Workload } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import { formatUsd, shareUp, type NanoUsd } from '../units.ts';
import type { Fleet } from './fleet.ts';
import { bidWindow, ceilingPerBlock, chooseBid, costPerHour, depositFor, type Offer } from './place.ts';
import type { Pool, Pools } from './pool/pools.ts';
import type { Target } from './pool/router.ts';
import type { OrderRecord, ReplicaRecord } from './records.ts';

/** Asks a model server a real question; rejects when it does not answer it. */
export type Probe = (target: Target, spec: PoolSpec, signal: AbortSignal) => Promise<void>;

export type Decide = (decision: {
  readonly pool: string | null;
  readonly kind: string;
  readonly reason: string;
  readonly detail?: Record<string, unknown>;
}) => Promise<void>;

export interface StepsOptions {
  readonly clock: Clock;
  readonly fleet: Fleet;
  readonly pools: Pools;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly probe: Probe;
  readonly decide: Decide;
  readonly newId: (prefix: string) => string;
  readonly signal: AbortSignal;
}

const PROBE_MS = 20_000;

/** What is done for one replica in each state; `loop.ts` calls these, one at a time for a replica. */
export class Steps {
  readonly #options: StepsOptions;
  /** Bids that were refused when taken: not tried again. */
  readonly #refusedBids = new Map<string, Set<string>>();
  readonly #deployed = new Set<string>();

  constructor(options: StepsOptions) {
    this.#options = options;
  }

  /** Posts an order for one more replica. The row comes first: a crash leaves an order we know of. */
  async order(pool: Pool, reason: string): Promise<void> {
    const { clock, fleet, markets, newId, decide } = this.#options;
    const { spec } = pool.router;
    const id = newId('rep-');
    const orderId = newId('ord-');
    const names = [...markets.keys()].filter((name) => spec.markets?.includes(name) ?? true);
    const now = clock.now();
    await fleet.save(newReplica(id, spec.id, orderId, now, reason));
    const { cpu, memoryBytes, gpus } = spec.hardware;
    const ceilingUsdPerHour = formatUsd(spec.ceilingNanoUsdPerHour);
    let order: OrderRecord = {
      id: orderId,
      pool: spec.id,
      replica: id,
      state: 'open',
      reason,
      orderedMs: now,
      closedMs: null,
      markets: [],
      bids: [],
      declined: [],
      choice: null,
      offer: { cpu, memoryBytes, gpus, ceilingUsdPerHour },
    };
    await fleet.saveOrder(order);
    pool.router.setPhase('order placed');
    for (const name of names) {
      const market = this.#market(name);
      const ceilingNanoUsdPerBlock = ceilingPerBlock(spec, market.terms());
      const { hardware, trust } = spec;
      const request = {
        id: orderId,
        pool: spec.id,
        hardware,
        trust,
        ceilingNanoUsdPerBlock,
        workload: workloadOf(spec),
      };
      const outcome = await market.tender(request);
      const refusal = outcome.kind === 'done' ? null : outcome.reason;
      order = {
        ...order,
        markets: [...order.markets, { name, ceilingNanoUsdPerBlock, block: market.block(), refusal }],
      };
    }
    await fleet.saveOrder(order);
    await decide({
      pool: spec.id,
      kind: 'order.placed',
      reason,
      detail: { order: orderId, ceiling_usd_per_hour: ceilingUsdPerHour },
    });
  }

  async advance(record: ReplicaRecord): Promise<void> {
    switch (record.state) {
      case 'ordering':
        return this.#gather(record);
      case 'accepting':
        return this.#accept(record);
      case 'starting':
        return this.#start(record);
      case 'ready':
      case 'draining':
        return this.#watch(record);
      case 'closing':
        return this.#close(record);
      case 'closed':
        return;
    }
  }

  /** Stops new requests; the plan closes it when its last answer has ended. */
  async drain(record: ReplicaRecord, reason: string): Promise<void> {
    const { clock, fleet, pools, decide } = this.#options;
    pools.find(record.pool)?.router.drain(record.id);
    await fleet.save({ ...record, state: 'draining', drainMs: clock.now(), reason });
    await decide({
      pool: record.pool,
      kind: 'replica.draining',
      reason,
      detail: { replica: record.id, lease: record.leaseId },
    });
  }

  /** Ends a replica in whatever state it is. */
  async end(record: ReplicaRecord, reason: string): Promise<void> {
    const { fleet } = this.#options;
    if (record.state === 'closed' || record.state === 'closing') return;
    if (record.state === 'ordering') {
      await this.#cancelOrders(record, null);
      await this.#closed(record, reason, false);
      return;
    }
    await this.#close(await fleet.save({ ...record, state: 'closing', reason }));
  }

  async #gather(record: ReplicaRecord): Promise<void> {
    const { clock, fleet, pools } = this.#options;
    const pool = pools.find(record.pool);
    const order = await fleet.order(record.orderId);
    if (!pool || !order) return this.end(record, 'its pool or order is gone');
    const { spec } = pool.router;
    const seen = await this.#offers(order);
    const refusedBids = this.#refusedBids.get(record.id) ?? new Set();
    const offers = seen.offers.filter(({ bid }) => !refusedBids.has(bid.id));
    const bids = offers.map(({ bid }) => bid);
    const orderedMs = order.orderedMs;
    const window = bidWindow({ orderedMs, bids, nowMs: clock.now(), complete: seen.complete && bids.length > 0 }, spec);
    if (window === 'wait' && !(seen.complete && bids.length === 0)) return;
    const choice = chooseBid(offers, spec, fleet.perProvider(spec.id), clock.now());
    const none = bids.length === 0 ? 'nobody bid' : choice.reason;
    const told = {
      ...order,
      bids: seen.offers.map(({ bid, market }) => ({ ...bid, market })),
      declined: seen.declined,
      choice: { bidId: choice.offer?.bid.id ?? null, reason: choice.offer ? choice.reason : none, table: choice.table },
    };
    if (!choice.offer) return this.#noBid(record, told, none);
    const { market, bid, terms } = choice.offer;
    await fleet.saveOrder(told);
    const accepting = await fleet.save({
      ...record,
      state: 'accepting',
      market,
      bidId: bid.id,
      provider: bid.provider,
      priceNanoUsdPerBlock: bid.priceNanoUsdPerBlock,
      costNanoUsdPerHour: costPerHour(bid.priceNanoUsdPerBlock, terms),
      reason: choice.reason,
    });
    return this.#accept(accepting);
  }

  async #noBid(record: ReplicaRecord, order: OrderRecord, reason: string): Promise<void> {
    const { clock, fleet, pools, decide } = this.#options;
    await fleet.saveOrder({ ...order, state: 'fell', closedMs: clock.now() });
    await this.#cancelOrders(record, null);
    fleet.failed(record.pool, null);
    pools.find(record.pool)?.router.setPhase(`no machine: ${reason}`);
    await decide({
      pool: record.pool,
      kind: 'order.fell',
      reason,
      detail: { order: order.id, declined: order.declined },
    });
    await this.#closed(record, reason, true);
  }

  async #accept(record: ReplicaRecord): Promise<void> {
    const { clock, fleet, pools, decide } = this.#options;
    const { market: name, bidId, priceNanoUsdPerBlock: price, orderId } = record;
    const pool = pools.find(record.pool);
    if (name === null || bidId === null || price === null || !pool) return this.end(record, 'its bid is unknown');
    const market = this.#market(name);
    const deposit = depositFor(price, pool.router.spec.runwayMs, market.terms());
    const outcome = await market.accept(orderId, bidId, deposit);
    if (outcome.kind === 'unknown') return;
    const order = await fleet.order(orderId);
    if (outcome.kind === 'refused') {
      this.#refusedBids.set(record.id, (this.#refusedBids.get(record.id) ?? new Set()).add(bidId));
      await decide({
        pool: record.pool,
        kind: 'bid.refused',
        reason: outcome.reason,
        detail: { order: orderId, bid: bidId },
      });
      await fleet.save({
        ...record,
        state: 'ordering',
        market: null,
        bidId: null,
        provider: null,
        reason: outcome.reason,
      });
      const open = (await market.order(orderId))?.state === 'open';
      if (!open && order) await this.#noBid({ ...record, state: 'ordering' }, order, outcome.reason);
      return;
    }
    const lease = outcome.value;
    const starting = await fleet.save({ ...record, state: 'starting', leaseId: lease.id, leasedMs: clock.now() });
    if (order) await fleet.saveOrder({ ...order, state: 'won', closedMs: clock.now() });
    await this.#cancelOrders(starting, name);
    pool.router.setPhase('bid won');
    const detail = { order: orderId, lease: lease.id, provider: lease.provider, deposit_usd: formatUsd(deposit) };
    await decide({ pool: record.pool, kind: 'lease.opened', reason: record.reason, detail });
    return this.#start(starting);
  }

  async #start(record: ReplicaRecord): Promise<void> {
    const { clock, fleet, pools, decide, probe, signal } = this.#options;
    const pool = pools.find(record.pool);
    const status = await this.#status(record);
    if (!pool || !status) return this.#fail(record, 'its lease is unknown to the market');
    const { lease, delivery } = status;
    const { spec } = pool.router;
    if (lease.state === 'closed') return this.#fail(record, `its lease ended: ${lease.closeReason ?? 'unknown'}`);
    if (delivery.state === 'failed') return this.#fail(record, delivery.detail);
    if (delivery.state === 'none' && !this.#deployed.has(record.id)) {
      this.#deployed.add(record.id);
      pool.router.setPhase('loading model');
      await this.#marketOf(record).deploy(lease.id, workloadOf(spec));
      return;
    }
    const sinceMs = record.leasedMs ?? record.orderedMs;
    if (clock.now() - sinceMs > spec.limits.startMs) {
      await this.#marketOf(record).dispute(lease.id, `not ready within ${spec.limits.startMs / 1000} s`);
      return this.#fail(record, 'it was not ready in time');
    }
    if (delivery.state !== 'running' || delivery.url === null) return;
    const running = record.runningMs === null ? await fleet.save({ ...record, runningMs: clock.now() }) : record;
    const target = targetOf(running, lease, spec, delivery.url, delivery.apiKey);
    try {
      await probe(target, spec, AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]));
    } catch (error) {
      await fleet.save({ ...running, reason: `not answering yet: ${describeError(error).slice(0, 200)}` });
      return;
    }
    const ready = await fleet.save({ ...running, state: 'ready', readyMs: clock.now(), reason: 'answered its probe' });
    const startMs = clock.now() - record.orderedMs;
    fleet.succeeded(record.pool, lease.provider);
    pool.router.add(target, startMs);
    pool.router.setPhase('ready');
    const detail = { replica: ready.id, lease: lease.id, provider: lease.provider, start_ms: startMs };
    await decide({ pool: record.pool, kind: 'replica.ready', reason: 'answered its probe', detail });
  }

  /** A replica at work: is its lease alive, and does its escrow reach? */
  async #watch(record: ReplicaRecord): Promise<void> {
    const { fleet, pools, decide } = this.#options;
    const pool = pools.find(record.pool);
    const status = await this.#status(record);
    if (!pool || !status) return this.#fail(record, 'its lease is unknown to the market');
    const { lease, delivery } = status;
    if (lease.state === 'closed') return this.#fail(record, `its lease ended: ${lease.closeReason ?? 'unknown'}`);
    if (delivery.state !== 'running') return this.#fail(record, delivery.detail);
    if (record.state === 'draining') return;
    const market = this.#marketOf(record);
    const { runwayMs } = pool.router.spec;
    const missing = missingRunway(lease, runwayMs, market);
    if (missing === 0n) return;
    const fundings = record.fundings + 1;
    await fleet.save({ ...record, fundings });
    const funded = await market.fund(lease.id, missing, `fund-${fundings}`);
    const reason = funded.kind === 'done' ? `runway below ${runwayMs / 2000} s` : funded.reason;
    const detail = { lease: lease.id, amount_usd: formatUsd(missing), outcome: funded.kind };
    await decide({ pool: record.pool, kind: 'lease.funded', reason, detail });
  }

  async #fail(record: ReplicaRecord, reason: string): Promise<void> {
    const { fleet, pools, decide } = this.#options;
    pools.find(record.pool)?.router.remove(record.id);
    fleet.failed(record.pool, record.provider);
    const detail = { replica: record.id, lease: record.leaseId, provider: record.provider };
    await decide({ pool: record.pool, kind: 'replica.failed', reason, detail });
    await this.#close(await fleet.save({ ...record, state: 'closing', failed: true, reason }));
  }

  async #close(record: ReplicaRecord): Promise<void> {
    const { pools } = this.#options;
    if (record.leaseId !== null) {
      const outcome: Outcome<Lease> = await this.#marketOf(record).close(record.leaseId, 'tenant');
      if (outcome.kind === 'unknown') return;
    }
    pools.find(record.pool)?.router.remove(record.id);
    await this.#closed(record, record.reason, record.failed);
  }

  async #closed(record: ReplicaRecord, reason: string, failed: boolean): Promise<void> {
    const { clock, fleet, pools, decide } = this.#options;
    this.#refusedBids.delete(record.id);
    this.#deployed.delete(record.id);
    await fleet.save({ ...record, state: 'closed', closedMs: clock.now(), failed, reason });
    const router = pools.find(record.pool)?.router;
    if (router && !failed && fleet.ofPool(record.pool).length === 0) router.setPhase('asleep');
    const detail = { replica: record.id, lease: record.leaseId };
    await decide({ pool: record.pool, kind: 'replica.closed', reason, detail });
  }

  async #cancelOrders(record: ReplicaRecord, except: MarketName | null): Promise<void> {
    const { clock, fleet } = this.#options;
    const order = await fleet.order(record.orderId);
    for (const { name } of order?.markets ?? []) {
      if (name !== except) await this.#options.markets.get(name)?.cancel(record.orderId);
    }
    if (order?.state === 'open') await fleet.saveOrder({ ...order, state: 'fell', closedMs: clock.now() });
  }

  async #offers(
    order: OrderRecord,
  ): Promise<{ offers: Offer[]; declined: OrderRecord['declined']; complete: boolean }> {
    const { fleet, markets } = this.#options;
    const offers: Offer[] = [];
    const declined: { market: MarketName; provider: string; reason: string }[] = [];
    let complete = true;
    for (const { name, refusal } of order.markets) {
      const market = markets.get(name);
      const view = refusal === null ? await market?.order(order.id) : null;
      if (!market || !view) continue;
      complete &&= view.complete;
      const histories = new Map((await market.providers()).map((provider) => [provider.id, provider]));
      for (const bid of view.bids) {
        const history = histories.get(bid.provider) ?? { leases: 0, failures: 0, disputes: 0 };
        const quarantinedUntilMs = fleet.quarantinedUntil(bid.provider);
        offers.push({ market: name, terms: market.terms(), bid, history, quarantinedUntilMs });
      }
      for (const one of view.declined) declined.push({ market: name, ...one });
    }
    return { offers, declined, complete };
  }

  #status(record: ReplicaRecord): Promise<LeaseStatus | null> {
    return record.leaseId === null ? Promise.resolve(null) : this.#marketOf(record).status(record.leaseId);
  }

  #marketOf(record: ReplicaRecord): Market {
    if (record.market === null) throw new Error(`replica ${record.id} has no market`);
    return this.#market(record.market);
  }

  #market(name: MarketName): Market {
    const market = this.#options.markets.get(name);
    if (!market) throw new Error(`the market ${name} is not configured`);
    return market;
  }
}

/** What has to go into an escrow whose runway fell below half; 0 when it reaches. Counts blocks not drawn yet. */
function missingRunway(lease: Lease, runwayMs: number, market: Market): NanoUsd {
  const terms = market.terms();
  const each = lease.priceNanoUsdPerBlock + shareUp(lease.priceNanoUsdPerBlock, terms.takeFeeBp);
  if (lease.depositNanoUsd === 0n || each === 0n) return 0n;
  const owed = each * BigInt(Math.max(0, market.block() - lease.settledBlock));
  const left = lease.depositNanoUsd - lease.rentNanoUsd - lease.takeFeeNanoUsd - lease.refundNanoUsd - owed;
  const wanted = depositFor(lease.priceNanoUsdPerBlock, runwayMs, terms);
  return left * 2n < wanted ? wanted - left : 0n;
}

function workloadOf(spec: PoolSpec): Workload {
  const { id, engine, model, image, slots, contextTokens } = spec;
  return { pool: id, engine, model, image, slots, contextTokens };
}

function targetOf(record: ReplicaRecord, lease: Lease, spec: PoolSpec, url: string, apiKey: string | null): Target {
  const { engine, slots } = spec;
  const market = record.market ?? 'local';
  return { id: record.id, url, apiKey, engine, slots, market, provider: lease.provider, leaseId: lease.id };
}

function newReplica(id: string, pool: string, orderId: string, nowMs: number, reason: string): ReplicaRecord {
  return {
    id,
    pool,
    state: 'ordering',
    orderId,
    market: null,
    bidId: null,
    leaseId: null,
    provider: null,
    priceNanoUsdPerBlock: null,
    costNanoUsdPerHour: null,
    orderedMs: nowMs,
    leasedMs: null,
    runningMs: null,
    readyMs: null,
    drainMs: null,
    closedMs: null,
    failed: false,
    reason,
    fundings: 0,
  };
}
