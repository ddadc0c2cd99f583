import { describeError } from '../errors.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName } from '../spec.ts';
import { Adoption } from './adoption.ts';
import { Allowances } from './allowances.ts';
import type { Advising } from './advising.ts';
import { Ending } from './ending.ts';
import { Fleet } from './fleet.ts';
import { HeldBack } from './held-back.ts';
import { LOOK_MS, PLANNED, SUSPECT_LOOK_MS } from './pace.ts';
import { describeStop, Panic, turnAway, type Stop } from './panic.ts';
import type { Decide, Parts, SchedulerOptions } from './parts.ts';
import type { Action } from './plan.ts';
import { Pauses } from './pauses.ts';
import { Planner } from './planner.ts';
import type { Pool } from './pool/pools.ts';
import type { ProviderBook } from './provider-book.ts';
import type { ReplicaRecord } from './records.ts';
import type { ReserveAction } from './reserve.ts';
import { Steps } from './steps.ts';
import { refuseWake } from './waking.ts';
import { RETRY_MS, Work } from './work.ts';

/** Without a reason to look sooner. */
const TICK_MS = 500;
/** So long a stop waits for steps that are under way. */
const STOP_MS = 20_000;
/** So long a start waits to hear what became of what an earlier run left; what is not heard by then is heard later. */
const START_MS = 5000;
/** So long it is tried to close what would outlive this process. */
const CLOSE_MS = 60_000;

/**
 * The one runner: observes demand, markets and leases, decides by the pure functions (`demand`, `scale`, `plan`, `place`)
 * and carries out what they say. Each replica advances on its own, one step at a time, so a slow provider holds up nobody.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #fleet: Fleet;
  readonly #steps: Steps;
  readonly #adoption: Adoption;
  /** Switched by an operator: every lease ends, nothing is ordered. */
  readonly panic: Panic;
  /** The same for single pools, and what accounts may have for nothing. */
  readonly pauses: Pauses;
  readonly allowances: Allowances;
  readonly #stop = new AbortController();
  /** By replica, or by market for a sweep. */
  readonly #work: Work;
  /** Markets in which strangers may be left. */
  readonly #unswept = new Set<Market>();
  readonly #heldBack = new HeldBack();
  readonly #planner: Planner;
  readonly #decide: Decide;
  #ticking: Promise<void> | null = null;
  #again = false;
  #cancelTimer: (() => void) | null = null;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    const { clock, records, log } = options;
    this.#work = new Work(clock, log);
    this.#fleet = new Fleet(records, clock, log);
    this.panic = new Panic(records, clock);
    this.pauses = new Pauses(records, clock);
    this.allowances = new Allowances(records, this.#fleet, clock);
    this.#decide = ({ pool, kind, reason, detail = {} }) =>
      records.decide({ atMs: clock.now(), pool, kind, reason, detail });
    const switches = { pauses: this.pauses, allowances: this.allowances };
    this.#planner = new Planner({ ...options, ...switches, decide: this.#decide }, this.#fleet);
    const parts: Parts = { ...options, fleet: this.#fleet, decide: this.#decide, signal: this.#stop.signal };
    const ending = new Ending(parts);
    this.#steps = new Steps(parts, ending);
    this.#adoption = new Adoption(parts, ending);
  }

  /** Finds what an earlier run left, adopts or closes it, then runs. */
  async start(): Promise<void> {
    const { records, pools, markets } = this.#options;
    await records.open();
    for (const kept of [this.panic, this.pauses, this.allowances]) await kept.open();
    await this.#fleet.open();
    for (const record of this.#fleet.active()) {
      const work = (): Promise<void> => this.#adoption.adopt(record);
      this.#work.run(record.id, work, `replica ${record.id} (of an earlier run)`);
    }
    for (const market of markets.values()) {
      this.#unswept.add(market);
      market.onChange(() => {
        this.#work.hurry();
        this.wake();
      });
    }
    this.#sweep();
    await this.#work.idle(START_MS);
    pools.onDemand(() => this.wake());
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
    // Not within the call of a request that began to wait, and with the others of the same turn.
    this.#ticking = Promise.resolve()
      .then(() => this.#tick())
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

  /**
   * Ends the loop and the leases of markets that end with this process; the others keep theirs, unless all are to be
   * closed: that is tried again for a while, and said of those that stay.
   */
  async stop({ closeLeases = false }: { readonly closeLeases?: boolean } = {}): Promise<void> {
    const { markets, clock, log } = this.#options;
    this.#stop.abort(new Error('the scheduler stops'));
    this.#cancelTimer?.();
    await this.#ticking;
    await this.#work.idle(STOP_MS);
    const ends = ({ id, market: name }: ReplicaRecord): boolean => {
      const market = name === null ? undefined : markets.get(name);
      return !this.#work.has(id) && (closeLeases || !market || market.terms().endsWithProcess);
    };
    const untilMs = clock.monotonic() + (closeLeases ? CLOSE_MS : 0);
    for (;;) {
      const left = this.#fleet.active().filter(ends);
      await Promise.all(left.map((record) => this.#endAtStop(record)));
      if (!this.#fleet.active().some(ends) || clock.monotonic() >= untilMs) break;
      await clock.sleep(RETRY_MS);
    }
    if (!closeLeases) return;
    for (const { leaseId } of this.#fleet.active()) if (leaseId !== null) log(`lease ${leaseId} is still open`);
  }

  async #endAtStop(record: ReplicaRecord): Promise<void> {
    const { log } = this.#options;
    try {
      await this.#steps.end(record, 'the gateway stopped', 'shutdown');
    } catch (error) {
      log(`replica ${record.id} could not be ended: ${describeError(error)}`);
    }
  }

  /** An operator closes a lease: its requests may end first. Null: no replica has it. */
  async closeLease(leaseId: string): Promise<ReplicaRecord | null> {
    const record = this.#fleet.active().find((replica) => replica.leaseId === leaseId);
    if (!record) return null;
    await this.#work.alone(record.id, async () => {
      const current = this.#fleet.find(record.id);
      if (current?.state === 'ready') await this.#steps.drain(current, 'closed by the operator');
      else if (current) await this.#steps.end(current, 'closed by the operator');
    });
    this.wake();
    return this.#fleet.find(record.id) ?? this.#options.records.findByLease(leaseId);
  }

  /** Looks in every market for what belongs to nothing here. */
  sweepAgain(): void {
    for (const market of this.#options.markets.values()) this.#unswept.add(market);
    this.#work.hurry();
    this.wake();
  }

  /** Markets that have not said yet that nothing else of ours is left there. */
  unswept(): MarketName[] {
    return [...this.#unswept].map(({ name }) => name);
  }

  /** What a market last said of a replica that could not be ended. */
  whyOpen(id: string): string | null {
    return this.#fleet.notes(id).told;
  }

  replicas(): ReplicaRecord[] {
    return this.#fleet.active();
  }

  /** What is remembered of providers and pools. */
  get book(): ProviderBook {
    return this.#fleet.book;
  }

  /** What pools bring in and cost. */
  get advising(): Advising {
    return this.#planner.advising;
  }

  async #tick(): Promise<void> {
    const { pools, log } = this.#options;
    const { stop } = this.panic;
    const all = [...pools.list(), ...pools.retired()];
    this.#planner.look(all);
    if (stop) this.#endAll(all, stop);
    for (const pool of stop ? [] : all) {
      try {
        await this.#planPool(pool);
      } catch (error) {
        // One pool's trouble is not the others', and is not tried again at once.
        log(`pool ${pool.router.spec.id}: ${describeError(error)}`);
        this.#fleet.failures.failed(pool.router.spec.id);
      }
    }
    for (const { router } of pools.retired()) {
      const { id } = router.spec;
      if (router.stats.inFlight === 0 && this.#fleet.ofPool(id).length === 0) pools.forget(id);
    }
    for (const record of this.#fleet.active()) this.#advance(record);
    this.#sweep();
    this.#work.forget();
  }

  /** Again at every tick: what could not be closed is tried until it is. */
  #endAll(pools: readonly Pool[], stop: Stop): void {
    for (const { router } of pools) turnAway(router);
    for (const { id, state } of this.#fleet.active()) {
      if (state === 'closing' || this.#work.isEarly(id)) continue;
      const work = async (): Promise<void> => {
        const record = this.#fleet.find(id);
        if (record) await this.#steps.end(record, describeStop(stop));
      };
      this.#work.run(id, work, `replica ${id} (panic)`, () => this.wake());
    }
  }

  async #planPool(pool: Pool): Promise<void> {
    const actions = this.#planner.plan(pool);
    for (const action of actions) await this.#act(pool, action);
    const { id } = pool.router.spec;
    if (!actions.some(({ type }) => type === 'hold_back')) this.#heldBack.forget(id);
  }

  async #act(pool: Pool, action: Action | ReserveAction): Promise<void> {
    const { spec } = pool.router;
    if (action.type === 'reserve') return this.#steps.order(pool, action.reason, { ...action, who: 'reserve' });
    if (action.type === 'order') {
      // What is to relieve a reserve is no other one.
      const relieving = this.#fleet.ofPool(spec.id).some(({ id }) => this.#fleet.notes(id).reserve);
      const who = relieving || action.beside?.why === 'cheaper' ? 'machines' : 'all';
      return this.#steps.order(pool, action.reason, { ...action, who });
    }
    if (action.type === 'hold_back') return this.#heldBack.tell(pool.router, action.reason, this.#decide);
    if (action.type === 'refuse') return refuseWake(pool.router, action);
    const { replica, reason, type } = action;
    // A replica in the middle of a step is left for the next tick.
    if (this.#work.has(replica)) return;
    const work = async (): Promise<void> => {
      const record = this.#fleet.find(replica);
      if (!record || !PLANNED[type].includes(record.state)) return;
      if (type === 'drain') await this.#steps.drain(record, reason);
      else await this.#steps.end(record, reason);
    };
    // Not awaited: a provider that is slow to close holds up no other pool.
    this.#work.run(replica, work, `replica ${replica} (${type})`, () => this.wake());
  }

  #advance(record: ReplicaRecord): void {
    const { id, state } = record;
    const suspectMs = this.#options.pools.find(record.pool)?.router.load(id)?.suspectMs ?? null;
    const notes = this.#fleet.notes(id);
    // One that has begun to fail requests is looked at now, then again and again until it is known whether it lives.
    if (suspectMs !== null && suspectMs !== notes.suspectMs) this.#work.hurry(id);
    notes.suspectMs = suspectMs;
    if (this.#work.isEarly(id) || (this.panic.stop && state !== 'closing')) return;
    this.#work.rest(id, suspectMs === null ? LOOK_MS[state] : SUSPECT_LOOK_MS);
    const after = (): void => {
      if (this.#fleet.find(id)?.state === state) return;
      this.#work.hurry(id);
      this.wake();
    };
    this.#work.run(id, () => this.#steps.advance(record), `replica ${id} (${state})`, after);
  }

  /** Ends leases and orders that belong to nothing here, until every market has said that none is left. */
  #sweep(): void {
    for (const market of this.#unswept) {
      const id = `market ${market.name}`;
      if (this.#work.isEarly(id)) continue;
      this.#work.rest(id, RETRY_MS);
      const work = async (): Promise<void> => {
        if (await this.#adoption.sweep(market)) this.#unswept.delete(market);
      };
      this.#work.run(id, work, `sweep of the ${id}`);
    }
  }
}
