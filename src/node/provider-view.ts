import type { Clock } from '../clock.ts';
import type { Market, ProviderView } from '../leases/market.ts';
import { costPerHour } from '../scheduler/place.ts';
import type { ProviderBook, Who } from '../scheduler/provider-book.ts';
import type { ScoreTerm } from '../scheduler/reputation.ts';
import type { ReplicaRecord } from '../scheduler/records.ts';
import { fadeTo, type StartUp, type TrackRecord } from '../scheduler/track-record.ts';
import type { MarketName } from '../spec.ts';
import { formatUsd, type Ms } from '../units.ts';
import { iso } from './views.ts';

export interface ProviderViewDeps {
  readonly clock: Clock;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly book: ProviderBook;
  readonly replicas: readonly ReplicaRecord[];
}

/** Providers of every market and those that were there once: what they have, what they did, and what that makes of them. */
export async function viewProviders(deps: ProviderViewDeps): Promise<Record<string, unknown>[]> {
  const { markets, book } = deps;
  const listed = (await Promise.all([...markets.values()].map((market) => market.providers()))).flat();
  const known = new Set(listed.map(({ market, id }) => `${market}/${id}`));
  const gone = book.all().filter(({ market, provider }) => !known.has(`${market}/${provider}`));
  return [
    ...listed.map((provider) => viewProvider(deps, { market: provider.market, provider: provider.id }, provider)),
    ...gone.map(({ market, provider }) => viewProvider(deps, { market, provider }, null)),
  ];
}

function viewProvider(deps: ProviderViewDeps, who: Who, listed: ProviderView | null): Record<string, unknown> {
  const { clock, book, replicas } = deps;
  const nowMs = clock.now();
  const record = book.find(who);
  const { failureChance, startMs, speed, reason, terms: parts } = book.score(who, poolOf(record), replicas);
  const quarantine = book.quarantine(who);
  const { hardware, asksNanoUsdPerBlock: asks = null, ...rest } = listed ?? { hardware: null };
  const terms = deps.markets.get(who.market as MarketName)?.terms();
  return {
    id: who.provider,
    market: who.market,
    ...rest,
    listed: listed !== null,
    ...(hardware && {
      hardware: { cpu: hardware.cpu, memory_bytes: hardware.memoryBytes, gpus: hardware.gpus },
    }),
    asks_usd_per_hour: asks === null || !terms ? null : formatUsd(costPerHour(asks, terms)),
    failure_chance: round(failureChance),
    start_ms: startMs,
    speed: round(speed),
    why: reason,
    quarantined_until: iso(quarantine?.untilMs ?? null),
    quarantine: quarantine && { reason: quarantine.reason, failures_in_row: quarantine.inRow },
    terms: parts.map(viewTerm),
    record: record && viewRecord(fadeTo(record, nowMs)),
  };
}

/** Start-ups hang on the pool: the one that it was last seen with. */
function poolOf(record: TrackRecord | null): string | null {
  return record?.starts.at(-1)?.pool ?? null;
}

function viewTerm({ name, ownWeight, ownBad, prior, priorWeight, value }: ScoreTerm): Record<string, unknown> {
  return {
    name,
    own_weight: round(ownWeight),
    own_bad: ownBad === null ? null : round(ownBad),
    prior: prior === null ? null : round(prior),
    prior_weight: priorWeight,
    value: value === null ? null : round(value),
  };
}

function viewRecord(record: TrackRecord): Record<string, unknown> {
  const { bids, won, started, failures, hours, readyMs, lostMs, starts, speeds } = record;
  return {
    first_seen: iso(record.firstMs),
    last_seen: iso(record.atMs),
    bids,
    won,
    started: { count: started.count, weight: round(started.weight) },
    failures: Object.entries(failures).map(([cause, { count, weight }]) => ({ cause, count, weight: round(weight) })),
    last_failed: iso(record.failedMs),
    ready_hours: round(readyMs / 3_600_000),
    ready_hours_weight: round(hours),
    lost_replica_hours: round(lostMs / 3_600_000),
    start_ups: viewStarts(starts),
    speeds: speeds.map(({ pool, gpu, atMs, samples, prefillTokensPerS, tokensPerS, promisedTokensPerS }) => ({
      ...{ pool, gpu, at: iso(atMs), samples },
      prefill_tokens_per_s: prefillTokensPerS === null ? null : round(prefillTokensPerS),
      tokens_per_s: round(tokensPerS),
      promised_tokens_per_s: promisedTokensPerS === null ? null : round(promisedTokensPerS),
    })),
  };
}

/** Of the last start-ups: how they are spread, and where the time went on average. */
export function viewStarts(starts: readonly StartUp[]): Record<string, unknown> {
  const took = starts.map(({ startMs }) => startMs).sort((a, b) => a - b);
  const at = (share: number): Ms | null => took[Math.min(took.length - 1, Math.floor(share * took.length))] ?? null;
  const mean = (pick: (start: StartUp) => Ms | null): Ms | null => {
    const seen = starts.map(pick).filter((ms) => ms !== null);
    return seen.length === 0 ? null : Math.round(seen.reduce((sum, ms) => sum + ms, 0) / seen.length);
  };
  return {
    count: starts.length,
    mean_ms: mean(({ startMs }) => startMs),
    p50_ms: at(0.5),
    p90_ms: at(0.9),
    phases_mean_ms: {
      bid: mean(({ bidMs }) => bidMs),
      choice_and_lease: mean(({ choiceMs }) => choiceMs),
      image: mean(({ imageMs }) => imageMs),
      weights: mean(({ weightsMs }) => weightsMs),
      load: mean(({ loadMs }) => loadMs),
    },
  };
}

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
