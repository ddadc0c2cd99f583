import type { Clock } from '../clock.ts';
import { describeError } from '../errors.ts';
import type { EpochMs, Ms } from '../units.ts';
import {
  leaseToReadyMs,
  newPoolRecord,
  withPoolService,
  withPoolStart,
  withPrefill,
  withSpeeds,
  type PoolRecord,
} from './pool-record.ts';
import type { SpeedSample as AnswerSpeed } from './pool/speed-meter.ts';
import type { ReplicaRecord } from './records.ts';
import {
  fleetOf,
  quarantineMs,
  quarantineOf,
  scoreProvider,
  type ExplainedScore,
  type FleetRecord,
} from './reputation.ts';
import {
  newRecord,
  withBid,
  withFailure,
  withLoss,
  withService,
  withSpeed,
  withStart,
  type FailureCause,
  type SpeedSample,
  type StartUp,
  type TrackRecord,
} from './track-record.ts';
import { PROVIDERS_KEPT, type TrackRows } from './track-rows.ts';

export interface Who {
  readonly market: string;
  readonly provider: string;
}

/** Providers of two markets may have the same name. */
export function providerKey({ market, provider }: Who): string {
  return `${market}/${provider}`;
}

export interface Blame {
  readonly provider: string;
  readonly cause: FailureCause;
}

/** The mean of a market's providers is worked out anew after so long, or after an event. */
const FLEET_MS: Ms = 60_000;
const SPEEDS_WRITE_MS: Ms = 30_000;

/** What is remembered of providers and of pools: in memory for decisions, in rows for the next start. */
export class ProviderBook {
  readonly #rows: TrackRows;
  readonly #clock: Clock;
  readonly #log: (line: string) => void;
  readonly #providers = new Map<string, TrackRecord>();
  readonly #pools = new Map<string, PoolRecord>();
  readonly #fleets = new Map<string, { readonly atMs: EpochMs; readonly fleet: FleetRecord }>();
  readonly #writing = new Map<string, Promise<void>>();
  /** When speeds of a pool were last written. */
  readonly #speedsMs = new Map<string, EpochMs>();

  constructor(rows: TrackRows, clock: Clock, log: (line: string) => void) {
    this.#rows = rows;
    this.#clock = clock;
    this.#log = log;
  }

  /** @param replicas rows of the last day: what the end of an earlier run kept from being noted is noted now */
  async open(replicas: readonly ReplicaRecord[]): Promise<void> {
    for (const record of await this.#rows.providers()) this.#providers.set(providerKey(record), record);
    for (const record of await this.#rows.pools()) this.#pools.set(record.pool, record);
    const known = new Map([...this.#providers].map(([key, { atMs }]) => [key, atMs]));
    const events = replicas.flatMap((replica) => {
      const { market, provider, readyMs, failedMs = null, closedMs } = replica;
      if (market === null || provider === null) return [];
      const afterMs = known.get(providerKey({ market, provider })) ?? 0;
      const endMs = failedMs ?? closedMs;
      return [
        { atMs: readyMs, tell: () => this.ready(replica) },
        { atMs: replica.condemned?.atMs ?? null, tell: () => this.condemned(replica) },
        { atMs: endMs, tell: () => this.ended(replica) },
      ].flatMap(({ atMs, tell }) => (atMs !== null && atMs > afterMs ? [{ atMs, tell }] : []));
    });
    for (const { tell } of events.sort((a, b) => a.atMs - b.atMs)) tell();
  }

  all(): TrackRecord[] {
    return [...this.#providers.values()];
  }

  find(who: Who): TrackRecord | null {
    return this.#providers.get(providerKey(who)) ?? null;
  }

  pool(id: string): PoolRecord {
    return this.#pools.get(id) ?? newPoolRecord(id, this.#clock.now());
  }

  /** @param live replicas at work: time that they have served already counts */
  score(who: Who, pool: string | null, live: readonly ReplicaRecord[] = []): ExplainedScore {
    const nowMs = this.#clock.now();
    let record = this.find(who);
    for (const { market, provider, readyMs, state } of live) {
      if (!record || market !== who.market || provider !== who.provider || readyMs === null || state !== 'ready')
        continue;
      record = withService(record, nowMs - readyMs, nowMs);
    }
    const poolStartMs = pool === null ? null : leaseToReadyMs(this.pool(pool));
    return scoreProvider({ record, fleet: this.fleet(who.market), pool, poolStartMs, nowMs });
  }

  fleet(market: string): FleetRecord {
    const nowMs = this.#clock.now();
    const known = this.#fleets.get(market);
    if (known && nowMs - known.atMs < FLEET_MS) return known.fleet;
    const fleet = fleetOf(
      this.all().filter((record) => record.market === market),
      nowMs,
    );
    this.#fleets.set(market, { atMs: nowMs, fleet });
    return fleet;
  }

  quarantine(who: Who): ReturnType<typeof quarantineOf> {
    return quarantineOf(this.find(who), this.#clock.now());
  }

  bid(who: Who, what: 'bids' | 'won'): void {
    this.#change(who, (record) => withBid(record, what, this.#clock.now()));
  }

  ready(replica: ReplicaRecord): void {
    const who = whoOf(replica);
    const { readyMs, leasedMs, pool } = replica;
    if (!who || readyMs === null) return;
    const start = startOf(replica, readyMs, leasedMs ?? replica.orderedMs);
    this.#change(who, (record) => withStart(record, start));
    this.#changePool(pool, (record) => withPoolStart(record, { ...start, provider: who.provider }));
  }

  /** It ended: what it served counts, and what it was to blame for. */
  ended(replica: ReplicaRecord): void {
    const who = whoOf(replica);
    const atMs = replica.failedMs ?? replica.closedMs;
    if (!who || atMs === null) return;
    const { readyMs, pool, failed, blamed = null, cause = null, leasedMs, reason, blameShare: share = 1 } = replica;
    const servedMs = readyMs === null ? 0 : Math.max(0, (replica.drainMs ?? atMs) - readyMs);
    if (readyMs !== null) this.#change(who, (record) => withService(record, servedMs, atMs));
    const theirs = failed && blamed === who.provider && cause !== null;
    if (theirs) {
      this.#change(who, (record) => withFailure(record, { cause, atMs, reason, servedMs, share }, quarantineMs));
      // A start-up that came to nothing was paid for, or at least waited for.
      if (readyMs === null) this.#change(who, (record) => withLoss(record, atMs - (leasedMs ?? atMs)));
      else this.#change(who, (record) => withLoss(record, this.pool(pool).startMs ?? 0));
    }
    if (readyMs !== null) this.#changePool(pool, (record) => withPoolService(record, servedMs, theirs, atMs));
  }

  /** It is not what was ordered; it serves until another has taken its place. */
  condemned(replica: ReplicaRecord): void {
    const who = whoOf(replica);
    const { condemned, readyMs } = replica;
    if (!who || !condemned) return;
    const failure = { ...condemned, servedMs: Math.max(0, condemned.atMs - (readyMs ?? condemned.atMs)) };
    this.#change(who, (record) => withFailure(record, failure, quarantineMs));
  }

  /** Of a lease that is over, or one that goes on: an operator or a court found against its provider. */
  disputed(who: Who, reason: string): void {
    const failure = { cause: 'dispute_upheld' as const, atMs: this.#clock.now(), reason, servedMs: 0 };
    this.#change(who, (record) => withFailure(record, failure, quarantineMs));
  }

  measured(who: Who, sample: SpeedSample): void {
    this.#change(who, (record) => withSpeed(record, sample));
  }

  /** What answers showed of a pool's replicas; it comes all the time, so it is written now and then. */
  speeds(pool: string, samples: readonly AnswerSpeed[]): void {
    const nowMs = this.#clock.now();
    const rests = nowMs - (this.#speedsMs.get(pool) ?? 0) < SPEEDS_WRITE_MS;
    if (!rests) this.#speedsMs.set(pool, nowMs);
    this.#changePool(pool, (record) => withSpeeds(record, samples, nowMs), rests);
  }

  prefill(pool: string, tokensPerS: number): void {
    this.#changePool(pool, (record) => withPrefill(record, tokensPerS, this.#clock.now()));
  }

  /** Resolves when all that was noted is on disk. */
  async settled(): Promise<void> {
    await Promise.all(this.#writing.values());
  }

  #change(who: Who, change: (record: TrackRecord) => TrackRecord): void {
    const key = providerKey(who);
    const before = this.#providers.get(key) ?? newRecord(who.market, who.provider, this.#clock.now());
    // The one last heard of comes last: of too many, the first is forgotten.
    this.#providers.delete(key);
    this.#providers.set(key, change(before));
    const [oldest] = this.#providers.keys();
    if (oldest !== undefined && this.#providers.size > PROVIDERS_KEPT) this.#providers.delete(oldest);
    this.#fleets.delete(who.market);
    this.#write(`provider ${key}`, () => {
      const record = this.#providers.get(key);
      return record ? this.#rows.save('provider', key, record) : Promise.resolve();
    });
  }

  #changePool(id: string, change: (record: PoolRecord) => PoolRecord, onlyInMemory = false): void {
    this.#pools.set(id, change(this.pool(id)));
    if (onlyInMemory) return;
    this.#write(`pool ${id}`, () => {
      const record = this.#pools.get(id);
      return record ? this.#rows.save('pool', id, record) : Promise.resolve();
    });
  }

  /** One write of a row at a time; what changed while it was waiting goes with it. */
  #write(id: string, write: () => Promise<void>): void {
    if (this.#writing.has(id)) return;
    const done = Promise.resolve()
      .then(() => {
        this.#writing.delete(id);
        return write();
      })
      .catch((error: unknown) => this.#log(`record of ${id}: ${describeError(error)}`));
    this.#writing.set(id, done);
  }
}

function whoOf({ market, provider }: ReplicaRecord): Who | null {
  return market === null || provider === null ? null : { market, provider };
}

function startOf(replica: ReplicaRecord, readyMs: EpochMs, leasedMs: EpochMs): StartUp {
  const { pool, orderedMs, firstBidMs = null, runningMs, answeredMs = null } = replica;
  const heardMs = answeredMs ?? readyMs;
  return {
    pool,
    atMs: readyMs,
    bidMs: firstBidMs === null ? null : Math.max(0, firstBidMs - orderedMs),
    choiceMs: Math.max(0, leasedMs - (firstBidMs ?? orderedMs)),
    imageMs: runningMs === null ? null : Math.max(0, runningMs - leasedMs),
    weightsMs: runningMs === null ? null : Math.max(0, heardMs - runningMs),
    loadMs: Math.max(0, readyMs - heardMs),
    startMs: Math.max(0, readyMs - leasedMs),
  };
}
