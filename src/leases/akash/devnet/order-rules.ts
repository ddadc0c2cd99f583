import type { GroupSpec } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { emit, type Context } from './context.ts';
import { formatDec, type DecCoin } from './decimal.ts';
import { Denial, denial } from './denials.ts';
import { closeAccount, closePayment } from './escrow-rules.ts';
import {
  bidKey,
  deploymentKey,
  groupKey,
  leasePaymentXid,
  orderKey,
  type Bid,
  type BidId,
  type EscrowPayment,
  type GroupId,
  type Lease,
  type Order,
  type OrderId,
} from './state.ts';

/** How orders, bids and leases begin and end; node: x/market/keeper/keeper.go and hooks. */

export const CLOSE_REASONS = {
  invalid: 0,
  owner: 1,
  unstable: 10_000,
  decommission: 10_001,
  unspecified: 10_002,
  manifest_timeout: 10_003,
  insufficient_funds: 20_000,
} as const;

const REASON_NAMES: Readonly<Record<number, string>> = {
  0: 'lease_closed_invalid',
  1: 'lease_closed_owner',
  10000: 'lease_closed_reason_unstable',
  10001: 'lease_closed_reason_decommission',
  10002: 'lease_closed_reason_unspecified',
  10003: 'lease_closed_reason_manifest_timeout',
  20000: 'lease_closed_reason_insufficient_funds',
};

export const reasonName = (reason: number): string => REASON_NAMES[reason] ?? String(reason);

export function createOrder(context: Context, id: GroupId, spec: GroupSpec, reclamationS: bigint | null): void {
  const siblings = context.state.orders.values().filter((order) => groupKey(order.id) === groupKey(id));
  if (siblings.some(({ state }) => state !== 'closed')) {
    throw denial('market/order_active', { back: 'create order: active order exists' });
  }
  const order: Order = {
    id: { ...id, oseq: siblings.length + 1 },
    state: 'open',
    spec,
    createdAt: context.height,
    reclamationS,
  };
  context.state.orders.set(orderKey(order.id), order);
  emit(context, 'akash.market.v1.EventOrderCreated', { id: orderJson(order.id) });
}

export function bidsOf(context: Context, id: OrderId, state?: Bid['state']): Bid[] {
  return context.state.bids
    .values()
    .filter((bid) => orderKey(bid.id) === orderKey(id) && (state === undefined || bid.state === state));
}

export function endOrder(context: Context, order: Order): void {
  if (order.state === 'closed') return;
  context.state.orders.set(orderKey(order.id), { ...order, state: 'closed' });
  emit(context, 'akash.market.v1.EventOrderClosed', { id: orderJson(order.id) });
}

/** The bid's deposit goes back to its provider. */
export function endBid(context: Context, bid: Bid): void {
  if (bid.state === 'closed' || bid.state === 'lost') return;
  context.state.bids.set(bidKey(bid.id), { ...bid, state: 'closed' });
  ignoringDenials(() => closeAccount(context, 'bid', bidKey(bid.id)));
  emit(context, 'akash.market.v1.EventBidClosed', { id: bidJson(bid.id) });
}

export function endLease(context: Context, lease: Lease, state: 'closed' | 'insufficient_funds', reason: number): void {
  if (lease.state === 'closed' || lease.state === 'insufficient_funds') return;
  context.state.leases.set(bidKey(lease.id), { ...lease, state, closedOn: context.height, reason });
  emit(context, 'akash.market.v1.EventLeaseClosed', { id: bidJson(lease.id), reason: reasonName(reason) });
}

/** Orders of the group end with their bids and leases. */
export function closeGroupOrders(
  context: Context,
  id: GroupId,
  groupState: 'closed' | 'paused' | 'insufficient_funds',
): void {
  const dry = groupState === 'insufficient_funds';
  const reason = dry ? CLOSE_REASONS.insufficient_funds : CLOSE_REASONS.owner;
  for (const order of context.state.orders.values()) {
    if (groupKey(order.id) !== groupKey(id) || order.state === 'closed') continue;
    endOrder(context, order);
    for (const bid of bidsOf(context, order.id)) {
      if (bid.state !== 'open' && bid.state !== 'active') continue;
      endBid(context, bid);
      const lease = context.state.leases.get(bidKey(bid.id));
      if (lease === undefined) continue;
      endLease(context, lease, dry ? 'insufficient_funds' : 'closed', reason);
      ignoringDenials(() => closePayment(context, paymentIdOf(bid.id)));
    }
  }
}

/** Hook: a payment that ended by itself takes its lease along. */
export function onPaymentClosed(context: Context, payment: EscrowPayment): void {
  const lease = context.state.leases
    .values()
    .find(({ id }) => deploymentKey(id) === payment.accountXid && leasePaymentXid(id) === payment.xid);
  const bid = lease === undefined ? undefined : context.state.bids.get(bidKey(lease.id));
  if (lease === undefined || bid?.state !== 'active') return;
  const order = context.state.orders.get(orderKey(lease.id));
  if (order === undefined) throw denial('market/order_not_found');
  endOrder(context, order);
  endBid(context, bid);
  if (payment.state === 'overdrawn') {
    endLease(context, lease, 'insufficient_funds', CLOSE_REASONS.insufficient_funds);
  } else {
    endLease(context, lease, 'closed', CLOSE_REASONS.unspecified);
  }
}

export const paymentIdOf = (id: BidId) => ({
  scope: 'deployment' as const,
  accountXid: deploymentKey(id),
  xid: leasePaymentXid(id),
});

/** Where the chain drops an error on the floor. Its gas still runs out. */
function ignoringDenials(call: () => void): void {
  try {
    call();
  } catch (error) {
    if (!(error instanceof Denial) || (error.codespace === 'sdk' && error.code === 11)) throw error;
  }
}

export const orderJson = (id: OrderId) => ({
  owner: id.owner,
  dseq: id.dseq.toString(),
  gseq: id.gseq,
  oseq: id.oseq,
});

export const bidJson = (id: BidId) => ({ ...orderJson(id), provider: id.provider, bseq: 0 });
export const decCoinJson = ({ denom, amount }: DecCoin) => ({ denom, amount: formatDec(amount) });
