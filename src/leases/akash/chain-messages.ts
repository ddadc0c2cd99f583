import {
  Deposit,
  MsgAccountDeposit,
  MsgCreateCertificate,
  MsgMintACT,
  Scope,
  Source,
} from '@akashnetwork/chain-sdk/private-types/akash.v1';
import {
  GroupSpec,
  MsgCloseDeployment,
  MsgCreateDeployment,
} from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { MsgCreateLease } from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { MsgGrant } from 'cosmjs-types/cosmos/authz/v1beta1/tx';
import { AllowedMsgAllowance, BasicAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { MsgGrantAllowance, MsgRevokeAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/tx';
import { Any } from 'cosmjs-types/google/protobuf/any';
import { AUTHORIZATION_TYPE, encodeAuthorization } from './chain-authorization.ts';
import { encodeReclamation } from './chain-reclamation.ts';
import type { Order } from './chain-types.ts';
import type { GroupSpecJson, ResourcesJson } from './sdl.ts';

/** What we ask of the chain, as its messages. */
export function messageOf(order: Order, denom: string): Any {
  switch (order.type) {
    case 'create_deployment': {
      const message = pack(MsgCreateDeployment, {
        id: idOf(order.id),
        groups: [groupOf(order.group)],
        hash: order.version,
        deposit: depositOf(order.deposit, denom),
      });
      const reclamation = encodeReclamation(order.reclamationMs ?? null);
      return Any.fromPartial({ ...message, value: Buffer.concat([message.value, reclamation]) });
    }
    case 'deposit':
      return pack(MsgAccountDeposit, {
        signer: order.id.owner,
        id: { scope: Scope.deployment, xid: `${order.id.owner}/${order.id.dseq}` },
        deposit: depositOf(order.amount, denom),
      });
    case 'create_lease': {
      const { provider, gseq, oseq, bseq } = order.bid;
      return pack(MsgCreateLease, { bidId: { ...idOf(order.id), gseq, oseq, provider, bseq } });
    }
    case 'close_deployment':
      return pack(MsgCloseDeployment, { id: idOf(order.id) });
    case 'mint_act': {
      const { owner, burnUakt } = order;
      return pack(MsgMintACT, { owner, to: owner, coinsToBurn: { denom: 'uakt', amount: String(burnUakt) } });
    }
    case 'create_certificate': {
      const { owner, cert, publicKey } = order;
      return pack(MsgCreateCertificate, { owner, cert: Buffer.from(cert), pubkey: Buffer.from(publicKey) });
    }
    case 'grant_deposits':
      return grantDeposits(order, denom);
    case 'grant_fees':
      return grantFees(order);
    case 'revoke_fees':
      return Any.fromPartial({
        typeUrl: MsgRevokeAllowance.typeUrl,
        value: MsgRevokeAllowance.encode({ granter: order.from, grantee: order.to }).finish(),
      });
  }
}

type OrderOf<T extends Order['type']> = Extract<Order, { type: T }>;

function grantDeposits(order: OrderOf<'grant_deposits'>, denom: string): Any {
  const { from, to, amount, untilMs } = order;
  const authorization = { typeUrl: AUTHORIZATION_TYPE, value: encodeAuthorization(denom, amount) };
  const grant = { authorization, expiration: timestampOf(untilMs) };
  return Any.fromPartial({
    typeUrl: MsgGrant.typeUrl,
    value: MsgGrant.encode(MsgGrant.fromPartial({ granter: from, grantee: to, grant })).finish(),
  });
}

/** Bound to the few messages that a pool's wallet has to send, to an amount and to a date. */
function grantFees(order: OrderOf<'grant_fees'>): Any {
  const { from, to, uakt, untilMs } = order;
  const basic = BasicAllowance.fromPartial({
    spendLimit: [{ denom: 'uakt', amount: String(uakt) }],
    expiration: timestampOf(untilMs),
  });
  const allowed = AllowedMsgAllowance.fromPartial({
    allowance: { typeUrl: BasicAllowance.typeUrl, value: BasicAllowance.encode(basic).finish() },
    allowedMessages: [MsgCreateDeployment, MsgAccountDeposit, MsgCreateLease, MsgCloseDeployment].map(
      ({ $type }) => `/${$type}`,
    ),
  });
  const allowance = { typeUrl: AllowedMsgAllowance.typeUrl, value: AllowedMsgAllowance.encode(allowed).finish() };
  return Any.fromPartial({
    typeUrl: MsgGrantAllowance.typeUrl,
    value: MsgGrantAllowance.encode(MsgGrantAllowance.fromPartial({ granter: from, grantee: to, allowance })).finish(),
  });
}

interface Codec<T, P> {
  readonly $type: string;
  fromPartial(partial: P): T;
  encode(message: T): { finish(): Uint8Array };
}

function pack<T, P>(codec: Codec<T, P>, partial: P): Any {
  return Any.fromPartial({ typeUrl: `/${codec.$type}`, value: codec.encode(codec.fromPartial(partial)).finish() });
}

function idOf({ owner, dseq }: { owner: string; dseq: bigint }): { owner: string; dseq: string } {
  return { owner, dseq: String(dseq) };
}

/** From the signer's own balance first, then from whoever granted it deposits. */
function depositOf(amount: bigint, denom: string): Deposit {
  return Deposit.fromPartial({
    amount: { denom, amount: String(amount) },
    sources: [Source.balance, Source.grant],
  });
}

function timestampOf(ms: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: 0 };
}

function groupOf({ name, requirements, resources }: GroupSpecJson): GroupSpec {
  return GroupSpec.fromPartial({
    name,
    requirements: {
      signedBy: {
        allOf: [...(requirements.signed_by.all_of ?? [])],
        anyOf: [...(requirements.signed_by.any_of ?? [])],
      },
      attributes: attributes(requirements.attributes ?? []),
    },
    resources: resources.map(({ resource, count, price }) => ({
      resource: resourcesOf(resource),
      count,
      price: { denom: price.denom, amount: price.amount },
    })),
  });
}

function resourcesOf({ id, cpu, memory, storage, gpu, endpoints }: ResourcesJson): object {
  return {
    id,
    cpu: { units: value(cpu.units.val), attributes: [] },
    memory: { quantity: value(memory.size.val), attributes: [] },
    storage: storage.map((one) => ({
      name: one.name,
      quantity: value(one.size.val),
      attributes: attributes(one.attributes ?? []),
    })),
    gpu: { units: value(gpu.units.val), attributes: attributes(gpu.attributes ?? []) },
    endpoints: endpoints.map(({ kind = 0, sequence_number: sequenceNumber }) => ({ kind, sequenceNumber })),
  };
}

/** Amounts of resources are decimal digits as bytes. */
function value(digits: string): { val: Uint8Array } {
  return { val: Buffer.from(digits) };
}

function attributes(list: readonly { key: string; value: string }[]): { key: string; value: string }[] {
  return list.map((one) => ({ key: one.key, value: one.value }));
}
