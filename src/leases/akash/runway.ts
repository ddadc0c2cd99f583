import type { Blocks, Ms } from '../../units.ts';
import { parseDec, rentMicro, type Micro } from './amounts.ts';
import type { Escrow } from './chain-types.ts';
import type { OrderRow } from './records.ts';

/** Pure: what is really left in an escrow, and for how long. */

export interface Runway {
  /** What the chain would pay back if the lease ended at this block. */
  readonly funds: Micro;
  readonly block: Blocks;
  /** How many blocks from then it reaches; null: it costs nothing. */
  readonly blocksLeft: Blocks | null;
}

/** The chain settles when somebody asks it to: what it says is left still owes the rent since then (akash.md 4). */
export function runwayOf({ funds, settledAt }: Escrow, rate: string, block: Blocks): Runway {
  const owed = settledAt > 0 ? rentMicro(rate, block - settledAt) : 0n;
  const real = funds > owed ? funds - owed : 0n;
  return { funds: real, block, blocksLeft: blocksOf(real, rate) };
}

/** Whole blocks that an amount pays for. */
function blocksOf(amount: Micro, rate: string): Blocks | null {
  const each = parseDec(rate);
  return each === 0n ? null : Number((amount * 10n ** 18n) / each);
}

/** What was put in when the lease was made: what its pool wants it to have. */
export function wantedOf({ payments }: Pick<OrderRow, 'payments'>): Micro {
  return payments
    .filter(({ id }) => id === 'deposit' || id === 'deposit-lease' || id === 'adopted')
    .reduce((sum, { amount }) => sum + amount, 0n);
}

export interface Watchfulness {
  /** An escrow that ends within this time is filled now: by the next look it may be too late. */
  readonly urgentMs: Ms;
  readonly blockMs: Ms;
}

/**
 * What has to go into an escrow at once; 0 when it reaches past the next look. The scheduler fills escrows of ready replicas
 * long before, at half of what they should have; this is for leases that it does not watch, and for funds that vanished.
 */
export function urgentTopUp(runway: Runway, wanted: Micro, rate: string, { urgentMs, blockMs }: Watchfulness): Micro {
  if (runway.blocksLeft === null) return 0n;
  const urgentBlocks = Math.ceil(urgentMs / blockMs);
  const wantedBlocks = blocksOf(wanted, rate) ?? 0;
  // A runway that is meant to be short is not filled all the time.
  if (runway.blocksLeft >= Math.min(urgentBlocks, Math.floor(wantedBlocks / 4))) return 0n;
  return wanted > runway.funds ? wanted - runway.funds : 0n;
}
