import type { PoolSpec } from '../spec.ts';
import { sameNeeds, poolNeeds } from '../spec/trust.ts';
import { ANYBODY_WAKES } from '../spec/wake.ts';
import type { EpochMs } from '../units.ts';
import type { Action } from './plan.ts';
import type { PoolRouter } from './pool/router.ts';
import type { Waiter } from './pool/slot.ts';
import { askingOf, START_GUESS_MS } from './pool/wake-offer.ts';
import type { ReplicaRecord } from './records.ts';
import type { Scale } from './scale.ts';
import { decideWake, refusedAskers, type WakeDecision } from './wake.ts';

/** What decisions over wakes need to know besides who waits. */
export interface WakeState {
  /** Wakes that an account has left today in this pool. */
  readonly allowanceOf: (account: string) => number;
  /** Reserves of the pool that are there or on their way, and whether they cost more than a machine would. */
  readonly reserves: number;
  readonly outgrown: boolean;
}

export interface Gate {
  readonly decision: WakeDecision;
  readonly coming: number;
  /** Where nothing is ordered and nothing comes: that is told, also to those who waited long enough for others. */
  readonly instead: readonly Action[];
}

interface GateInput {
  readonly router: PoolRouter;
  readonly wake?: WakeState;
  readonly nowMs: EpochMs;
}

const NOTHING_KNOWN: WakeState = { allowanceOf: () => 0, reserves: 0, outgrown: false };
const COMING: ReadonlySet<string> = new Set(['ordering', 'accepting', 'starting']);

/** Of a pool without a replica at work: who in line has one woken. Those whom no replica here may serve ask for their own. */
export function gateOf(input: GateInput, spec: PoolSpec, records: readonly ReplicaRecord[]): Gate | null {
  if (records.some(({ state }) => state === 'ready')) return null;
  const coming = records.filter(({ state }) => COMING.has(state)).length;
  const waiters = input.router.waiters.filter((waiter) => !isSpecial(waiter, input.router));
  return decide(input, spec, { waiters, coming });
}

/** The same for those who may have none of the replicas here. */
export function specialGateOf(input: GateInput, spec: PoolSpec): Gate {
  const waiters = input.router.waiters.filter((waiter) => isSpecial(waiter, input.router));
  return decide(input, spec, { waiters, coming: 0 });
}

/** No more than what is paid for besides those that come already, and never less than the pool's least. */
export function capScale(scale: Scale, gate: Gate | null, replicasMin: number): Scale {
  if (gate === null) return scale;
  const most = Math.max(replicasMin, gate.coming + gate.decision.replicas);
  return scale.wanted <= most ? scale : { wanted: most, reason: scale.reason };
}

function isSpecial({ needs }: Waiter, router: PoolRouter): boolean {
  if (needs === undefined || sameNeeds(needs, poolNeeds(router.spec))) return false;
  return router.targetFor(needs) === null;
}

function decide(
  { router, wake: state = NOTHING_KNOWN, nowMs }: GateInput,
  spec: PoolSpec,
  { waiters, coming }: { readonly waiters: readonly Waiter[]; readonly coming: number },
): Gate {
  const wake = spec.wake ?? ANYBODY_WAKES;
  const asking = waiters.map((waiter) => askingOf(waiter, nowMs));
  const { allowanceOf, outgrown } = state;
  const decision = decideWake({
    ...{ wake, asking, coming, allowanceOf, outgrown },
    startMs: router.expectedStartMs ?? START_GUESS_MS,
    costNanoUsd: router.wakeCostNanoUsd,
    maxWaitMs: spec.limits.maxWaitMs,
  });
  if (decision.replicas > 0 || coming > 0) return { decision, coming, instead: [] };
  const instead: Action[] = [{ type: 'hold_back', reason: decision.reason }];
  // A reserve serves them in a moment.
  const refused = state.reserves > 0 ? [] : refusedAskers(wake, asking);
  const who = refused.flatMap((at) => waiters[at] ?? []);
  if (who.length > 0) instead.push({ type: 'refuse', who, reason: decision.reason });
  return { decision, coming, instead };
}
