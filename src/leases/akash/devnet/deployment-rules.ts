import {
  MsgCloseDeployment,
  MsgCloseGroup,
  MsgCreateDeployment,
  MsgPauseGroup,
  MsgStartGroup,
  MsgUpdateDeployment,
  type GroupSpec,
} from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { emit, PARAMS, type Context } from './context.ts';
import { denial, plainDenial } from './denials.ts';
import { authorizeDeposit, parseDeposit, type DepositRequest } from './deposit-rules.ts';
import { closeAccount, createAccount } from './escrow-rules.ts';
import { groupFault, groupPrice } from './group-checks.ts';
import { closeGroupOrders, createOrder } from './order-rules.ts';
import { isAddress } from './address.ts';
import { lastField, readDurationS } from './protobuf.ts';
import { rule, type Rules } from './rule.ts';
import { deploymentKey, groupKey, type Deployment, type EscrowAccount, type Group, type GroupId } from './state.ts';

/** node: x/deployment/handler/server.go and the messages' ValidateBasic. */

interface WireDeploymentId {
  readonly owner: string;
  readonly dseq: { toString(): string };
}

function readId(id: WireDeploymentId | undefined): { owner: string; dseq: bigint } {
  const dseq = BigInt(id?.dseq.toString() ?? '0');
  if (id === undefined || !isAddress(id.owner) || dseq === 0n) throw denial('deployment/invalid_id');
  return { owner: id.owner, dseq };
}

function readGroupId(id: (WireDeploymentId & { readonly gseq: number }) | undefined): GroupId {
  const deployment = readId(id);
  return { ...deployment, gseq: id?.gseq ?? 0 };
}

const ownerOf = (message: { id: { readonly owner: string } | undefined }): string => message.id?.owner ?? '';

export const deploymentRules: Rules = [
  rule({
    type: MsgCreateDeployment,
    gas: 90_000,
    signer: ownerOf,
    check: (message) => {
      readId(message.id);
      const deposit = parseDeposit(message.deposit);
      if (message.groups.length === 0) throw denial('deployment/invalid_groups');
      checkHash(message.hash);
      for (const group of message.groups) checkGroup(group, deposit);
    },
    run: createDeployment,
  }),
  rule({
    type: MsgUpdateDeployment,
    gas: 20_000,
    signer: ownerOf,
    check: ({ id, hash }) => {
      readId(id);
      checkHash(hash);
    },
    run: (context, message) => {
      const before = activeDeployment(context, readId(message.id));
      if (Buffer.from(before.hash).equals(message.hash)) throw denial('deployment/invalid_hash');
      context.state.deployments.set(deploymentKey(before), { ...before, hash: message.hash });
      emit(context, 'akash.deployment.v1.EventDeploymentUpdated', { id: idJson(before), hash: base64(message.hash) });
    },
  }),
  rule({
    type: MsgCloseDeployment,
    gas: 40_000,
    signer: ownerOf,
    check: ({ id }) => void readId(id),
    run: (context, message) => {
      const deployment = activeDeployment(context, readId(message.id));
      // The rest follows from the escrow's end, by the hook below.
      closeAccount(context, 'deployment', deploymentKey(deployment));
    },
  }),
  rule({
    type: MsgCloseGroup,
    gas: 40_000,
    signer: ownerOf,
    check: ({ id }) => void readGroupId(id),
    run: (context, message) => {
      const group = getGroup(context, readGroupId(message.id));
      if (group.state === 'closed') throw denial('deployment/group_closed');
      endGroup(context, group, 'closed');
    },
  }),
  rule({
    type: MsgPauseGroup,
    gas: 40_000,
    signer: ownerOf,
    check: ({ id }) => void readGroupId(id),
    run: (context, message) => {
      const group = getGroup(context, readGroupId(message.id));
      if (group.state === 'closed') throw denial('deployment/group_closed');
      if (group.state === 'paused') throw denial('deployment/group_paused');
      pauseGroup(context, group.id);
      closeGroupOrders(context, group.id, 'paused');
    },
  }),
  rule({
    type: MsgStartGroup,
    gas: 40_000,
    signer: ownerOf,
    check: ({ id }) => void readGroupId(id),
    run: (context, message) => {
      const group = getGroup(context, readGroupId(message.id));
      if (group.state === 'closed') throw denial('deployment/group_closed');
      if (group.state === 'open') throw denial('deployment/group_open');
      context.state.groups.set(groupKey(group.id), { ...group, state: 'open' });
      emit(context, 'akash.deployment.v1.EventGroupStarted', { id: groupJson(group.id) });
      const deployment = context.state.deployments.get(deploymentKey(group.id));
      if (deployment === undefined) throw denial('deployment/not_found');
      createOrder(context, group.id, group.spec, deployment.reclamationS);
    },
  }),
];

function checkHash(hash: Uint8Array): void {
  if (hash.length === 0) throw denial('deployment/empty_hash');
  if (hash.length !== 32) throw denial('deployment/invalid_hash');
}

function checkGroup(group: GroupSpec, deposit: DepositRequest): void {
  const fault = groupFault(group);
  if (fault !== null) throw plainDenial(fault);
  const { denom } = groupPrice(group);
  if (deposit.amount.amount > 0n && denom !== deposit.amount.denom) {
    const front = `Mismatched denominations (${deposit.amount.denom} != ${denom})`;
    throw denial('deployment/invalid_deposit', { front });
  }
}

function createDeployment(context: Context, message: MsgCreateDeployment, bytes: Uint8Array): void {
  const id = readId(message.id);
  if (context.state.deployments.get(deploymentKey(id)) !== undefined) throw denial('deployment/exists');
  const deposit = parseDeposit(message.deposit);
  checkFirstDeposit(deposit);
  const reclamationS = readReclamation(bytes);
  checkGroups(message.groups);
  const deposits = authorizeDeposit(context, id.owner, deposit, 'deployment');
  const createdAt = context.height;
  context.state.deployments.set(deploymentKey(id), {
    ...id,
    state: 'active',
    hash: message.hash,
    createdAt,
    reclamationS,
  });
  emit(context, 'akash.deployment.v1.EventDeploymentCreated', { id: idJson(id), hash: base64(message.hash) });
  for (const [at, spec] of message.groups.entries()) {
    context.gas.consume(8_000 + 4_000 * spec.resources.length, 'deployment');
    const group = { id: { ...id, gseq: at + 1 }, state: 'open' as const, spec, createdAt };
    context.state.groups.set(groupKey(group.id), group);
    createOrder(context, group.id, spec, reclamationS);
  }
  createAccount(context, { scope: 'deployment', xid: deploymentKey(id), owner: id.owner }, deposits);
}

function checkFirstDeposit({ amount }: DepositRequest): void {
  const minimum = (PARAMS.deploymentMinDeposits as Readonly<Record<string, bigint>>)[amount.denom];
  if (minimum === undefined) {
    throw denial('deployment/invalid_deposit', { back: `Invalid deposit denomination ${amount.denom}` });
  }
  if (amount.amount < minimum) {
    const front = `Deposit too low - ${amount.amount} < ${minimum}${amount.denom}`;
    throw denial('deployment/invalid_deposit', { front });
  }
  // AKT may come later, by MsgAccountDeposit, as a fallback.
  if (amount.denom === 'uakt') throw denial('deployment/invalid_deposit');
}

/** Field 5, which chain-sdk's type does not have yet: {1: min_window}. */
function readReclamation(bytes: Uint8Array): bigint | null {
  const field = lastField(bytes, 5);
  if (field === undefined) return null;
  const windowS = readDurationS(field.bytes, 1) ?? 0n;
  const wrong = windowS < PARAMS.reclamationMinS ? 'minimum' : windowS > PARAMS.reclamationMaxS ? 'maximum' : null;
  if (wrong !== null) {
    const front = `min_window ${wrong === 'minimum' ? 'below' : 'above'} governance ${wrong}`;
    throw denial('deployment/invalid_reclamation', { front });
  }
  return windowS;
}

function checkGroups(groups: readonly GroupSpec[]): void {
  const names = new Set<string>();
  const denom = groups[0] === undefined ? '' : groupPrice(groups[0]).denom;
  for (const group of groups) {
    const other = groupPrice(group).denom;
    if (other !== denom) {
      const front = `inconsistent group denomination: ${other} != ${denom}: invalid price`;
      throw denial('deployment/invalid_groups', { front });
    }
    if (names.has(group.name)) {
      const front = `duplicate deployment group name ${group.name}: duplicate group name`;
      throw denial('deployment/invalid_groups', { front });
    }
    names.add(group.name);
  }
  if (denom !== 'uact') throw denial('deployment/invalid_price', { front: `unsupported denomination ${denom}` });
}

function activeDeployment(context: Context, id: { owner: string; dseq: bigint }): Deployment {
  const deployment = context.state.deployments.get(deploymentKey(id));
  if (deployment === undefined) throw denial('deployment/not_found');
  if (deployment.state !== 'active') throw denial('deployment/closed');
  return deployment;
}

function getGroup(context: Context, id: GroupId): Group {
  const group = context.state.groups.get(groupKey(id));
  if (group === undefined) throw denial('deployment/group_not_found');
  return group;
}

function endGroup(context: Context, group: Group, state: 'closed' | 'insufficient_funds'): void {
  context.state.groups.set(groupKey(group.id), { ...group, state });
  emit(context, 'akash.deployment.v1.EventGroupClosed', { id: groupJson(group.id) });
  closeGroupOrders(context, group.id, state);
}

/** Also what a provider's MsgCloseBid does: the deployment stays active, with its funds locked. */
export function pauseGroup(context: Context, id: GroupId): void {
  const group = getGroup(context, id);
  context.state.groups.set(groupKey(id), { ...group, state: 'paused' });
  emit(context, 'akash.deployment.v1.EventGroupPaused', { id: groupJson(id) });
}

/** Hook: the escrow ended, by a close or by running dry. */
export function onAccountClosed(context: Context, account: EscrowAccount): void {
  if (account.scope !== 'deployment') return;
  const deployment = context.state.deployments.get(account.xid);
  if (deployment === undefined || deployment.state !== 'active') return;
  context.state.deployments.set(account.xid, { ...deployment, state: 'closed' });
  emit(context, 'akash.deployment.v1.EventDeploymentClosed', { id: idJson(deployment) });
  const groups = context.state.groups
    .values()
    .filter(({ id }) => deploymentKey(id) === account.xid)
    .sort((a, b) => a.id.gseq - b.id.gseq);
  for (const group of groups) {
    if (group.state === 'closed') continue;
    endGroup(context, group, account.state === 'overdrawn' ? 'insufficient_funds' : 'closed');
  }
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const idJson = ({ owner, dseq }: { owner: string; dseq: bigint }) => ({ owner, dseq: dseq.toString() });
const groupJson = (id: GroupId) => ({ ...idJson(id), gseq: id.gseq });
