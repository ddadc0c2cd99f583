import type { Attribute } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import type { GroupSpec } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import {
  MsgCloseBid,
  MsgCloseLease,
  MsgCreateBid,
  MsgCreateLease,
  MsgWithdrawLease,
} from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { isAddress } from './address.ts';
import { emit, PARAMS, type Context } from './context.ts';
import { parseDec } from './decimal.ts';
import { denial, plainDenial } from './denials.ts';
import { pauseGroup } from './deployment-rules.ts';
import { authorizeDeposit, parseDeposit, type DepositRequest } from './deposit-rules.ts';
import { closeAccount, closePayment, createAccount, createPayment, withdrawPayment } from './escrow-rules.ts';
import { groupPrice, quantityOf } from './group-checks.ts';
import {
  bidJson,
  bidsOf,
  CLOSE_REASONS,
  createOrder,
  decCoinJson,
  endBid,
  endLease,
  endOrder,
  paymentIdOf,
} from './order-rules.ts';
import { readDurationS } from './protobuf.ts';
import { rule, type Rules } from './rule.ts';
import { bidKey, groupKey, orderKey, type Bid, type BidId, type Lease, type Order } from './state.ts';

/** node: x/market/handler/server.go and the messages' ValidateBasic. */

interface WireBidId {
  readonly owner: string;
  readonly dseq: { toString(): string };
  readonly gseq: number;
  readonly oseq: number;
  readonly provider: string;
  readonly bseq: number;
}

export function readBidId(id: WireBidId | undefined): BidId {
  if (id === undefined || !isAddress(id.owner)) throw plainDenial('MsgCreateBid: Invalid Owner Address');
  if (!isAddress(id.provider)) throw denial('market/empty_provider');
  const dseq = BigInt(id.dseq.toString());
  if (dseq === 0n || id.gseq === 0 || id.oseq === 0) throw plainDenial('invalid sequence numbers');
  return { owner: id.owner, dseq, gseq: id.gseq, oseq: id.oseq, provider: id.provider };
}

export function checkProviderReason(reason: number): void {
  if (reason >= 10_000 && reason <= 19_999) return;
  throw denial('market/invalid_reason', { front: `value "${reason}" range 10000..19999` });
}

export const marketRules: Rules = [
  rule({
    type: MsgCreateBid,
    gas: 60_000,
    signer: ({ id }) => id?.provider ?? '',
    check: (message) => {
      const id = readBidId(message.id);
      parseDeposit(message.deposit);
      if (id.provider === id.owner) throw denial('market/same_account');
      if (parseDec(message.price?.amount ?? '0') === 0n) throw denial('market/bid_zero_price');
    },
    run: createBid,
  }),
  rule({
    type: MsgCloseBid,
    gas: 50_000,
    signer: ({ id }) => id?.provider ?? '',
    check: ({ id, reason }) => {
      readBidId(id);
      checkProviderReason(reason);
    },
    run: (context, message) => closeBid(context, readBidId(message.id), message.reason),
  }),
  rule({
    type: MsgCreateLease,
    gas: 70_000,
    signer: ({ bidId }) => bidId?.owner ?? '',
    check: ({ bidId }) => void readBidId(bidId),
    run: (context, message) => createLease(context, readBidId(message.bidId)),
  }),
  rule({
    type: MsgCloseLease,
    gas: 50_000,
    signer: ({ id }) => id?.owner ?? '',
    check: ({ id }) => void readBidId(id),
    run: (context, message) => closeLease(context, readBidId(message.id)),
  }),
  rule({
    type: MsgWithdrawLease,
    gas: 30_000,
    signer: ({ id }) => id?.provider ?? '',
    check: ({ id }) => void readBidId(id),
    run: (context, message) => {
      const id = readBidId(message.id);
      if (context.state.leases.get(bidKey(id)) === undefined) throw denial('market/unknown_lease');
      withdrawPayment(context, paymentIdOf(id));
    },
  }),
];

function createBid(context: Context, message: MsgCreateBid, bytes: Uint8Array): void {
  const deposit = parseDeposit(message.deposit);
  checkBidDeposit(deposit);
  const id = readBidId(message.id);
  if (bidsOf(context, id).length > PARAMS.orderMaxBids) {
    throw denial('market/invalid_bid', { back: `too many existing bids (${PARAMS.orderMaxBids})` });
  }
  if ((message.id?.bseq ?? 0) !== 0) throw denial('market/invalid_bid');
  const order = context.state.orders.get(orderKey(id));
  if (order === undefined) throw denial('market/order_not_found');
  if (order.state !== 'open') throw denial(order.state === 'active' ? 'market/order_active' : 'market/order_closed');
  const price = { denom: message.price?.denom ?? '', amount: parseDec(message.price?.amount ?? '0') };
  const ceiling = groupPrice(order.spec);
  if (price.denom !== ceiling.denom || price.amount > ceiling.amount) throw denial('market/invalid_price');
  if (!offerMatches(message.resourcesOffer, order.spec)) throw denial('market/capabilities_mismatch');
  checkProvider(context, id.provider, order.spec);
  const deposits = authorizeDeposit(context, id.provider, deposit, 'bid');
  const reclamationS = readDurationS(bytes, 5);
  checkWindow(order, reclamationS);
  if (context.state.bids.get(bidKey(id)) !== undefined) throw denial('market/bid_exists');
  const offer = message.resourcesOffer;
  context.state.bids.set(bidKey(id), { id, state: 'open', price, createdAt: context.height, offer, reclamationS });
  emit(context, 'akash.market.v1.EventBidCreated', { id: bidJson(id), price: decCoinJson(price) });
  createAccount(context, { scope: 'bid', xid: bidKey(id), owner: id.provider }, deposits);
}

function checkBidDeposit({ amount }: DepositRequest): void {
  const minimum = (PARAMS.bidMinDeposits as Readonly<Record<string, bigint>>)[amount.denom];
  if (minimum === undefined) throw denial('market/invalid_deposit', { back: `unsupported denom ${amount.denom}` });
  if (amount.amount < minimum) {
    const back = `minimum:${minimum}${amount.denom} received:${amount.amount}${amount.denom}`;
    throw denial('market/invalid_deposit', { back });
  }
}

function offerMatches(offer: MsgCreateBid['resourcesOffer'], spec: GroupSpec): boolean {
  return offer.every(({ resources, count }) =>
    spec.resources.some((unit) => unit.resource?.id === resources?.id && unit.count === count),
  );
}

function checkProvider(context: Context, address: string, spec: GroupSpec): void {
  const provider = context.state.providers.get(address);
  if (provider === undefined) throw denial('market/unknown_provider');
  const audits = context.state.audits.values().filter(({ owner }) => owner === address);
  const { attributes, signedBy } = spec.requirements ?? { attributes: [], signedBy: undefined };
  const signed = (auditor: string): boolean =>
    audits.some((audit) => audit.auditor === auditor && isSubset(attributes, audit.attributes));
  const [anyOf, allOf] = [signedBy?.anyOf ?? [], signedBy?.allOf ?? []];
  const matches =
    anyOf.length + allOf.length === 0
      ? isSubset(attributes, provider.attributes)
      : allOf.every(signed) && (anyOf.length === 0 || anyOf.some(signed));
  if (!matches) throw denial('market/attribute_mismatch');
  if (!hasCapabilities(spec, provider.attributes)) throw denial('market/capabilities_mismatch');
}

/** Keys may end in a star on the asking side. */
function attributeFits(wanted: Attribute, had: Attribute): boolean {
  if (wanted.value !== had.value) return false;
  if (wanted.key === had.key) return true;
  // As a path is matched: a star stands for one part of it.
  const front = wanted.key.slice(0, -1);
  return wanted.key.endsWith('*') && had.key.startsWith(front) && !had.key.slice(front.length).includes('/');
}

function isSubset(wanted: readonly Attribute[], had: readonly Attribute[]): boolean {
  return wanted.every((one) => had.some((other) => attributeFits(one, other)));
}

/** Volumes with attributes and named GPUs have to be among the provider's `capabilities/…`. */
export function hasCapabilities(spec: GroupSpec, attributes: readonly Attribute[]): boolean {
  const gpus = attributes
    .filter(({ key }) => key.startsWith('capabilities/gpu/'))
    .map(({ key, value }) => ({ key: key.slice('capabilities/gpu/'.length), value }));
  const classes = new Map<string, Attribute[]>();
  for (const { key, value } of attributes) {
    const match = /^capabilities\/storage\/([^/]+)\/([^/]+)$/.exec(key);
    if (match) classes.set(match[1] ?? '', [...(classes.get(match[1] ?? '') ?? []), { key: match[2] ?? '', value }]);
  }
  return spec.resources.every(({ resource }) => {
    const volumes = resource?.storage.filter((volume) => volume.attributes.length > 0) ?? [];
    if (!volumes.every((volume) => [...classes.values()].some((own) => isSubset(volume.attributes, own)))) return false;
    const gpu = resource?.gpu;
    if (quantityOf(gpu?.units) === 0n || (gpu?.attributes.length ?? 0) === 0) return true;
    return (gpu?.attributes ?? []).some((one) => gpus.some((own) => attributeFits(one, own)));
  });
}

function checkWindow(order: Order, windowS: bigint | null): void {
  if (order.reclamationS !== null) {
    if (windowS === null) throw denial('market/reclamation_required');
    if (windowS < order.reclamationS) throw denial('market/window_too_short');
  }
  if (windowS !== null && (windowS < PARAMS.reclamationMinS || windowS > PARAMS.reclamationMaxS)) {
    throw denial('market/window_invalid');
  }
}

function closeBid(context: Context, id: BidId, reason: number): void {
  const bid = context.state.bids.get(bidKey(id));
  if (bid === undefined) throw denial('market/unknown_bid');
  const order = context.state.orders.get(orderKey(id));
  if (order === undefined) throw denial('market/order_not_found');
  if (bid.state === 'open') {
    endBid(context, bid);
    return;
  }
  const lease = context.state.leases.get(bidKey(id));
  if (lease === undefined) throw denial('market/unknown_lease_for_bid');
  if (lease.state !== 'active' && lease.state !== 'reclaiming') throw denial('market/lease_not_active');
  if (lease.state === 'active' && lease.reclamation !== null) throw denial('market/reclamation_not_started');
  if (lease.state === 'reclaiming' && context.timeS < (lease.reclamation?.deadlineS ?? 0n)) {
    throw denial('market/window_not_elapsed');
  }
  if (bid.state !== 'active') throw denial('market/bid_not_active');
  pauseGroup(context, id);
  endLease(context, lease, 'closed', reason);
  endBid(context, bid);
  endOrder(context, order);
  closePayment(context, paymentIdOf(id));
}

function createLease(context: Context, id: BidId): void {
  const bid = context.state.bids.get(bidKey(id));
  if (bid === undefined) throw denial('market/bid_not_found');
  if (bid.state !== 'open') throw denial('market/bid_not_open');
  const order = context.state.orders.get(orderKey(id));
  if (order === undefined) throw denial('market/order_not_found');
  if (order.state !== 'open') throw denial('market/order_not_open');
  const group = context.state.groups.get(groupKey(id));
  if (group === undefined) throw denial('market/group_not_found');
  if (group.state !== 'open') throw denial('market/group_not_open');
  createPayment(context, paymentIdOf(id), id.provider, bid.price);
  const { price, reclamationS } = bid;
  const reclamation = reclamationS === null ? null : { windowS: reclamationS, startedAt: 0, deadlineS: 0n, reason: 0 };
  const lease: Lease = {
    id,
    state: 'active',
    price,
    createdAt: context.height,
    closedOn: 0,
    reason: CLOSE_REASONS.invalid,
    reclamation,
  };
  context.state.leases.set(bidKey(id), lease);
  emit(context, 'akash.market.v1.EventLeaseCreated', { id: bidJson(id), price: decCoinJson(price) });
  context.state.orders.set(orderKey(id), { ...order, state: 'active' });
  context.state.bids.set(bidKey(id), { ...bid, state: 'active' });
  for (const loser of bidsOf(context, id, 'open')) {
    const lost: Bid = { ...loser, state: 'lost' };
    context.state.bids.set(bidKey(loser.id), lost);
    closeAccount(context, 'bid', bidKey(loser.id));
  }
}

/** The tenant's own close leaves the group open, so a new order starts by itself. */
function closeLease(context: Context, id: BidId): void {
  const order = context.state.orders.get(orderKey(id));
  if (order === undefined) throw denial('market/order_not_found');
  if (order.state !== 'active') throw denial('market/order_closed');
  const bid = context.state.bids.get(bidKey(id));
  if (bid === undefined) throw denial('market/bid_not_found');
  if (bid.state !== 'active') throw denial('market/bid_not_active');
  const lease = context.state.leases.get(bidKey(id));
  if (lease === undefined) throw denial('market/lease_not_found');
  if (lease.state !== 'active' && lease.state !== 'reclaiming') throw denial('market/order_closed');
  endLease(context, lease, 'closed', CLOSE_REASONS.owner);
  endBid(context, bid);
  endOrder(context, order);
  closePayment(context, paymentIdOf(id));
  const group = context.state.groups.get(groupKey(id));
  if (group?.state === 'open') createOrder(context, group.id, group.spec, order.reclamationS);
}
