import {
  MsgAccountDeposit,
  MsgCreateCertificate,
  MsgDeleteProviderAttributes,
  MsgRevokeCertificate,
  MsgSignProviderAttributes,
  Scope as EscrowScope,
} from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { MsgCreateProvider, MsgUpdateProvider } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { LeaseID } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { isAddress } from './address.ts';
import { readCertificate } from './certificate.ts';
import { emit, type Context } from './context.ts';
import { denial } from './denials.ts';
import { authorizeDeposit, parseDeposit } from './deposit-rules.ts';
import { depositToAccount } from './escrow-rules.ts';
import { checkProviderReason, readBidId } from './market-rules.ts';
import { bidJson, reasonName } from './order-rules.ts';
import { lastField } from './protobuf.ts';
import { rule, type Rules } from './rule.ts';
import { bidKey } from './state.ts';

/** The rest of Akash's modules: escrow deposits, certificates, providers, audits, the start of a reclamation. */

export const providerRules: Rules = [
  rule({
    type: MsgAccountDeposit,
    gas: 45_000,
    signer: ({ signer }) => signer,
    check: ({ id, deposit }) => {
      if (id === undefined || scopeOf(id.scope) === null || id.xid === '') throw denial('escrow/invalid_id');
      if (parseDeposit(deposit).amount.amount === 0n) throw denial('escrow/invalid_deposit');
    },
    run: (context, { signer, id, deposit }) => {
      const scope = scopeOf(id?.scope ?? EscrowScope.invalid) ?? 'deployment';
      const deposits = authorizeDeposit(context, signer, parseDeposit(deposit), scope);
      depositToAccount(context, { scope, xid: id?.xid ?? '' }, deposits);
    },
  }),
  rule({
    type: MsgCreateCertificate,
    gas: 30_000,
    signer: ({ owner }) => owner,
    check: (message) => void checkCertificate(message),
    run: (context, message) => {
      const { serial } = checkCertificate(message);
      const key = certificateKey(message.owner, serial);
      if (context.state.certificates.get(key) !== undefined) throw denial('cert/exists');
      const { owner, cert, pubkey } = message;
      context.state.certificates.set(key, { owner, serial, state: 'valid', cert, pubkey });
    },
  }),
  rule({
    type: MsgRevokeCertificate,
    gas: 20_000,
    signer: ({ id }) => id?.owner ?? '',
    check: ({ id }) => {
      if (!/^\d{1,60}$/.test(id?.serial ?? '')) throw denial('cert/invalid_serial');
    },
    run: (context, { id }) => {
      const key = certificateKey(id?.owner ?? '', id?.serial ?? '');
      const certificate = context.state.certificates.get(key);
      if (certificate === undefined) throw denial('cert/not_found');
      if (certificate.state === 'revoked') throw denial('cert/already_revoked');
      context.state.certificates.set(key, { ...certificate, state: 'revoked' });
    },
  }),
  rule({
    type: MsgCreateProvider,
    gas: 30_000,
    signer: ({ owner }) => owner,
    check: ({ hostUri }) => checkUri(hostUri),
    run: (context, { owner, hostUri, attributes, info }) => {
      if (context.state.providers.get(owner) !== undefined) throw denial('provider/exists');
      context.state.providers.set(owner, { owner, hostUri, attributes, info: infoOf(info) });
      emit(context, 'akash.provider.v1beta4.EventProviderCreated', { owner });
    },
  }),
  rule({
    type: MsgUpdateProvider,
    gas: 30_000,
    signer: ({ owner }) => owner,
    check: ({ hostUri }) => checkUri(hostUri),
    run: (context, { owner, hostUri, attributes, info }) => {
      if (context.state.providers.get(owner) === undefined) throw denial('provider/not_found');
      context.state.providers.set(owner, { owner, hostUri, attributes, info: infoOf(info) });
      emit(context, 'akash.provider.v1beta4.EventProviderUpdated', { owner });
    },
  }),
  rule({
    type: MsgSignProviderAttributes,
    gas: 30_000,
    signer: ({ auditor }) => auditor,
    run: (context, { owner, auditor, attributes }) => {
      if (context.state.providers.get(owner) === undefined) throw denial('audit/provider_not_found');
      const had = context.state.audits.get(`${owner} ${auditor}`)?.attributes ?? [];
      const kept = had.filter(({ key }) => !attributes.some((one) => one.key === key));
      context.state.audits.set(`${owner} ${auditor}`, { owner, auditor, attributes: [...kept, ...attributes] });
      emit(context, 'akash.audit.v1.EventTrustedAuditorCreated', { owner, auditor });
    },
  }),
  rule({
    type: MsgDeleteProviderAttributes,
    gas: 20_000,
    signer: ({ auditor }) => auditor,
    run: (context, { owner, auditor, keys }) => {
      const audit = context.state.audits.get(`${owner} ${auditor}`);
      if (audit === undefined) throw denial('audit/provider_not_found');
      const attributes = audit.attributes.filter(({ key }) => keys.length > 0 && !keys.includes(key));
      if (attributes.length === 0) context.state.audits.delete(`${owner} ${auditor}`);
      else context.state.audits.set(`${owner} ${auditor}`, { ...audit, attributes });
    },
  }),
  rule({
    // {1: LeaseID, 2: reason}; chain-sdk has no type for it yet.
    type: { typeUrl: '/akash.market.v1beta5.MsgLeaseStartReclaim', decode: decodeReclaim },
    gas: 30_000,
    signer: ({ id }) => id.provider,
    check: ({ id, reason }) => {
      readBidId(id);
      checkProviderReason(reason);
    },
    run: startReclaim,
  }),
];

interface StartReclaim {
  readonly id: LeaseID;
  readonly reason: number;
}

function decodeReclaim(bytes: Uint8Array): StartReclaim {
  const id = LeaseID.decode(lastField(bytes, 1)?.bytes ?? new Uint8Array());
  return { id, reason: Number(lastField(bytes, 2)?.value ?? 0n) };
}

function startReclaim(context: Context, message: StartReclaim): void {
  const id = readBidId(message.id);
  const lease = context.state.leases.get(bidKey(id));
  if (lease === undefined) throw denial('market/unknown_lease');
  if (lease.state !== 'active') throw denial('market/lease_not_active');
  if (lease.reclamation === null) throw denial('market/not_reclaimable');
  const { reason } = message;
  const deadlineS = context.timeS + lease.reclamation.windowS;
  const reclamation = { ...lease.reclamation, startedAt: context.height, deadlineS, reason };
  context.state.leases.set(bidKey(id), { ...lease, state: 'reclaiming', reclamation });
  emit(context, 'akash.market.v1.EventLeaseReclaimStarted', {
    id: bidJson(id),
    reason: reasonName(reason),
    deadline: deadlineS.toString(),
  });
}

function scopeOf(scope: EscrowScope): 'deployment' | 'bid' | null {
  return scope === EscrowScope.deployment ? 'deployment' : scope === EscrowScope.bid ? 'bid' : null;
}

export const certificateKey = (owner: string, serial: string): string => `${owner} ${serial}`;

function checkCertificate({ owner, cert, pubkey }: MsgCreateCertificate): { serial: string } {
  if (!isAddress(owner)) throw denial('sdk/invalid_address', { front: 'MsgCreateCertificate: Invalid Owner Address' });
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  if (!text(pubkey).includes('BEGIN EC PUBLIC KEY')) throw denial('cert/invalid_pubkey');
  if (!text(cert).includes('BEGIN CERTIFICATE')) throw denial('cert/invalid_value');
  const read = tryRead(cert, pubkey);
  if (read === null) throw denial('cert/invalid_value');
  if (!read.signed) throw denial('cert/invalid_value', { back: 'invalid certificate signature' });
  if (read.commonName !== owner) {
    throw denial('cert/invalid_value', { back: 'CommonName does not match owner' });
  }
  return read;
}

function tryRead(cert: Uint8Array, pubkey: Uint8Array): ReturnType<typeof readCertificate> | null {
  try {
    return readCertificate(cert, pubkey);
  } catch {
    return null;
  }
}

function checkUri(hostUri: string): void {
  if (!/^https:\/\/[^/\s]+$/.test(hostUri)) throw denial('provider/invalid_uri');
}

const infoOf = (info: { readonly email: string; readonly website: string } | undefined) => ({
  email: info?.email ?? '',
  website: info?.website ?? '',
});
