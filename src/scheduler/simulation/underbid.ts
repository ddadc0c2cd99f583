import { foldDemand, newHistory } from '../demand.ts';
import { chooseBid } from '../choice.ts';
import { expectedLifeMs } from '../life.ts';
import { planPool } from '../plan.ts';
import { expectStart, lossesPerHour } from '../pool-record.ts';
import { TokenMeter } from '../pool/token-meter.ts';
import { quarantineMs } from '../reputation.ts';
import { LATE_SHARE, wantedReplicas } from '../scale.ts';
import { sampleWork, type MeasuredRates } from '../work-sample.ts';
import { liveReplicas, readyCount, type GatewayTraits, type Policy, type PolicyView } from './policy.ts';
import { TTFT_MS } from './speeds.ts';

/**
 * Requests wait at zero, move when their replica goes and go on from the last token, and those who are late already yield to
 * those who are not; silence is noticed in half a minute.
 */
const TRAITS: Omit<GatewayTraits, 'prefillTokensPerS'> = {
  holdsAtZero: true,
  retriesUnbegun: true,
  resumes: true,
  lateYields: true,
  darkMs: 35_000,
  drainMs: 60_000,
  drainLeastMs: 0,
};

const START_GUESS_MS = 180_000;
const BACKOFF_MAX_MS = 60_000;

/**
 * This project's scheduler: the functions that decide in production, fed from what the simulation shows.
 * @param rates what a replica was measured to do; null: a young pool, where nothing was measured for long enough yet
 */
export function underbid(rates: MeasuredRates | null, lateShare = LATE_SHARE): Policy {
  let history = newHistory(0);
  let before: PolicyView | null = null;
  let startMs: number | null = null;
  const started = new Set<string>();
  const failures = new Map<string, { row: number; untilMs: number }>();
  let [pauseRow, pauseUntilMs] = [0, 0];
  let [losses, replicaHours] = [0, 0];

  const meter = new TokenMeter();

  const observe = (view: PolicyView): void => {
    const { nowMs, waiting } = view;
    const since = (name: 'ended' | 'inputTokens' | 'outputTokens'): number => view[name] - (before?.[name] ?? 0);
    meter.add(nowMs, since('inputTokens'), since('outputTokens'), since('ended'));
    const arrived = view.arrivals - (before?.arrivals ?? 0);
    const askedTokens = view.askedTokens - (before?.askedTokens ?? 0);
    const { requests: ended, ...mean } = meter.means(nowMs);
    const came = { askedTokens, arrived, waiting, slots: view.spec.slots, ttftMs: TTFT_MS, ended, mean };
    const { slackMs = TTFT_MS, ...work } = rates ? sampleWork(came, rates) : { workMs: null, lineMs: 0 };
    history = foldDemand(
      history,
      {
        atMs: view.nowMs,
        slots: view.waiting + view.inFlight,
        slotsPerReplica: view.spec.slots,
        ...work,
        arrived,
        ready: readyCount(view),
        begun: view.begun - (before?.begun ?? 0),
        late: view.late - (before?.late ?? 0),
      },
      { replicasMax: view.spec.replicasMax, ttftMs: TTFT_MS, slackMs, startMs: startMs ?? START_GUESS_MS, lateShare },
    );
    replicaHours += (liveReplicas(view).length * (view.nowMs - (before?.nowMs ?? 0))) / 3_600_000;
    before = view;
    for (const { id, readyMs, orderedMs } of view.replicas) {
      if (readyMs === null || started.has(id)) continue;
      started.add(id);
      if (readyMs > orderedMs) startMs = expectStart(startMs, readyMs - orderedMs);
    }
  };

  return {
    name: 'underbid',
    traits: { ...TRAITS, prefillTokensPerS: rates?.prefillTokensPerS ?? null },
    tickMs: 5_000,
    wakes: true,
    told: ({ provider, ok, nowMs }) => {
      if (ok) {
        failures.delete(provider);
        [pauseRow, pauseUntilMs] = [0, 0];
        return;
      }
      losses += 1;
      const row = (failures.get(provider)?.row ?? 0) + 1;
      failures.set(provider, { row, untilMs: nowMs + quarantineMs(row) });
      pauseRow += 1;
      pauseUntilMs = nowMs + Math.min(BACKOFF_MAX_MS, 1000 * 2 ** (pauseRow - 1));
    },
    choose: (offers, view) => {
      const perProvider = new Map<string, number>();
      for (const { provider } of view.replicas) {
        if (provider !== null) perProvider.set(provider, (perProvider.get(provider) ?? 0) + 1);
      }
      const known = offers.map((offer) => {
        return { ...offer, quarantinedUntilMs: failures.get(offer.bid.provider)?.untilMs ?? 0 };
      });
      const lifeMs = expectedLifeMs(view.spec, liveReplicas(view).length, []);
      const times = { nowMs: view.nowMs, lifeMs, startMs: startMs ?? START_GUESS_MS };
      return chooseBid(known, view.spec, { perProvider, ...times }).offer;
    },
    decide: (view) => {
      observe(view);
      const { nowMs, spec, waiting, inFlight } = view;
      const slots = waiting + inFlight;
      const idleMs = liveReplicas(view).map(({ state, idleMs: idle }) => {
        return state === 'ordering' && slots === 0 ? Infinity : idle;
      });
      const demand = { slots, waiting, idleMs: slots > 0 ? 0 : Math.min(Infinity, ...idleMs) };
      const lost = lossesPerHour({ losses, hours: replicaHours });
      const learned = { nowMs, history, startMs: startMs ?? START_GUESS_MS, lossesPerHour: lost };
      const scale = wantedReplicas(spec, demand, idleMs, learned);
      const budget = { spentTodayNanoUsd: view.spentTodayNanoUsd };
      return planPool({ spec, scale, replicas: view.replicas, budget, backoffUntilMs: pauseUntilMs, nowMs });
    },
  };
}
