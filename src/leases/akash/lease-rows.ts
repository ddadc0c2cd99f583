import type { EpochMs } from '../../units.ts';
import type { CloseReason, Lease } from '../market.ts';
import { maxBig, minBig } from '../../units.ts';
import { nanoOf, nanoOfDecUp, rentMicro } from './amounts.ts';
import type { ChainDeployment, ChainLease } from './chain-types.ts';
import { leaseIdOf } from './names.ts';
import type { OrderRow } from './records.ts';

/** Pure: what the chain says of leases, into our rows. */

/** The row with the lease that its bid became. The same again changes nothing. */
export function openLease(
  row: OrderRow,
  leases: readonly ChainLease[],
  { bidId, atMs }: { readonly bidId: string | null; readonly atMs: EpochMs },
): OrderRow {
  const made = leases.find(({ state }) => state === 'active') ?? leases[0];
  if (!made || row.lease) return row;
  const { orderId, pool, payments } = row;
  const lease: Lease = {
    id: leaseIdOf(orderId),
    orderId,
    bidId: bidId ?? `${orderId}/${made.provider}`,
    pool,
    provider: made.provider,
    priceNanoUsdPerBlock: nanoOfDecUp(made.price),
    state: 'active',
    openedAtMs: atMs,
    openedBlock: made.createdAt,
    settledBlock: made.createdAt,
    closedAtMs: null,
    closedBlock: null,
    closeReason: null,
    depositNanoUsd: nanoOf(payments.reduce((sum, { amount }) => sum + amount, 0n)),
    rentNanoUsd: 0n,
    takeFeeNanoUsd: 0n,
    makeFeeNanoUsd: 0n,
    refundNanoUsd: 0n,
    dispute: null,
  };
  return { ...row, state: 'leased', lease, gseq: made.gseq, oseq: made.oseq, rate: made.price };
}

/** The row with rent drawn up to a block, at most what is in escrow. */
export function drawTo(row: OrderRow, block: number): OrderRow {
  const { lease, rate } = row;
  if (!lease || row.state !== 'leased' || block <= lease.settledBlock) return row;
  const total = minBig(nanoOf(rentMicro(rate, block - lease.openedBlock)), lease.depositNanoUsd);
  return drawn(row, lease, { block, total });
}

function drawn(row: OrderRow, lease: Lease, to: { readonly block: number; readonly total: bigint }): OrderRow {
  const rent = maxBig(0n, to.total - lease.rentNanoUsd);
  return {
    ...row,
    lastDraw: { fromBlock: lease.settledBlock, toBlock: to.block, rent },
    lease: { ...lease, settledBlock: to.block, rentNanoUsd: lease.rentNanoUsd + rent },
  };
}

/** The row at its end: what the chain paid out is the rent, what it did not is the refund. */
export function endLease(
  row: OrderRow,
  deployment: ChainDeployment | null,
  leases: readonly ChainLease[],
  nowMs: EpochMs,
): OrderRow {
  const { lease } = row;
  if (!lease || lease.state === 'closed') return row;
  const made = leases.find(({ provider }) => provider === lease.provider);
  const block = Math.max(made?.closedOn || (deployment?.escrow.settledAt ?? 0), lease.settledBlock);
  const total = deployment ? nanoOf(deployment.escrow.transferred) : lease.rentNanoUsd;
  const paid = drawn(row, lease, { block, total });
  const last = paid.lease ?? lease;
  return {
    ...paid,
    lease: {
      ...last,
      state: 'closed',
      closedAtMs: nowMs,
      closedBlock: block,
      closeReason: row.closing ?? 'provider',
      refundNanoUsd: last.depositNanoUsd - last.rentNanoUsd,
    },
  };
}

/** Why a lease ended that we did not end. akash.md 4; where the chain lost its reason (5.13), its state has to do. */
export function reasonOf({ state, reason }: ChainLease): CloseReason {
  if (state === 'insufficient_funds' || reason === 20_000) return 'overdrawn';
  if (reason === 1) return 'tenant';
  return reason === 10_003 ? 'delivery_failed' : 'provider';
}
