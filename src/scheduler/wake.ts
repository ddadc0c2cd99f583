import type { Wake } from '../spec/wake.ts';
import { formatUsd, type Ms, type NanoUsd } from '../units.ts';
import type { Asking, WakeOffer } from './pool/wake-offer.ts';

/**
 * Pure: who pays for a cold start. A machine costs from the moment its lease is made, which is more than many small calls
 * bring in; so a pool that asks for it is woken only for a line that is worth it, on an account's allowance, or for a fee.
 */

/** Why a machine was ordered for a pool that had none at work. */
export type CausedBy = 'free' | 'owed' | 'cheaper' | 'value' | 'allowance' | 'fee';

export interface WakeShare {
  readonly account: string;
  /** Its part of the cost, among the weights of all. */
  readonly weight: bigint;
}

export interface Cause {
  readonly way: CausedBy;
  /** As expected then. */
  readonly costNanoUsd: NanoUsd;
  readonly shares: readonly WakeShare[];
  /** The request that pays a fee for it, and how much; null: none does. */
  readonly fee: { readonly request: string; readonly nanoUsd: NanoUsd } | null;
}

export interface WakeInput {
  readonly wake: Wake;
  /** In line, the first to come first. */
  readonly asking: readonly Asking[];
  /** Replicas that are on their way, while none is ready. */
  readonly coming: number;
  /** What a start-up takes and costs, as far as known. */
  readonly startMs: Ms;
  readonly costNanoUsd: NanoUsd;
  /** The longest that a request may wait here. */
  readonly maxWaitMs: Ms;
  /** Wakes that an account has left today; Infinity: any number. */
  readonly allowanceOf: (account: string) => number;
  /** Somebody who is paid by the token serves, for more than a machine would cost. */
  readonly outgrown: boolean;
}

export interface WakeDecision {
  /** How many more replicas may be ordered. */
  readonly replicas: number;
  readonly cause: Cause | null;
  readonly reason: string;
}

/** Accounts that a wake is put down to; what is beyond them goes to nobody. */
const SHARES_MAX = 64;

export function decideWake(input: WakeInput): WakeDecision {
  const { wake, asking, coming, costNanoUsd } = input;
  const granted = (way: CausedBy, more: { replicas?: number; shares: readonly WakeShare[]; fee?: Cause['fee'] }) => {
    const { replicas = 1, shares, fee = null } = more;
    return { replicas, cause: { way, costNanoUsd, shares, fee }, reason: REASONS[way] };
  };
  if (wake.needs.length === 0) return granted('free', { replicas: Infinity, shares: sharesOf(asking) });
  const owed = asking.filter((one) => one.owed || one.offer?.stage === 'leased');
  if (owed.length > 0 && coming === 0) return granted('owed', { shares: sharesOf(owed) });
  if (input.outgrown && coming === 0) return granted('cheaper', { shares: [] });
  // Who leaves before a machine can be there pays for none.
  const patient = asking.filter(({ patienceMs }) => patienceMs >= Math.min(input.startMs, input.maxWaitMs));
  if (wake.needs.includes('value')) {
    const value = valueOf(patient);
    const worth = costNanoUsd === 0n ? Infinity : Number(value / costNanoUsd);
    if (worth > coming && patient.length > 0)
      return granted('value', { replicas: worth - coming, shares: sharesOf(patient) });
  }
  // One that comes already serves them too: nobody pays for a second.
  if (coming > 0) return { replicas: 0, cause: null, reason: 'a machine is on its way' };
  if (wake.needs.includes('allowance')) {
    const first = patient.find(({ account }) => input.allowanceOf(account) >= 1);
    if (first) return granted('allowance', { shares: [{ account: first.account, weight: 1n }] });
  }
  if (wake.needs.includes('fee')) {
    const first = patient.find(({ offer }) => offer !== null && offer.feeNanoUsd > 0n && offer.stage === 'open');
    if (first?.offer) {
      const { request, feeNanoUsd: nanoUsd } = first.offer;
      return granted('fee', { shares: [{ account: first.account, weight: 1n }], fee: { request, nanoUsd } });
    }
  }
  return { replicas: 0, cause: null, reason: `asleep: ${whatWakes(wake)}` };
}

const REASONS: Record<CausedBy, string> = {
  free: 'anybody wakes it',
  owed: 'requests that had a machine wait for another',
  cheaper: 'a machine costs less than the tokens that are bought',
  value: 'those who wait are worth the wake',
  allowance: 'on the wake allowance of an account',
  fee: 'a request pays for the wake',
};

const WAYS: Record<Wake['needs'][number], string> = {
  value: 'more requests in line',
  allowance: 'an account with a wake left today',
  fee: 'a wake fee that a request accepts',
};

function whatWakes({ needs }: Wake): string {
  return `it wakes for ${needs.map((way) => WAYS[way]).join(', or ')}`;
}

/** Who is turned away: those who have waited as long as others were waited for, while nothing comes. */
export function refusedAskers(wake: Wake, asking: readonly Asking[]): readonly number[] {
  return asking.flatMap(({ waitedMs, owed }, at) => (!owed && waitedMs >= wake.waitMs ? [at] : []));
}

/** Requests, not their parts: several choices of one answer wait each for themselves. */
function offersOf(asking: readonly Asking[]): Map<WakeOffer, string> {
  const offers = new Map<WakeOffer, string>();
  for (const { offer, account } of asking) if (offer) offers.set(offer, account);
  return offers;
}

function valueOf(asking: readonly Asking[]): NanoUsd {
  let value = 0n;
  for (const { valueNanoUsd } of offersOf(asking).keys()) value += valueNanoUsd;
  return value;
}

/** By what each account's requests are worth; alike where none is worth anything. */
function sharesOf(asking: readonly Asking[]): WakeShare[] {
  const worth = new Map<string, bigint>(asking.map(({ account }) => [account, 0n]));
  for (const [{ valueNanoUsd }, account] of offersOf(asking))
    worth.set(account, (worth.get(account) ?? 0n) + valueNanoUsd);
  const some = [...worth.values()].some((value) => value > 0n);
  return [...worth]
    .map(([account, value]) => ({ account, weight: some ? value : 1n }))
    .filter(({ weight }) => weight > 0n)
    .sort((a, b) => (a.weight === b.weight ? 0 : a.weight < b.weight ? 1 : -1))
    .slice(0, SHARES_MAX);
}

/** An amount in whole parts by weight, exact in sum: what a division leaves goes to the first ones. */
export function splitByWeight(amount: NanoUsd, shares: readonly WakeShare[]): Map<string, NanoUsd> {
  const parts = new Map<string, NanoUsd>();
  const all = shares.reduce((sum, { weight }) => sum + weight, 0n);
  if (all === 0n) return parts;
  let left = amount;
  for (const { account, weight } of shares) {
    const part = (amount * weight) / all;
    parts.set(account, (parts.get(account) ?? 0n) + part);
    left -= part;
  }
  for (const { account } of shares) {
    if (left === 0n) break;
    // What was paid may come back, too.
    const one = left > 0n ? 1n : -1n;
    parts.set(account, (parts.get(account) ?? 0n) + one);
    left -= one;
  }
  return parts;
}

export function describeCause({ way, costNanoUsd, shares, fee }: Cause): Record<string, unknown> {
  const accounts = shares.map(({ account }) => account);
  const paid = fee === null ? {} : { fee_usd: formatUsd(fee.nanoUsd), request: fee.request };
  return { way, expected_cost_usd: formatUsd(costNanoUsd), accounts, ...paid };
}
