import type { Clock } from '../clock.ts';
import { describeError } from '../errors.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName } from '../spec.ts';
import { Adoption } from './adoption.ts';
import { Ending } from './ending.ts';
import { Fleet } from './fleet.ts';
import { Observations } from './observation.ts';
import type { Decide, Parts, Probe, ProveResumption } from './parts.ts';
import { planPool, type Action } from './plan.ts';
import type { Pool, Pools } from './pool/pools.ts';
import type { ReplicaRecord, ReplicaState, SchedulerRecords } from './records.ts';
import { wantedReplicas } from './scale.ts';
import { Steps } from './steps.ts';

export interface SchedulerOptions {
  readonly clock: Clock;
  readonly records: SchedulerRecords;
  readonly pools: Pools;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly probe: Probe;
  readonly proveResumption?: ProveResumption | undefined;
  readonly newId: (prefix: string) => string;
  readonly log: (line: string) => void;
}

/** Without a reason to look sooner. */
const TICK_MS = 500;
/** So long a stop waits for steps that are under way. */
const STOP_MS = 20_000;
/** What failed is tried again after this. */
const RETRY_MS = 2000;
/** So long between two looks at a replica whose market reports nothing: many requests that wait make many ticks. */
const LOOK_MS: Record<ReplicaState, number> = {
  ordering: 100,
  accepting: 2000,
  starting: 250,
  ready: 2000,
  draining: 2000,
  closing: 2000,
  closed: 0,
};
const SUSPECT_LOOK_MS = 500;
/** What a plan may have seen of a replica that it gives up; when it moved on meanwhile, the next plan decides. */
const PLANNED: Record<'withdraw' | 'drain' | 'close', readonly ReplicaState[]> = {
  withdraw: ['ordering', 'starting'],
  drain: ['ready'],
  close: ['draining'],
};

/**
 * The one runner: observes demand, markets and leases, decides by the pure functions (`demand`, `scale`, `plan`, `place`)
 * and carries out what they say. Each replica advances on its own, one step at a time, so a slow provider holds up nobody.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #fleet: Fleet;
  readonly #steps: Steps;
  readonly #adoption: Adoption;
  readonly #stop = new AbortController();
  /** What is under way, by replica (or market, for a sweep): one thing at a time for each. */
  readonly #busy = new Map<string, Promise<void>>();
  /** By the same ids: not before then. */
  readonly #notBefore = new Map<string, number>();
  /** Markets in which strangers may be left. */
  readonly #unswept = new Set<Market>();
  readonly #heldBack = new Map<string, string>();
  readonly #observations: Observations;
  #ticking: Promise<void> | null = null;
  #again = false;
  #cancelTimer: (() => void) | null = null;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    const { clock, records } = options;
    this.#observations = new Observations(clock.now());
    this.#fleet = new Fleet(records, clock);
    const decide: Decide = ({ pool, kind, reason, detail = {} }) =>
      records.decide({ atMs: clock.now(), pool, kind, reason, detail });
    const parts: Parts = { ...options, fleet: this.#fleet, decide, signal: this.#stop.signal };
    const ending = new Ending(parts);
    this.#steps = new Steps(parts, ending);
    this.#adoption = new Adoption(parts, ending);
  }

  /** Finds what an earlier run left, adopts or closes it, then runs. */
  async start(): Promise<void> {
    const { records, pools, markets } = this.#options;
    await records.open();
    await this.#fleet.open();
    for (const record of this.#fleet.active()) await this.#adoption.adopt(record);
    for (const market of markets.values()) {
      this.#unswept.add(market);
      market.onChange(() => {
        this.#notBefore.clear();
        this.wake();
      });
    }
    this.#sweep();
    await Promise.all(this.#busy.values());
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

  /** Ends the loop and the leases of markets that end with this process; the others keep theirs. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('the scheduler stops'));
    this.#cancelTimer?.();
    await this.#ticking;
    await this.#idle();
    const ends = this.#fleet.active().map(async (record) => {
      const market = record.market === null ? null : this.#options.markets.get(record.market);
      if (this.#busy.has(record.id) || (market && !market.terms().endsWithProcess)) return;
      try {
        await this.#steps.end(record, 'the gateway stopped', 'shutdown');
      } catch (error) {
        this.#options.log(`replica ${record.id} could not be ended: ${describeError(error)}`);
      }
    });
    await Promise.all(ends);
  }

  /** Resolves when nothing is under way; a market that does not answer is not waited for without end. */
  async #idle(): Promise<void> {
    const { clock, log } = this.#options;
    let late = false;
    const cut = new AbortController();
    const limit = clock.sleep(STOP_MS, cut.signal).then(
      () => (late = true),
      () => undefined,
    );
    while (this.#busy.size > 0 && !late) await Promise.race([limit, Promise.all(this.#busy.values())]);
    cut.abort();
    if (late) log(`left under way: ${[...this.#busy.keys()].join(', ')}`);
  }

  /** An operator closes a lease: its requests may end first. Null: no replica has it. */
  async closeLease(leaseId: string): Promise<ReplicaRecord | null> {
    const record = this.#fleet.active().find((replica) => replica.leaseId === leaseId);
    if (!record) return null;
    await this.#alone(record.id, async () => {
      const current = this.#fleet.find(record.id);
      if (current?.state === 'ready') await this.#steps.drain(current, 'closed by the operator');
      else if (current) await this.#steps.end(current, 'closed by the operator');
    });
    this.wake();
    return this.#fleet.find(record.id) ?? this.#options.records.findByLease(leaseId);
  }

  replicas(): ReplicaRecord[] {
    return this.#fleet.active();
  }

  async #tick(): Promise<void> {
    const { clock, pools, log } = this.#options;
    const all = [...pools.list(), ...pools.retired()];
    this.#observations.keep(new Set(all.map(({ router }) => router.spec.id)));
    for (const pool of all) {
      try {
        await this.#planPool(pool);
      } catch (error) {
        // One pool's trouble is not the others', and is not tried again at once.
        log(`pool ${pool.router.spec.id}: ${describeError(error)}`);
        this.#fleet.failures.failed(pool.router.spec.id, null);
      }
    }
    for (const record of this.#fleet.active()) this.#advance(record);
    this.#sweep();
    const now = clock.now();
    for (const [id, untilMs] of this.#notBefore) if (untilMs <= now) this.#notBefore.delete(id);
  }

  async #planPool(pool: Pool): Promise<void> {
    const { router } = pool;
    const { spec } = router;
    const nowMs = this.#options.clock.now();
    const { demand, replicas, idleMs, learned } = this.#observations.observe(
      router,
      this.#fleet.ofPool(spec.id),
      nowMs,
    );
    const scale = wantedReplicas(spec, demand, idleMs, learned);
    const budget = { spentTodayNanoUsd: this.#fleet.spentToday(spec.id) };
    const backoffUntilMs = this.#fleet.failures.backoffUntil(spec.id);
    const actions = planPool({ spec, scale, replicas, budget, backoffUntilMs, nowMs });
    for (const action of actions) await this.#act(pool, action);
    if (!actions.some(({ type }) => type === 'hold_back')) this.#heldBack.delete(spec.id);
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
    const work = async (): Promise<void> => {
      const record = this.#fleet.find(replica);
      if (!record || !PLANNED[type].includes(record.state)) return;
      if (type === 'drain') await this.#steps.drain(record, reason);
      else await this.#steps.end(record, reason);
    };
    // Not awaited: a provider that is slow to close holds up no other pool.
    this.#run(replica, work, `replica ${replica} (${type})`, () => this.wake());
  }

  #advance(record: ReplicaRecord): void {
    const { id, state } = record;
    const suspectMs = this.#options.pools.find(record.pool)?.router.load(id)?.suspectMs ?? null;
    const notes = this.#fleet.notes(id);
    // One that has begun to fail requests is looked at now, then again and again until it is known whether it lives.
    if (suspectMs !== null && suspectMs !== notes.suspectMs) this.#notBefore.delete(id);
    notes.suspectMs = suspectMs;
    if (this.#isEarly(id)) return;
    const lookMs = suspectMs === null ? LOOK_MS[state] : SUSPECT_LOOK_MS;
    this.#notBefore.set(id, this.#options.clock.now() + lookMs);
    const after = (): void => {
      if (this.#fleet.find(id)?.state === state) return;
      this.#notBefore.delete(id);
      this.wake();
    };
    this.#run(id, () => this.#steps.advance(record), `replica ${id} (${state})`, after);
  }

  /** Ends leases and orders that belong to nothing here, until every market has said that none is left. */
  #sweep(): void {
    for (const market of this.#unswept) {
      const id = `market ${market.name}`;
      if (this.#isEarly(id)) continue;
      this.#notBefore.set(id, this.#options.clock.now() + RETRY_MS);
      const work = async (): Promise<void> => {
        if (await this.#adoption.sweep(market)) this.#unswept.delete(market);
      };
      this.#run(id, work, `sweep of the ${id}`, () => undefined);
    }
  }

  #isEarly(id: string): boolean {
    return this.#busy.has(id) || this.#options.clock.now() < (this.#notBefore.get(id) ?? 0);
  }

  /** Work that nobody waits for: when it fails, it is told and tried again later. */
  #run(id: string, work: () => Promise<void>, what: string, after: () => void): void {
    this.#alone(id, work).then(after, (error: unknown) => {
      this.#notBefore.set(id, this.#options.clock.now() + RETRY_MS);
      this.#options.log(`${what}: ${describeError(error)}`);
    });
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
