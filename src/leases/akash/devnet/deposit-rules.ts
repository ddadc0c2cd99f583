import { balanceOf, type Context } from './context.ts';
import { decFromInt, type Coin } from './decimal.ts';
import { denial, plainDenial } from './denials.ts';
import type { DepositGrant, Depositor } from './state.ts';

/** DepositAuthorization's scopes. */
export const SCOPES = { deployment: 1, bid: 2 } as const;
export type Scope = keyof typeof SCOPES;

const SOURCES = { 1: 'balance', 2: 'grant' } as const;

export interface DepositRequest {
  readonly amount: Coin;
  readonly sources: readonly number[];
}

/** chain-sdk's Deposit, checked as the chain's ValidateBasic does. */
export function parseDeposit(
  deposit: { amount: { denom: string; amount: string } | undefined; sources: number[] } | undefined,
): DepositRequest {
  const text = deposit?.amount?.amount ?? '';
  const denom = deposit?.amount?.denom ?? '';
  if (!/^\d{1,30}$/.test(text) || denom === '') throw plainDenial(`invalid coin: ${text}${denom}`);
  const sources = deposit?.sources ?? [];
  if (sources.length === 0) throw denial('akash/invalid_deposit_source', { front: 'empty deposit sources' });
  for (const [at, source] of sources.entries()) {
    const kind = source === 1 || source === 2 ? 'duplicate' : 'empty';
    if (kind === 'empty' || sources.indexOf(source) !== at) {
      throw denial('akash/invalid_deposit_source', { front: `${kind} deposit source type ${source}` });
    }
  }
  return { amount: { denom, amount: BigInt(text) }, sources };
}

/** Who pays how much of a deposit: sources in the order given, grants as many as it takes. Reduces those grants. */
export function authorizeDeposit(
  context: Context,
  owner: string,
  deposit: DepositRequest,
  scope: Scope,
): readonly Depositor[] {
  const { denom } = deposit.amount;
  const depositors: Depositor[] = [];
  let rest = deposit.amount.amount;
  for (const source of deposit.sources) {
    if (rest === 0n) break;
    const kind = SOURCES[source as 1 | 2];
    const taken =
      kind === 'balance'
        ? fromBalance(context, owner, denom, rest)
        : fromGrants(context, owner, scope, {
            denom,
            amount: rest,
          });
    for (const { payer, amount } of taken) {
      rest -= amount;
      depositors.push({
        owner: payer,
        height: context.height,
        source: kind,
        balance: { denom, amount: decFromInt(amount) },
      });
    }
  }
  if (rest > 0n) throw denial('market/invalid_deposit', { back: 'insufficient balance' });
  return depositors;
}

interface Taken {
  readonly payer: string;
  readonly amount: bigint;
}

function fromBalance(context: Context, owner: string, denom: string, wanted: bigint): Taken[] {
  const held = balanceOf(context.state, owner, denom);
  return held > 0n ? [{ payer: owner, amount: held < wanted ? held : wanted }] : [];
}

function fromGrants(context: Context, grantee: string, scope: Scope, wanted: Coin): Taken[] {
  const taken: Taken[] = [];
  let rest = wanted.amount;
  for (const grant of grantsOf(context, grantee)) {
    if (rest === 0n) break;
    context.gas.consume(5_000, 'authz');
    if (!grant.scopes.includes(SCOPES[scope])) continue;
    const left = grant.limits.find(({ denom }) => denom === wanted.denom)?.amount ?? 0n;
    if (left === 0n) continue;
    const amount = left < rest ? left : rest;
    changeLimit(context, grant, { denom: wanted.denom, amount: -amount });
    rest -= amount;
    taken.push({ payer: grant.granter, amount });
  }
  return taken;
}

function grantsOf(context: Context, grantee: string): DepositGrant[] {
  return context.state.grants
    .values()
    .filter((grant) => grant.grantee === grantee && (grant.expiresS === null || grant.expiresS > context.timeS))
    .sort((a, b) => (a.granter < b.granter ? -1 : 1));
}

export const grantKey = (granter: string, grantee: string): string => `${granter} ${grantee}`;

/** What comes back from an escrow may be granted again, as far as the grant still stands. */
export function restoreGrant(context: Context, granter: string, grantee: string, coin: Coin): void {
  const grant = context.state.grants.get(grantKey(granter, grantee));
  if (grant !== undefined && coin.amount > 0n) changeLimit(context, grant, coin);
}

function changeLimit(context: Context, grant: DepositGrant, change: Coin): void {
  const others = grant.limits.filter(({ denom }) => denom !== change.denom);
  const amount = (grant.limits.find(({ denom }) => denom === change.denom)?.amount ?? 0n) + change.amount;
  const limits = [...others, ...(amount > 0n ? [{ denom: change.denom, amount }] : [])];
  limits.sort((a, b) => (a.denom < b.denom ? -1 : 1));
  context.state.grants.set(grantKey(grant.granter, grant.grantee), { ...grant, limits });
}
