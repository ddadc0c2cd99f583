import { cheapest, liveReplicas, moveTowards, type GatewayTraits, type Policy } from '../policy.ts';

const QUEUE_DELAY_MS = 4_000;
const IDLE_MS = 5_000;

/** A queue in front of workers; a job that has not begun goes to another one. How soon a dark one is seen is a guess. */
const TRAITS: GatewayTraits = {
  holdsAtZero: true,
  retriesUnbegun: true,
  resumes: false,
  lateYields: false,
  prefillTokensPerS: null,
  darkMs: 420_000,
  drainMs: 600_000,
  drainLeastMs: 0,
};

/** RunPod's default scaler: a worker more while a job has waited 4 s, and each goes when it was idle for 5 s. */
export function runpod(): Policy {
  return {
    name: 'runpod',
    traits: TRAITS,
    tickMs: 1_000,
    wakes: true,
    choose: cheapest,
    decide: (view) => {
      const live = liveReplicas(view);
      const starting = live.filter(({ state }) => state !== 'ready').length;
      const late = view.oldestWaitMs >= QUEUE_DELAY_MS || (live.length === 0 && view.waiting > 0);
      // A worker that comes up takes the line first: one at a time for each replica's worth of waiting jobs.
      if (late && starting * view.spec.slots < view.waiting) return moveTowards(view, live.length + 1);
      const idle = live.filter(({ state, idleMs }) => state === 'ready' && idleMs >= IDLE_MS).length;
      return idle > 0 ? moveTowards(view, live.length - idle, 'idlest') : [];
    },
  };
}
