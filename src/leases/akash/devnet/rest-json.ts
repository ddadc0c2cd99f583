import { Endpoint_Kind, type GroupSpec } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import type { Attribute } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import type { ResourceUnit } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { formatDec, type Coin, type Dec, type DecCoin } from './decimal.ts';
import { quantityOf, unitPrice } from './group-checks.ts';
import { bidJson, decCoinJson, orderJson, reasonName } from './order-rules.ts';
import type {
  Audit,
  AuthAccount,
  Bid,
  Certificate,
  Deployment,
  EscrowAccount,
  EscrowPayment,
  Group,
  Lease,
  MintRecord,
  Order,
  Provider,
} from './state.ts';

/** The state in the JSON of grpc-gateway: names in snake_case, numbers of 64 bit as strings, empty fields written too. */

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const seconds = (value: bigint | null): string | null => (value === null ? null : `${value}s`);
export const coinJson = ({ denom, amount }: Coin) => ({ denom, amount: amount.toString() });
const decJson = (denom: string, amount: Dec): DecCoinJson => ({ denom, amount: formatDec(amount) });
type DecCoinJson = ReturnType<typeof decCoinJson>;

const attributesJson = (list: readonly Attribute[]) => list.map(({ key, value }) => ({ key, value }));
const valueJson = (value: { readonly val: Uint8Array } | undefined) => ({ val: quantityOf(value).toString() });

function resourcesJson(resource: ResourceUnit['resource']): unknown {
  const { id = 0, cpu, memory, storage = [], gpu, endpoints = [] } = resource ?? {};
  return {
    id,
    cpu: { units: valueJson(cpu?.units), attributes: attributesJson(cpu?.attributes ?? []) },
    memory: { quantity: valueJson(memory?.quantity), attributes: attributesJson(memory?.attributes ?? []) },
    storage: storage.map(({ name, quantity, attributes }) => ({
      name,
      quantity: valueJson(quantity),
      attributes: attributesJson(attributes),
    })),
    gpu: { units: valueJson(gpu?.units), attributes: attributesJson(gpu?.attributes ?? []) },
    endpoints: endpoints.map(({ kind, sequenceNumber }) => ({
      kind: Endpoint_Kind[kind],
      sequence_number: sequenceNumber,
    })),
  };
}

function specJson({ name, requirements, resources }: GroupSpec): unknown {
  const { signedBy, attributes = [] } = requirements ?? {};
  return {
    name,
    requirements: {
      signed_by: { all_of: signedBy?.allOf ?? [], any_of: signedBy?.anyOf ?? [] },
      attributes: attributesJson(attributes),
    },
    resources: resources.map((unit) => ({
      resource: resourcesJson(unit.resource),
      count: unit.count,
      price: decCoinJson(unitPrice(unit)),
    })),
  };
}

const reclamationJson = (reclamationS: bigint | null) =>
  reclamationS === null ? null : { min_window: seconds(reclamationS) };

export const deploymentJson = ({ owner, dseq, state, hash, createdAt, reclamationS }: Deployment) => ({
  id: { owner, dseq: dseq.toString() },
  state,
  hash: base64(hash),
  created_at: String(createdAt),
  reclamation: reclamationJson(reclamationS),
});

export const groupJson = ({ id, state, spec, createdAt }: Group) => ({
  id: { owner: id.owner, dseq: id.dseq.toString(), gseq: id.gseq },
  state,
  group_spec: specJson(spec),
  created_at: String(createdAt),
});

export const orderRowJson = ({ id, state, spec, createdAt, reclamationS }: Order) => ({
  id: orderJson(id),
  state,
  spec: specJson(spec),
  created_at: String(createdAt),
  reclamation: reclamationJson(reclamationS),
});

export const bidRowJson = ({ id, state, price, createdAt, offer, reclamationS }: Bid) => ({
  id: bidJson(id),
  state,
  price: decCoinJson(price),
  created_at: String(createdAt),
  resources_offer: offer.map(({ resources, count }) => ({ resources: resourcesJson(resources), count, prices: null })),
  reclamation_window: seconds(reclamationS),
});

export const leaseRowJson = ({ id, state, price, createdAt, closedOn, reason, reclamation }: Lease) => ({
  id: bidJson(id),
  state,
  price: decCoinJson(price),
  created_at: String(createdAt),
  closed_on: String(closedOn),
  reason: reasonName(reason),
  reclamation:
    reclamation === null
      ? null
      : {
          window: seconds(reclamation.windowS),
          started_at: String(reclamation.startedAt),
          deadline: reclamation.deadlineS.toString(),
          reason: reasonName(reclamation.reason),
        },
});

const listJson = (coins: readonly DecCoin[]) => coins.map(decCoinJson);

export const escrowJson = (account: EscrowAccount) => ({
  id: { scope: account.scope, xid: account.xid },
  state: {
    owner: account.owner,
    state: account.state,
    transferred: listJson(account.transferred),
    settled_at: String(account.settledAt),
    funds: listJson(account.funds),
    deposits: account.deposits.map(({ owner, height, source, balance }) => ({
      owner,
      height: String(height),
      source,
      balance: decCoinJson(balance),
    })),
  },
});

export const paymentJson = (payment: EscrowPayment) => ({
  id: { aid: { scope: payment.scope, xid: payment.accountXid }, xid: payment.xid },
  state: {
    owner: payment.owner,
    state: payment.state,
    rate: decCoinJson(payment.rate),
    balance: decJson(payment.rate.denom, payment.balance),
    unsettled: decJson(payment.rate.denom, payment.unsettled),
    withdrawn: coinJson({ denom: payment.rate.denom, amount: payment.withdrawn }),
  },
});

export const certificateJson = ({ serial, state, cert, pubkey }: Certificate) => ({
  certificate: { state, cert: base64(cert), pubkey: base64(pubkey) },
  serial,
});

export const providerJson = ({ owner, hostUri, attributes, info }: Provider) => ({
  owner,
  host_uri: hostUri,
  attributes: attributesJson(attributes),
  info,
});

export const auditJson = ({ owner, auditor, attributes }: Audit) => ({
  owner,
  auditor,
  attributes: attributesJson(attributes),
});

export const accountJson = ({ address, number, sequence, pubkey }: AuthAccount) => ({
  '@type': '/cosmos.auth.v1beta1.BaseAccount',
  address,
  pub_key: pubkey === null ? null : { '@type': '/cosmos.crypto.secp256k1.PubKey', key: base64(pubkey) },
  account_number: number.toString(),
  sequence: sequence.toString(),
});

const CANCEL_NAMES = ['unknown', 'epsilon', '', '', '', '', 'minimum_mint', '', '', 'max_attempts'];

export function mintJson(record: MintRecord): unknown {
  const { denom, toDenom, source, height, sequence, burn, status, attempts, minted, spread, cancelReason } = record;
  const id = { denom, to_denom: toDenom, source, height: String(height), sequence: String(sequence) };
  const head = { id, status: `ledger_record_status_${status}` };
  const asked = { owner: source, to: source, coins_to_burn: coinJson(burn), denom_to_mint: toDenom };
  if (status === 'pending') return { ...head, pending_record: { ...asked, attempts } };
  if (status === 'canceled') {
    return { ...head, canceled_record: { ...asked, cancel_reason: CANCEL_NAMES[cancelReason] ?? 'unknown' } };
  }
  const executed = {
    burned_from: source,
    minted_to: source,
    minted: minted === null ? null : { coin: coinJson(minted) },
    spread: spread === null ? null : coinJson(spread),
  };
  return { ...head, executed_record: executed };
}
