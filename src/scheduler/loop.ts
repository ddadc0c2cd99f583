import type { Clock } from '../clock.ts';
import { describeError } from '../errors.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName } from '../spec.ts';
import { measureDemand } from './demand.ts';
import { Fleet } from './fleet.ts';
import { planPool, type Action, type PlannedReplica } from './plan.ts';
import type { Pool, Pools } from './pool/pools.ts';
import type { ReplicaRecord, SchedulerRecords } from './records.ts';
import { wantedReplicas } from './scale.ts';
import { Steps, type Decide, type Probe } from './steps.ts';

export interface SchedulerOptions {
  readonly clock: Clock;
  readonly records: SchedulerRecords;
  readonly pools: Pools;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly probe: Probe;
  readonly newId: (prefix: string) => string;
  readonly log: (line: string) => void;
}

/** Without a reason to look sooner. */
const TICK_MS = 500;
/** A ready replica's lease is looked at this often; others at every tick. */
const WATCH_MS = 2000;

/**
 * The one runner: observes demand, markets and leases, decides by the pure functions (`demand`, `scale`, `plan`, `place`)
 * and carries out what they say. Each replica advances on its own, one step at a time, so a slow provider holds up nobody.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #fleet: Fleet;
  readonly #steps: Steps;
  readonly #stop = new AbortController();
  readonly #busy = new Map<string, Promise<void>>();
  readonly #watched = new Map<string, number>();
  readonly #heldBack = new Map<string, string>();
  #ticking: Promise<void> | null = null;
  #again = false;
  #cancelTimer: (() => void) | null = null;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    const { clock, records, pools, markets, probe, newId } = options;
    this.#fleet = new Fleet(records, clock);
    const decide: Decide = ({ pool, kind, reason, detail = {} }) =>
      records.decide({ atMs: clock.now(), pool, kind, reason, detail });
    const signal = this.#stop.signal;
    this.#steps = new Steps({ clock, fleet: this.#fleet, pools, markets, probe, decide, newId, signal });
  }

  /** Finds what an earlier run left, adopts or closes it, then runs. */
  async start(): Promise<void> {
    const { records, pools, markets } = this.#options;
    await records.open();
    await this.#fleet.open();
    for (const record of this.#fleet.active()) await this.#adopt(record);
    await this.#closeStrangers();
    pools.onDemand(() => this.wake());
    for (const market of markets.values()) {
      market.onChange(() => {
        this.#watched.clear();
        this.wake();
      });
    }
    this.wake();
  }

  /** Looks now instead of at the next tick. */
  wake(): void {
    if (this.#stop.signal.aborted) return;
    if (this.#ticking) {
      this.#again = true;
      return;
    }
    this.#cancelTimer?.();
    this.#ticking = this.#tick()
      .catch((error: unknown) => this.#options.log(`scheduler: ${describeError(error)}`))
      .then(() => {
        this.#ticking = null;
        if (this.#again) {
          this.#again = false;
          this.wake();
        } else if (!this.#stop.signal.aborted) {
          this.#cancelTimer = this.#options.clock.timer(TICK_MS, () => this.wake());
        }
      });
  }

  /** Ends the loop and the leases of markets that end with this process; the others keep theirs. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('the scheduler stops'));
    this.#cancelTimer?.();
    await this.#ticking;
    await Promise.all(this.#busy.values());
    for (const record of this.#fleet.active()) {
      const market = record.market === null ? null : this.#options.markets.get(record.market);
      if (market && !market.terms().endsWithProcess) continue;
      if (market && record.leaseId !== null) await market.close(record.leaseId, 'shutdown');
      await this.#steps.end(record, 'the gateway stopped');
    }
  }

  /** An operator closes a lease: its requests may end first. */
  async closeLease(leaseId: string): Promise<ReplicaRecord | null> {
    const record = this.#fleet.active().find((replica) => replica.leaseId === leaseId);
    if (!record) return null;
    await this.#alone(record.id, async () => {
      const current = this.#fleet.find(record.id);
      if (current?.state === 'ready') await this.#steps.drain(current, 'closed by the operator');
      else if (current) await this.#steps.end(current, 'closed by the operator');
    });
    this.wake();
    return this.#fleet.find(record.id) ?? null;
  }

  replicas(): ReplicaRecord[] {
    return this.#fleet.active();
  }

  async #adopt(record: ReplicaRecord): Promise<void> {
    const market = record.market === null ? null : this.#options.markets.get(record.market);
    const status = market && record.leaseId !== null ? await market.status(record.leaseId) : null;
    if (status && status.lease.state !== 'closed') {
      // Ready again only after a probe: what ran before may be gone.
      await this.#fleet.save({ ...record, state: 'starting', reason: 'found again after a restart' });
      return;
    }
    if (record.state === 'accepting' && market) return;
    await this.#steps.end(
      { ...record, state: record.leaseId === null ? 'ordering' : record.state },
      'ended with an earlier run',
    );
  }

  /** Leases and orders that no row of ours knows: nobody may pay for them. */
  async #closeStrangers(): Promise<void> {
    const known = new Set(this.#fleet.active().map(({ orderId }) => orderId));
    for (const market of this.#options.markets.values()) {
      const { orders, leases } = await market.list();
      for (const { lease } of leases) {
        if (known.has(lease.orderId)) continue;
        this.#options.log(`lease ${lease.id} belongs to nothing here: closing it`);
        await market.close(lease.id, 'tenant');
      }
      for (const order of orders) if (!known.has(order.id)) await market.cancel(order.id);
    }
  }

  async #tick(): Promise<void> {
    const { pools } = this.#options;
    for (const pool of [...pools.list(), ...pools.retired()]) await this.#planPool(pool);
    for (const record of this.#fleet.active()) this.#advance(record);
  }

  async #planPool(pool: Pool): Promise<void> {
    const { clock } = this.#options;
    const { router } = pool;
    const { spec } = router;
    const nowMs = clock.now();
    const replicas = this.#fleet.ofPool(spec.id).map((record) => this.#planned(record, pool, nowMs));
    const live = replicas.filter(({ state }) => !['draining', 'closing'].includes(state));
    const demand = measureDemand(router.stats, nowMs);
    // An order that nobody waits for any more is withdrawn at once, a start-up only after the idle time: it is half paid.
    const unready = demand.slots > 0 ? 0 : demand.idleMs;
    const idle = live.map(({ state, idleMs }) => {
      if (state === 'ordering') return demand.slots > 0 ? 0 : Infinity;
      return state === 'ready' ? idleMs : unready;
    });
    const scale = wantedReplicas(spec, demand, idle);
    const budget = { spentTodayNanoUsd: this.#fleet.spentToday(spec.id) };
    const backoffUntilMs = this.#fleet.backoffUntil(spec.id);
    const actions = planPool({ spec, scale, replicas, budget, backoffUntilMs, nowMs });
    for (const action of actions) await this.#act(pool, action);
    if (!actions.some(({ type }) => type === 'hold_back')) this.#heldBack.delete(spec.id);
  }

  #planned(record: ReplicaRecord, pool: Pool, nowMs: number): PlannedReplica {
    const load = pool.router.load(record.id);
    const { spec } = pool.router;
    return {
      id: record.id,
      state: record.state,
      inFlight: load?.inFlight ?? 0,
      idleMs: load && load.inFlight === 0 ? nowMs - load.lastUsedMs : 0,
      drainSinceMs: record.drainMs,
      costNanoUsdPerHour: record.costNanoUsdPerHour ?? spec.ceilingNanoUsdPerHour,
    };
  }

  async #act(pool: Pool, action: Action): Promise<void> {
    const { spec } = pool.router;
    if (action.type === 'order') return this.#steps.order(pool, action.reason);
    if (action.type === 'hold_back') {
      // Said once, not at every tick.
      if (this.#heldBack.get(spec.id) === action.reason) return;
      this.#heldBack.set(spec.id, action.reason);
      pool.router.setPhase(action.reason);
      const { clock, records } = this.#options;
      return records.decide({
        atMs: clock.now(),
        pool: spec.id,
        kind: 'pool.held_back',
        reason: action.reason,
        detail: {},
      });
    }
    const { replica, reason, type } = action;
    // A replica in the middle of a step is left for the next tick.
    if (this.#busy.has(replica)) return;
    const turn = this.#alone(replica, async () => {
      const record = this.#fleet.find(replica);
      if (!record) return;
      if (type === 'drain') await this.#steps.drain(record, reason);
      else await this.#steps.end(record, reason);
    });
    // Not awaited: a provider that is slow to close holds up no other pool.
    turn.then(
      () => this.wake(),
      (error: unknown) => this.#options.log(`replica ${replica} (${type}): ${describeError(error)}`),
    );
  }

  #advance(record: ReplicaRecord): void {
    const { clock, log } = this.#options;
    if (this.#busy.has(record.id)) return;
    if (record.state === 'ready' || record.state === 'draining') {
      const last = this.#watched.get(record.id) ?? 0;
      if (clock.now() - last < WATCH_MS) return;
      this.#watched.set(record.id, clock.now());
    }
    const before = record.state;
    this.#alone(record.id, () => this.#steps.advance(record)).then(
      () => {
        const after = this.#fleet.find(record.id)?.state;
        if (after === 'closed') this.#watched.delete(record.id);
        if (after !== before) this.wake();
      },
      (error: unknown) => log(`replica ${record.id} (${before}): ${describeError(error)}`),
    );
  }

  #alone(id: string, work: () => Promise<void>): Promise<void> {
    const before = this.#busy.get(id) ?? Promise.resolve();
    const turn = before.then(work);
    const settled = turn.catch(() => undefined);
    this.#busy.set(id, settled);
    void settled.then(() => {
      if (this.#busy.get(id) === settled) this.#busy.delete(id);
    });
    return turn;
  }
}
