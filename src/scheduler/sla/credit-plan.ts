import type { LeaseUsage } from '../../ledger/lease-usage.ts';
import type { Breach, BreachKind } from '../../spec/dispute.ts';
import type { SlaSpec } from '../../spec/sla.ts';
import { maxBig, minBig, type EpochMs, type NanoUsd } from '../../units.ts';

/** Pure: who gets how much for a breach, by what the gateway observed of each request and the pool's published promise. */

export interface Credit {
  readonly account: string;
  readonly amountNanoUsd: NanoUsd;
  readonly requests: number;
}

/** Whether a breach on a lease failed or slowed a request that its machine worked on. */
export function isAffected(usage: LeaseUsage, lease: string, kind: BreachKind, sla: SlaSpec): boolean {
  const { status, detail, outputTokens } = usage;
  // Its answers were not the promised model's, whatever their speed.
  if (kind === 'wrong_weights' || kind === 'wrong_hardware') return true;
  if (status === 'failed') return true;
  // Another machine had to go on with what this one had begun.
  if (detail.lease !== lease && (detail.resumed ?? 0) > 0) return true;
  const { firstTokenMs = null, waitedMs = 0, totalMs = 0, slowClient = false } = detail;
  if (firstTokenMs === null) return false;
  if (sla.firstTokenMs !== null && firstTokenMs - waitedMs > sla.firstTokenMs) return true;
  if (slowClient) return false;
  const gaps = outputTokens - 1;
  return sla.betweenTokensMs !== null && gaps > 0 && (totalMs - firstTokenMs) / gaps > sla.betweenTokensMs;
}

/** A dispute that credit was planned for, and until when the ends of its requests were looked at. */
export interface Planned {
  readonly lease: string;
  readonly breach: Pick<Breach, 'kind' | 'fromMs'>;
  readonly toMs: EpochMs;
}

/** A machine may break several promises, and an answer may see several machines: the first breach brings the credit. */
export function isCredited(usage: LeaseUsage, planned: readonly Planned[], sla: SlaSpec): boolean {
  return planned.some(
    ({ lease, breach, toMs }) =>
      leasesOf(usage).includes(lease) &&
      usage.atMs >= breach.fromMs &&
      usage.atMs <= toMs &&
      isAffected(usage, lease, breach.kind, sla),
  );
}

export function leasesOf({ detail: { lease = null, before = [] } }: LeaseUsage): readonly string[] {
  return lease === null ? before : [lease, ...before];
}

/** @param grantedNanoUsd what an account got this month already */
export function planCredits(
  affected: readonly LeaseUsage[],
  sla: SlaSpec,
  grantedNanoUsd: (account: string) => NanoUsd,
): Credit[] {
  const charges = new Map<string, { charged: NanoUsd; requests: number }>();
  for (const { customer, charged } of affected) {
    const sum = charges.get(customer) ?? { charged: 0n, requests: 0 };
    charges.set(customer, { charged: sum.charged + charged, requests: sum.requests + 1 });
  }
  return [...charges].flatMap(([account, { charged, requests }]) => {
    const left = maxBig(0n, sla.monthNanoUsd - grantedNanoUsd(account));
    const amountNanoUsd = minBig(left, (charged * BigInt(sla.creditBp)) / 10_000n);
    return amountNanoUsd > 0n ? [{ account, amountNanoUsd, requests }] : [];
  });
}
