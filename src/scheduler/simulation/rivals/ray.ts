import { cheapest, liveReplicas, moveTowards, readyCount, type GatewayTraits, type Policy } from '../policy.ts';
import { RateWindow } from './window.ts';

const LOOK_BACK_MS = 30_000;
const UP_MS = 30_000;
const DOWN_MS = 600_000;

/** Handles queue requests at zero; health every 10 s with 30 s, three strikes; 20 s to shut down gracefully, in loops. */
const TRAITS: GatewayTraits = {
  holdsAtZero: true,
  retriesUnbegun: true,
  resumes: false,
  lateYields: false,
  prefillTokensPerS: null,
  darkMs: 90_000,
  drainMs: 300_000,
  drainLeastMs: 2_000,
};

/** Ray Serve: requests at work and queued, mean over 30 s, for each replica; up after 30 s, down after 600 s; zero from one only. */
export function ray(ongoing: number): Policy {
  const load = new RateWindow(LOOK_BACK_MS);
  let [upSinceMs, downSinceMs]: [number | null, number | null] = [null, null];
  let target: number | null = null;
  return {
    name: 'ray',
    traits: TRAITS,
    tickMs: 5_000,
    wakes: true,
    choose: cheapest,
    decide: (view) => {
      const { nowMs, spec } = view;
      load.add(nowMs, view.requestMs);
      target ??= Math.max(spec.replicasMin, liveReplicas(view).length);
      const total = load.perMs(LOOK_BACK_MS);
      let asked = Math.min(spec.replicasMax, Math.max(spec.replicasMin, Math.ceil(total / ongoing)));
      if (asked === 0 && target > 1) asked = 1;
      if (target === 0 && view.waiting > 0) target = Math.max(1, asked);
      upSinceMs = asked > target ? (upSinceMs ?? nowMs) : null;
      downSinceMs = asked < target ? (downSinceMs ?? nowMs) : null;
      const up = upSinceMs !== null && nowMs - upSinceMs >= UP_MS;
      const down = downSinceMs !== null && nowMs - downSinceMs >= DOWN_MS && readyCount(view) > 0;
      if (up || down) {
        target = asked;
        [upSinceMs, downSinceMs] = [null, null];
      }
      return moveTowards(view, target);
    },
  };
}
