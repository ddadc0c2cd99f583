import type { MarginSums } from '../ledger/margin-sums.ts';
import { leaseOfDispute } from '../spec/dispute.ts';
import type { EpochMs, Ms, NanoUsd } from '../units.ts';
import type { ReplicaRecord } from './records.ts';
import { splitByWeight } from './wake.ts';

/** Pure: what pools, accounts and providers bring in and cost. Amounts are the journal's, to the nano-USD. */

export const MARGIN_GROUPS = ['pool', 'account', 'provider'] as const;
export type MarginGroup = (typeof MARGIN_GROUPS)[number];

export interface MarginRow {
  readonly key: string;
  /** Charged for tokens, and fees for wakes. */
  tokens: NanoUsd;
  wakeFees: NanoUsd;
  /** To providers, and to their markets. */
  rent: NanoUsd;
  marketFees: NanoUsd;
  /** Tokens bought from others. */
  api: NanoUsd;
  /** Given back to accounts for breaches. */
  slaCredits: NanoUsd;
  /** Rent and market fees by what the machine did; what is in none of them is of leases that no record tells of. */
  startUp: NanoUsd;
  busy: NanoUsd;
  idle: NanoUsd;
  /** Of the start-up's: what is put down to those who had the pool woken. By account: its part of them. */
  wakes: NanoUsd;
}

export interface MarginInput {
  readonly sums: MarginSums;
  readonly replicas: readonly ReplicaRecord[];
  /** How long a replica that is still there has had something to do. */
  readonly busyOf: (replica: string) => Ms | null;
  readonly fromMs: EpochMs;
  readonly toMs: EpochMs;
  readonly nowMs: EpochMs;
}

export interface Margin {
  readonly rows: Readonly<Record<MarginGroup, readonly MarginRow[]>>;
  readonly total: MarginRow;
  /** Income and expenses that belong to no pool: promo credit, breakage, a network's fees in its own coin, … */
  readonly other: readonly { readonly account: string; readonly asset: string; readonly amount: bigint }[];
}

const RENT = 'expense:lease:';
const FEES = 'expense:market-fees:';
const TOKENS = 'expense:tokens:';
/** `sla:DISPUTE:ACCOUNT`. */
const SLA = /^sla:(.*):([^:]*)$/s;

export function marginOf(input: MarginInput): Margin {
  const { sums, replicas } = input;
  const books = {
    pool: new Map<string, MarginRow>(),
    account: new Map<string, MarginRow>(),
    provider: new Map<string, MarginRow>(),
  };
  const total = emptyRow('total');
  const of = (group: MarginGroup, key: string): MarginRow => {
    const row = books[group].get(key) ?? emptyRow(key);
    books[group].set(key, row);
    return row;
  };
  for (const { account, pool, tokensNanoUsd, wakesNanoUsd } of sums.charges) {
    for (const row of [of('pool', pool), of('account', account), total]) {
      row.tokens += tokensNanoUsd;
      row.wakeFees += wakesNanoUsd;
    }
  }
  const byLease = new Map(
    replicas.flatMap((replica) => (replica.leaseId === null ? [] : [[replica.leaseId, replica]])),
  );
  const costs = new Map<ReplicaRecord, NanoUsd>();
  const other: { account: string; asset: string; amount: bigint }[] = [];
  for (const { name, asset, other: side, amount } of sums.movements) {
    if (name.startsWith('revenue:usage:') || name.startsWith('revenue:wake:')) continue;
    const replica = byLease.get(leaseOf(side));
    const credited = SLA.exec(side)?.[2];
    const provider =
      replica?.provider ?? (side.startsWith('payable:api:') ? side.slice('payable:api:'.length) : 'unknown');
    if (name.startsWith(RENT)) {
      for (const row of [of('pool', name.slice(RENT.length)), of('provider', provider), total]) row.rent += amount;
    } else if (name.startsWith(FEES)) {
      for (const row of [of('pool', replica?.pool ?? 'unknown'), of('provider', provider), total])
        row.marketFees += amount;
    } else if (name.startsWith(TOKENS)) {
      for (const row of [of('pool', name.slice(TOKENS.length)), of('provider', provider), total]) row.api += amount;
    } else if (credited !== undefined) {
      const rows = [of('pool', replica?.pool ?? 'unknown'), of('provider', replica?.provider ?? 'unknown')];
      for (const row of [...rows, of('account', credited), total]) row.slaCredits += amount;
      continue;
    } else {
      other.push({ account: name, asset, amount });
      continue;
    }
    if (replica && !name.startsWith(TOKENS)) costs.set(replica, (costs.get(replica) ?? 0n) + amount);
  }
  for (const [replica, cost] of costs) {
    const split = splitCost(replica, cost, input);
    for (const row of [of('pool', replica.pool), of('provider', replica.provider ?? 'unknown'), total]) {
      row.startUp += split.startUp;
      row.busy += split.busy;
      row.idle += split.idle;
      if (replica.wake) row.wakes += split.startUp;
    }
    for (const [account, part] of splitByWeight(split.startUp, replica.wake?.shares ?? []))
      of('account', account).wakes += part;
  }
  const sorted = (rows: Map<string, MarginRow>): MarginRow[] =>
    [...rows.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return {
    rows: { pool: sorted(books.pool), account: sorted(books.account), provider: sorted(books.provider) },
    total,
    other: merged(other),
  };
}

/** Leases whose replicas say whose the movements are. */
export function leasesOf({ movements }: MarginSums): ReadonlySet<string> {
  return new Set(movements.map(({ other }) => leaseOf(other)).filter((id) => id !== ''));
}

/** Of an escrow, of a dispute's rent, or of what a dispute brought to an account. */
function leaseOf(side: string): string {
  const credited = SLA.exec(side)?.[1];
  if (credited !== undefined) return leaseOfDispute(credited);
  const id = side.split(':').slice(2).join(':');
  return side.startsWith('withheld:') ? leaseOfDispute(id) : id;
}

/** By account: what it pays less what it got back and what its wakes cost; else all that came in less all that went out. */
export function marginOfRow(row: MarginRow, group: MarginGroup | 'total'): NanoUsd {
  const { tokens, wakeFees, rent, marketFees, api, slaCredits, wakes } = row;
  const kept = tokens + wakeFees - slaCredits;
  return group === 'account' ? kept - wakes : kept - rent - marketFees - api;
}

/** By the time that each took within the span; while it was ready, busy and idle are taken as evenly spread. Exact in sum. */
function splitCost(
  replica: ReplicaRecord,
  cost: NanoUsd,
  { busyOf, fromMs, toMs, nowMs }: MarginInput,
): { readonly startUp: NanoUsd; readonly busy: NanoUsd; readonly idle: NanoUsd } {
  const { leasedMs, readyMs, closedMs } = replica;
  const endMs = closedMs ?? nowMs;
  const beganMs = leasedMs ?? endMs;
  const servesMs = Math.min(readyMs ?? endMs, endMs);
  const within = (a: EpochMs, b: EpochMs): Ms => Math.max(0, Math.min(b, toMs) - Math.max(a, fromMs));
  const [starting, serving] = [within(beganMs, servesMs), within(servesMs, endMs)];
  const busyMs = Math.min(busyOf(replica.id) ?? replica.busyMs ?? 0, endMs - servesMs);
  const share = endMs > servesMs ? busyMs / (endMs - servesMs) : 0;
  const busy = Math.round(serving * share);
  const weights = [
    { account: 'startUp', weight: BigInt(Math.round(starting)) },
    { account: 'busy', weight: BigInt(busy) },
    { account: 'idle', weight: BigInt(Math.max(0, Math.round(serving) - busy)) },
  ];
  const parts = splitByWeight(cost, weights);
  // A lease that was over before it began to count: its last block.
  if (parts.size === 0) return { startUp: readyMs === null ? cost : 0n, busy: 0n, idle: readyMs === null ? 0n : cost };
  return { startUp: parts.get('startUp') ?? 0n, busy: parts.get('busy') ?? 0n, idle: parts.get('idle') ?? 0n };
}

function emptyRow(key: string): MarginRow {
  const revenue = { tokens: 0n, wakeFees: 0n };
  const costs = { rent: 0n, marketFees: 0n, api: 0n, slaCredits: 0n };
  return { key, ...revenue, ...costs, startUp: 0n, busy: 0n, idle: 0n, wakes: 0n };
}

function merged(rows: readonly { readonly account: string; readonly asset: string; readonly amount: bigint }[]) {
  const sums = new Map<string, { account: string; asset: string; amount: bigint }>();
  for (const { account, asset, amount } of rows) {
    sums.set(account, { account, asset, amount: (sums.get(account)?.amount ?? 0n) + amount });
  }
  return [...sums.values()];
}
