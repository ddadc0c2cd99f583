import {
  AuditedProvider,
  CertificateResponse,
  Deployment as WireDeployment,
  Deployment_State,
  Lease as WireLease,
  Lease_State,
  Scope,
  Source,
  Types_Account,
  Types_Payment,
  Types_State,
  Cert_State,
} from '@akashnetwork/chain-sdk/private-types/akash.v1';
import {
  Group as WireGroup,
  Group_State,
  Provider as WireProvider,
} from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import {
  Bid as WireBid,
  Bid_State,
  Order as WireOrder,
  Order_State,
} from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { mintIdBytes } from './bme-rules.ts';
import { formatDec, type DecCoin } from './decimal.ts';
import { bytesField, coinField, concatBytes, durationField, textField, varintField } from './protobuf.ts';
import type {
  Audit,
  Bid,
  BidId,
  Certificate,
  Deployment,
  EscrowAccount,
  EscrowPayment,
  Group,
  Lease,
  MintRecord,
  Order,
  OrderId,
  Provider,
} from './state.ts';

/** The state as Akash's messages: chain-sdk's types, and behind them the fields that those do not know yet. */

const price = ({ denom, amount }: DecCoin) => ({ denom, amount: formatDec(amount) });
const orderId = ({ owner, dseq, gseq, oseq }: OrderId) => ({ owner, dseq, gseq, oseq });
const bidId = (id: BidId) => ({ ...orderId(id), provider: id.provider, bseq: 0 });
/** DeploymentReclamation {1: min_window}. */
const reclamationField = (seconds: bigint | null): Uint8Array =>
  seconds === null ? new Uint8Array() : bytesField(5, durationField(1, seconds));

export function deploymentBytes({ owner, dseq, state, hash, createdAt, reclamationS }: Deployment): Uint8Array {
  const known = WireDeployment.fromPartial({ id: { owner, dseq }, state: Deployment_State[state], hash, createdAt });
  return concatBytes(WireDeployment.encode(known).finish(), reclamationField(reclamationS));
}

export function groupBytes({ id, state, spec, createdAt }: Group): Uint8Array {
  const known = WireGroup.fromPartial({ id, state: Group_State[state], createdAt });
  return WireGroup.encode({ ...known, groupSpec: spec }).finish();
}

export function orderBytes({ id, state, spec, createdAt, reclamationS }: Order): Uint8Array {
  const known = WireOrder.fromPartial({ id: orderId(id), state: Order_State[state], createdAt });
  return concatBytes(WireOrder.encode({ ...known, spec }).finish(), reclamationField(reclamationS));
}

export function bidBytes(bid: Bid): Uint8Array {
  const known = WireBid.fromPartial({
    id: bidId(bid.id),
    state: Bid_State[bid.state],
    price: price(bid.price),
    createdAt: bid.createdAt,
  });
  const bytes = WireBid.encode({ ...known, resourcesOffer: [...bid.offer] }).finish();
  return bid.reclamationS === null ? bytes : concatBytes(bytes, durationField(6, bid.reclamationS));
}

/** Unknown to chain-sdk's enum. */
const LEASE_RECLAIMING: number = 4;

export function leaseBytes(lease: Lease): Uint8Array {
  const known = WireLease.fromPartial({
    id: bidId(lease.id),
    state: lease.state === 'reclaiming' ? (LEASE_RECLAIMING as Lease_State) : Lease_State[lease.state],
    price: price(lease.price),
    createdAt: lease.createdAt,
    closedOn: lease.closedOn,
    reason: lease.reason,
  });
  const bytes = WireLease.encode(known).finish();
  const { reclamation } = lease;
  if (reclamation === null) return bytes;
  const fields = concatBytes(
    durationField(1, reclamation.windowS),
    varintField(2, reclamation.startedAt),
    varintField(3, reclamation.deadlineS),
    varintField(4, reclamation.reason),
  );
  return concatBytes(bytes, bytesField(7, fields));
}

export function escrowBytes(account: EscrowAccount): Uint8Array {
  return Types_Account.encode(
    Types_Account.fromPartial({
      id: { scope: Scope[account.scope], xid: account.xid },
      state: {
        owner: account.owner,
        state: Types_State[account.state],
        transferred: account.transferred.map(price),
        settledAt: account.settledAt,
        funds: account.funds.map(price),
        deposits: account.deposits.map(({ owner, height, source, balance }) => ({
          owner,
          height,
          source: Source[source],
          balance: price(balance),
        })),
      },
    }),
  ).finish();
}

export function paymentBytes(payment: EscrowPayment): Uint8Array {
  const { denom } = payment.rate;
  return Types_Payment.encode(
    Types_Payment.fromPartial({
      id: { aid: { scope: Scope[payment.scope], xid: payment.accountXid }, xid: payment.xid },
      state: {
        owner: payment.owner,
        state: Types_State[payment.state],
        rate: price(payment.rate),
        balance: price({ denom, amount: payment.balance }),
        unsettled: price({ denom, amount: payment.unsettled }),
        withdrawn: { denom, amount: payment.withdrawn.toString() },
      },
    }),
  ).finish();
}

export function certificateBytes({ serial, state, cert, pubkey }: Certificate): Uint8Array {
  const certificate = { state: Cert_State[state], cert, pubkey };
  return CertificateResponse.encode(CertificateResponse.fromPartial({ certificate, serial })).finish();
}

export function providerBytes({ owner, hostUri, attributes, info }: Provider): Uint8Array {
  return WireProvider.encode({ owner, hostUri, attributes: [...attributes], info }).finish();
}

export function auditBytes({ owner, auditor, attributes }: Audit): Uint8Array {
  return AuditedProvider.encode({ owner, auditor, attributes: [...attributes] }).finish();
}

/** QueryLedgerRecordEntry {1: id, 2: status, 3 pending | 4 executed | 5 canceled}. */
export function mintBytes(record: MintRecord): Uint8Array {
  const { source, burn, toDenom, attempts, minted, spread, cancelReason } = record;
  const head = (status: number): Uint8Array => concatBytes(bytesField(1, mintIdBytes(record)), varintField(2, status));
  if (record.status === 'pending') {
    const body = [textField(1, source), textField(2, source), coinField(3, burn), textField(4, toDenom)];
    return concatBytes(head(1), bytesField(3, concatBytes(...body, varintField(5, attempts))));
  }
  if (record.status === 'canceled') {
    const body = [textField(1, source), varintField(2, cancelReason), textField(3, source)];
    return concatBytes(head(3), bytesField(5, concatBytes(...body, coinField(4, burn), textField(5, toDenom))));
  }
  const body = [textField(1, source), textField(2, source), textField(3, 'bme'), textField(4, 'bme')];
  body.push(bytesField(5, coinField(1, burn)));
  if (minted !== null) body.push(bytesField(6, coinField(1, minted)));
  if (spread !== null) body.push(coinField(7, spread));
  return concatBytes(head(2), bytesField(4, concatBytes(...body)));
}
