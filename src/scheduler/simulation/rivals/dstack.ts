import { cheapest, liveReplicas, moveTowards, type GatewayTraits, type Policy } from '../policy.ts';
import { RateWindow } from './window.ts';

const WINDOW_MS = 60_000;
const UP_MS = 300_000;
const DOWN_MS = 600_000;

/** nginx without an upstream refuses; probes change nothing; busy replicas are stopped as they are. */
const TRAITS: GatewayTraits = {
  holdsAtZero: false,
  retriesUnbegun: true,
  resumes: false,
  lateYields: false,
  prefillTokensPerS: null,
  darkMs: Infinity,
  drainMs: 10_000,
  drainLeastMs: 0,
};

/** dstack: requests a second over 60 s; up five, down ten minutes after the last change of either kind; from zero at once. */
export function dstack(rps: number): Policy {
  const rate = new RateWindow(WINDOW_MS);
  let target: number | null = null;
  let scaledMs = -Infinity;
  return {
    name: 'dstack',
    traits: TRAITS,
    tickMs: 10_000,
    wakes: false,
    choose: cheapest,
    decide: (view) => {
      const { nowMs, spec } = view;
      rate.add(nowMs, view.arrivals);
      target ??= Math.max(spec.replicasMin, liveReplicas(view).length);
      const perS = rate.perMs(WINDOW_MS) * 1000;
      const asked = Math.min(spec.replicasMax, Math.max(spec.replicasMin, Math.ceil(perS / rps)));
      const waited = nowMs - scaledMs;
      if ((asked > target && (target === 0 || waited >= UP_MS)) || (asked < target && waited >= DOWN_MS)) {
        target = asked;
        scaledMs = nowMs;
      }
      return moveTowards(view, target);
    },
  };
}
