import type { Clock } from '../clock.ts';
import type { Settings } from '../config.ts';
import { askCanary } from '../gateway/canary.ts';
import type { Upstream } from '../gateway/upstream.ts';
import type { Ledger } from '../ledger/operations.ts';
import { systemRandom } from '../random.ts';
import { CanaryRows } from '../scheduler/canary/canary-rows.ts';
import type { CanaryMeans } from '../scheduler/canary/means.ts';
import type { Pools } from '../scheduler/pool/pools.ts';
import { CreditRows } from '../scheduler/sla/credit-rows.ts';
import { SlaCredits } from '../scheduler/sla/credits.ts';
import type { Store } from '../store/open.ts';
import { readSecret } from './akash-market.ts';

/** What canaries are sent and kept with. */
export function canaryMeans(from: {
  readonly settings: Settings;
  readonly store: Store;
  readonly upstream: Upstream;
}): CanaryMeans {
  const { settings, store, upstream } = from;
  return {
    rows: new CanaryRows(store),
    random: systemRandom,
    ask: (target, spec, question, signal) => askCanary(upstream, target, spec, { question, signal }),
    keyOf: (reference) => readSecret(reference, settings),
  };
}

/** Credit for breaches, until it is stopped. */
export function startSlaCredits(from: {
  readonly store: Store;
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly pools: Pools;
  readonly log: (line: string) => void;
}): { readonly creditRows: CreditRows; readonly stop: () => Promise<void> } {
  const { store, ...rest } = from;
  const creditRows = new CreditRows(store);
  const credits = new SlaCredits({ ...rest, rows: creditRows });
  credits.start();
  return { creditRows, stop: () => credits.stop() };
}
