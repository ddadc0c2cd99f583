import { cheapest, liveReplicas, moveTowards, type GatewayTraits, type Policy } from '../policy.ts';
import { RateWindow } from './window.ts';

export interface SkyServeOptions {
  readonly name: 'skyserve' | 'skyserve-tuned';
  readonly qpsPerReplica: number;
  readonly upMs: number;
  readonly downMs: number;
  readonly overprovision: number;
}

const WINDOW_MS = 60_000;
const DECISION_MS = 20_000;
const AT_ZERO_MS = 5_000;

/** Its balancer answers 503 without a replica, tries three times else; 120 s of drain whatever runs; 180 s of failed probes. */
const TRAITS: GatewayTraits = {
  holdsAtZero: false,
  retriesUnbegun: true,
  resumes: false,
  lateYields: false,
  prefillTokensPerS: null,
  darkMs: 180_000,
  drainMs: 120_000,
  drainLeastMs: 120_000,
};

/** SkyServe: requests a second over 60 s, up and down after so long of agreeing decisions; from zero at once. */
export function skyServe({ name, qpsPerReplica, upMs, downMs, overprovision }: SkyServeOptions): Policy {
  const rate = new RateWindow(WINDOW_MS);
  const failed = new Set<string>();
  let [upSinceMs, downSinceMs]: [number | null, number | null] = [null, null];
  let target: number | null = null;
  let decidedMs = -Infinity;
  return {
    name,
    traits: TRAITS,
    tickMs: AT_ZERO_MS,
    wakes: false,
    told: ({ provider, ok }) => {
      if (!ok) failed.add(provider);
    },
    /** Locations that are not used now and did not fail, the cheapest of them; when fewer than two are left, all anew. */
    choose: (offers, view) => {
      if (offers.filter(({ bid }) => !failed.has(bid.provider)).length < 2) failed.clear();
      const active = offers.filter(({ bid }) => !failed.has(bid.provider));
      const used = new Set(liveReplicas(view).map(({ provider }) => provider));
      const unused = active.filter(({ bid }) => !used.has(bid.provider));
      return cheapest(unused, view) ?? cheapest(active, view);
    },
    decide: (view) => {
      const { nowMs, spec } = view;
      rate.add(nowMs, view.arrivals);
      target ??= spec.replicasMin;
      const empty = target === 0;
      if (!empty && nowMs - decidedMs < DECISION_MS)
        return moveTowards(view, target + (target > 0 ? overprovision : 0));
      decidedMs = nowMs;
      const qps = rate.perMs(WINDOW_MS) * 1000;
      const asked = Math.min(spec.replicasMax, Math.max(spec.replicasMin, Math.ceil(qps / qpsPerReplica)));
      upSinceMs = asked > target ? (upSinceMs ?? nowMs) : null;
      downSinceMs = asked < target ? (downSinceMs ?? nowMs) : null;
      const agreed = (sinceMs: number | null, delayMs: number): boolean =>
        sinceMs !== null && nowMs - sinceMs >= delayMs;
      if (empty || agreed(upSinceMs, upMs) || agreed(downSinceMs, downMs)) {
        target = asked;
        [upSinceMs, downSinceMs] = [null, null];
      }
      return moveTowards(view, target + (target > 0 ? overprovision : 0));
    },
  };
}
