import { cheapest, moveTowards, readyCount, type GatewayTraits, type Policy } from '../policy.ts';
import { RateWindow } from './window.ts';

const STABLE_MS = 60_000;
const PANIC_MS = 6_000;
const PANIC_AT = 2;
const UTILISATION = 0.7;
const SCALE_UP_MAX = 1000;
const SCALE_DOWN_MAX = 2;
const GRACE_MS = 30_000;

/** The activator holds requests; a pod that stops is given the revision's time (300 s), after 30 s of sleep. */
const TRAITS: GatewayTraits = {
  holdsAtZero: true,
  retriesUnbegun: false,
  resumes: false,
  lateYields: false,
  prefillTokensPerS: null,
  darkMs: 30_000,
  drainMs: 300_000,
  drainLeastMs: 30_000,
};

/** Knative's autoscaler: mean concurrency over 60 s and 6 s, at 70 % of what a container takes, every 2 s. */
export function kpa(concurrency: number): Policy {
  const load = new RateWindow(STABLE_MS);
  const target = concurrency * UTILISATION;
  let panicSinceMs: number | null = null;
  let panicMost = 0;
  let idleSinceMs: number | null = null;
  return {
    name: 'kpa',
    traits: TRAITS,
    tickMs: 2_000,
    wakes: true,
    choose: cheapest,
    decide: (view) => {
      load.add(view.nowMs, view.requestMs);
      const now = view.waiting + view.inFlight;
      const ready = Math.max(1, readyCount(view));
      const clamp = (wanted: number): number =>
        Math.min(Math.ceil(SCALE_UP_MAX * ready), Math.max(Math.floor(ready / SCALE_DOWN_MAX), wanted));
      const stable = clamp(Math.ceil(load.perMs(STABLE_MS) / target));
      const panic = clamp(Math.ceil(load.perMs(PANIC_MS) / target));
      if (panic / ready >= PANIC_AT) {
        if (panicSinceMs === null) panicMost = 0;
        panicSinceMs = view.nowMs;
      } else if (panicSinceMs !== null && view.nowMs - panicSinceMs >= STABLE_MS) panicSinceMs = null;
      let wanted = stable;
      if (panicSinceMs !== null) {
        panicMost = Math.max(panicMost, stable, panic);
        wanted = panicMost;
      }
      // The activator pokes the autoscaler: one pod at once for a request that finds none.
      if (now > 0) wanted = Math.max(1, wanted);
      idleSinceMs = wanted > 0 || now > 0 ? null : (idleSinceMs ?? view.nowMs);
      if (idleSinceMs !== null && view.nowMs - idleSinceMs < GRACE_MS) wanted = Math.min(1, ready);
      return moveTowards(view, wanted);
    },
  };
}
