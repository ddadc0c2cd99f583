import { cheapest, moveTowards, type GatewayTraits, type Policy } from '../policy.ts';

/** A load balancer in front of machines that are always there; it tries another one before the first token. */
const TRAITS: GatewayTraits = {
  holdsAtZero: true,
  retriesUnbegun: true,
  resumes: false,
  lateYields: false,
  prefillTokensPerS: null,
  darkMs: 60_000,
  drainMs: 60_000,
  drainLeastMs: 0,
};

/** So many replicas at all times: rented at the beginning, replaced when they fail. */
export function staticPeak(replicas: number): Policy {
  return {
    name: 'static-peak',
    traits: TRAITS,
    tickMs: 10_000,
    wakes: false,
    decide: (view) => moveTowards(view, replicas),
    choose: cheapest,
  };
}
