import { cheapest, liveReplicas, moveTowards, type GatewayTraits, type Policy } from '../policy.ts';
import { RateWindow } from './window.ts';

const SYNC_MS = 15_000;
const TOLERANCE = 0.1;
const STABILISE_MS = 300_000;
const COOLDOWN_MS = 300_000;
const RATE_MS = 60_000;

/** The interceptor holds requests without limit; 5 s of delay and 30 s of drain. */
const TRAITS: GatewayTraits = {
  holdsAtZero: true,
  retriesUnbegun: false,
  resumes: false,
  lateYields: false,
  prefillTokensPerS: null,
  darkMs: 30_000,
  drainMs: 35_000,
  drainLeastMs: 5_000,
};

/**
 * KEDA's HTTP add-on over the horizontal pod autoscaler: requests in flight for each replica, a tolerance of 10 %, the most
 * that was wanted within five minutes, and zero after five minutes without a request. Up at most doubles or adds 4 in 15 s.
 */
export function keda(concurrency: number): Policy {
  const recent: { atMs: number; wanted: number }[] = [];
  const rate = new RateWindow(RATE_MS);
  let usedMs = 0;
  let syncedMs = -Infinity;
  let wanted = 0;
  return {
    name: 'keda',
    traits: TRAITS,
    // The scaler pushes activity every 200 ms; only what is at zero follows at once.
    tickMs: 5_000,
    wakes: true,
    choose: cheapest,
    decide: (view) => {
      const { nowMs } = view;
      rate.add(nowMs, view.arrivals);
      const inFlight = view.waiting + view.inFlight;
      if (inFlight > 0 || rate.perMs(5_000) > 0) usedMs = nowMs;
      const now = liveReplicas(view).length;
      if (nowMs - usedMs >= COOLDOWN_MS) wanted = 0;
      else if (now === 0 && inFlight > 0) wanted = 1;
      else if (nowMs - syncedMs >= SYNC_MS) {
        syncedMs = nowMs;
        const ratio = inFlight / (concurrency * Math.max(1, now));
        const asked = Math.abs(ratio - 1) <= TOLERANCE ? now : Math.max(1, Math.ceil(inFlight / concurrency));
        recent.push({ atMs: nowMs, wanted: asked });
        while ((recent[0]?.atMs ?? Infinity) < nowMs - STABILISE_MS) recent.shift();
        const stabilised = Math.max(...recent.map((one) => one.wanted));
        wanted = asked > now ? Math.min(asked, Math.max(2 * now, now + 4)) : Math.min(now, stabilised);
      } else wanted = Math.max(wanted, Math.min(1, now));
      return moveTowards(view, wanted);
    },
  };
}
