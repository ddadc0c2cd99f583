import { foldDemand, newHistory } from '../demand.ts';
import { chooseBid } from '../choice.ts';
import { expectedLifeMs } from '../life.ts';
import { planPool } from '../plan.ts';
import { quarantineMs } from '../reputation.ts';
import { LATE_SHARE, wantedReplicas } from '../scale.ts';
import { liveReplicas, readyCount, type GatewayTraits, type Policy, type PolicyView } from './policy.ts';
import { TTFT_MS } from './speeds.ts';

/** What replicas of the pool were measured to do: tokens a second of prompts, and of answers with every slot taken. */
export interface MeasuredRates {
  readonly prefillTokensPerS: number;
  readonly outputTokensPerS: number;
}

/** Requests wait at zero, move when their replica goes and go on from the last token; silence is noticed in half a minute. */
const TRAITS: GatewayTraits = {
  holdsAtZero: true,
  retriesUnbegun: true,
  resumes: true,
  darkMs: 35_000,
  drainMs: 60_000,
  drainLeastMs: 0,
};

/** Of the work of a full batch, what lies on a busy replica: on the mean its answers are half written. */
const BATCH_SHARE = 0.4;
const OUTPUT_GUESS = 200;
const START_GUESS_MS = 180_000;
const BACKOFF_MAX_MS = 60_000;
/** Losses are judged as if a replica had run for so long and been lost once before. */
const LOSS_PRIOR_HOURS = 200;

/** This project's scheduler: the functions that decide in production, fed from what the simulation shows. */
export function underbid(rates: MeasuredRates, lateShare = LATE_SHARE): Policy {
  let history = newHistory(0);
  let before: PolicyView | null = null;
  let startMs: number | null = null;
  const started = new Set<string>();
  const failures = new Map<string, { row: number; untilMs: number }>();
  let [pauseRow, pauseUntilMs] = [0, 0];
  let [losses, replicaHours] = [0, 0];

  const observe = (view: PolicyView): void => {
    const asked = view.askedTokens - (before?.askedTokens ?? 0);
    const arrived = view.arrivals - (before?.arrivals ?? 0);
    const output = view.ended < 20 ? OUTPUT_GUESS : view.outputTokens / view.ended;
    const totalMs = (view.inputTokens / rates.prefillTokensPerS + view.outputTokens / rates.outputTokensPerS) * 1000;
    const workMs = (asked / rates.prefillTokensPerS + (arrived * output) / rates.outputTokensPerS) * 1000;
    // An answer is no later for tokens that wait behind others' in the batch: a batch of them is always in the line.
    const slackMs = TTFT_MS + (BATCH_SHARE * view.spec.slots * output * 1000) / rates.outputTokensPerS;
    history = foldDemand(
      history,
      {
        atMs: view.nowMs,
        slots: view.waiting + view.inFlight,
        slotsPerReplica: view.spec.slots,
        workMs,
        arrived,
        ready: readyCount(view),
        promptMs: (asked / rates.prefillTokensPerS) * 1000,
        lineMs: view.ended === 0 ? 0 : (view.waiting * totalMs) / view.ended,
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
      if (readyMs > orderedMs) startMs = startMs === null ? readyMs - orderedMs : (startMs + readyMs - orderedMs) / 2;
    }
  };

  return {
    name: 'underbid',
    traits: TRAITS,
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
      const lossesPerHour = losses / (LOSS_PRIOR_HOURS + replicaHours);
      const learned = { nowMs, history, startMs: startMs ?? START_GUESS_MS, lossesPerHour };
      const scale = wantedReplicas(spec, demand, idleMs, learned);
      const budget = { spentTodayNanoUsd: view.spentTodayNanoUsd };
      return planPool({ spec, scale, replicas: view.replicas, budget, backoffUntilMs: pauseUntilMs, nowMs });
    },
  };
}
