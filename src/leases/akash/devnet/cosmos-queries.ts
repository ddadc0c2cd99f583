import { BaseAccount } from 'cosmjs-types/cosmos/auth/v1beta1/auth';
import { QueryAccountRequest } from 'cosmjs-types/cosmos/auth/v1beta1/query';
import { QueryGranteeGrantsRequest, QueryGrantsRequest } from 'cosmjs-types/cosmos/authz/v1beta1/query';
import { GrantAuthorization, Grant } from 'cosmjs-types/cosmos/authz/v1beta1/authz';
import {
  QueryAllBalancesRequest,
  QueryBalanceRequest,
  QuerySpendableBalancesRequest,
  QuerySupplyOfRequest,
} from 'cosmjs-types/cosmos/bank/v1beta1/query';
import { GasInfo, Result, TxMsgData } from 'cosmjs-types/cosmos/base/abci/v1beta1/abci';
import { Coin as WireCoin } from 'cosmjs-types/cosmos/base/v1beta1/coin';
import { PubKey } from 'cosmjs-types/cosmos/crypto/secp256k1/keys';
import { AllowedMsgAllowance, BasicAllowance, Grant as FeeGrant } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { QueryAllowanceRequest, QueryAllowancesRequest } from 'cosmjs-types/cosmos/feegrant/v1beta1/query';
import { SimulateRequest, SimulateResponse } from 'cosmjs-types/cosmos/tx/v1beta1/service';
import { Tx } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import { grantBytes } from './bank-rules.ts';
import { balanceOf, balancesOf, type ChainEvent } from './context.ts';
import type { Coin } from './decimal.ts';
import { denial, type Denial } from './denials.ts';
import { grantKey } from './deposit-rules.ts';
import { bytesField } from './protobuf.ts';
import { list, readPage, StatusError, type Queries } from './query.ts';
import type { AuthAccount, DepositGrant, FeeAllowance } from './state.ts';

/** Queries of Cosmos' own modules. */

const wireCoin = ({ denom, amount }: Coin): WireCoin => ({ denom, amount: amount.toString() });
const any = (typeUrl: string, value: Uint8Array) => ({ typeUrl, value });
const timestamp = (seconds: bigint | null) => (seconds === null ? undefined : { seconds, nanos: 0 });

export function baseAccount({ address, number, sequence, pubkey }: AuthAccount): BaseAccount {
  const key = pubkey === null ? undefined : any(PubKey.typeUrl, PubKey.encode({ key: pubkey }).finish());
  return BaseAccount.fromPartial({
    address,
    ...(key === undefined ? {} : { pubKey: key }),
    accountNumber: number,
    sequence,
  });
}

const authorizationAny = (grant: DepositGrant) => any('/akash.escrow.v1.DepositAuthorization', grantBytes(grant));

function grantAuthorization(grant: DepositGrant): Uint8Array {
  const { granter, grantee, expiresS } = grant;
  const expiration = timestamp(expiresS);
  return GrantAuthorization.encode(
    GrantAuthorization.fromPartial({
      granter,
      grantee,
      authorization: authorizationAny(grant),
      ...(expiration === undefined ? {} : { expiration }),
    }),
  ).finish();
}

export function feeGrantBytes({ granter, grantee, limit, expiresS, messages }: FeeAllowance): Uint8Array {
  const expiration = timestamp(expiresS);
  const basic = BasicAllowance.encode(
    BasicAllowance.fromPartial({
      spendLimit: (limit ?? []).map(wireCoin),
      ...(expiration === undefined ? {} : { expiration }),
    }),
  ).finish();
  const plain = any(BasicAllowance.typeUrl, basic);
  const allowance =
    messages === null
      ? plain
      : any(
          AllowedMsgAllowance.typeUrl,
          AllowedMsgAllowance.encode({ allowance: plain, allowedMessages: [...messages] }).finish(),
        );
  return FeeGrant.encode({ granter, grantee, allowance }).finish();
}

export const cosmosQueries: Queries = {
  '/cosmos.auth.v1beta1.Query/Account': ({ state }, request) => {
    const { address } = QueryAccountRequest.decode(request);
    const account = state.accounts.get(address);
    if (account === undefined) throw accountNotFound(address);
    const value = BaseAccount.encode(baseAccount(account)).finish();
    return bytesField(1, anyBytes(BaseAccount.typeUrl, value));
  },
  '/cosmos.auth.v1beta1.Query/AccountInfo': ({ state }, request) => {
    const { address } = QueryAccountRequest.decode(request);
    const account = state.accounts.get(address);
    if (account === undefined) throw accountNotFound(address);
    return bytesField(1, BaseAccount.encode(baseAccount(account)).finish());
  },
  '/cosmos.bank.v1beta1.Query/Balance': ({ state }, request) => {
    const { address, denom } = QueryBalanceRequest.decode(request);
    return bytesField(1, WireCoin.encode(wireCoin({ denom, amount: balanceOf(state, address, denom) })).finish());
  },
  '/cosmos.bank.v1beta1.Query/AllBalances': ({ state }, request) => {
    const { address } = QueryAllBalancesRequest.decode(request);
    return list(1, balancesOf(state, address), readPage(request, 2), (coin) =>
      WireCoin.encode(wireCoin(coin)).finish(),
    );
  },
  '/cosmos.bank.v1beta1.Query/SpendableBalances': ({ state }, request) => {
    const { address } = QuerySpendableBalancesRequest.decode(request);
    return list(1, balancesOf(state, address), readPage(request, 2), (coin) =>
      WireCoin.encode(wireCoin(coin)).finish(),
    );
  },
  '/cosmos.bank.v1beta1.Query/SupplyOf': ({ state }, request) => {
    const { denom } = QuerySupplyOfRequest.decode(request);
    return bytesField(1, WireCoin.encode(wireCoin({ denom, amount: state.supply.get(denom) ?? 0n })).finish());
  },
  '/cosmos.authz.v1beta1.Query/Grants': ({ state }, request) => {
    const { granter, grantee } = QueryGrantsRequest.decode(request);
    const grant = state.grants.get(grantKey(granter, grantee));
    return list(1, grant === undefined ? [] : [grant], readPage(request, 4), (one) => {
      const expiration = timestamp(one.expiresS);
      const authorization = authorizationAny(one);
      return Grant.encode(
        Grant.fromPartial({ authorization, ...(expiration === undefined ? {} : { expiration }) }),
      ).finish();
    });
  },
  '/cosmos.authz.v1beta1.Query/GranteeGrants': ({ state }, request) => {
    const { grantee } = QueryGranteeGrantsRequest.decode(request);
    const rows = state.grants.values().filter((grant) => grant.grantee === grantee);
    return list(1, rows, readPage(request, 2), grantAuthorization);
  },
  '/cosmos.authz.v1beta1.Query/GranterGrants': ({ state }, request) => {
    const { grantee: granter } = QueryGranteeGrantsRequest.decode(request);
    const rows = state.grants.values().filter((grant) => grant.granter === granter);
    return list(1, rows, readPage(request, 2), grantAuthorization);
  },
  '/cosmos.feegrant.v1beta1.Query/Allowance': ({ state }, request) => {
    const { granter, grantee } = QueryAllowanceRequest.decode(request);
    const allowance = state.allowances.get(grantKey(granter, grantee));
    if (allowance === undefined) throw new StatusError('Internal', 'fee-grant not found: not found');
    return bytesField(1, feeGrantBytes(allowance));
  },
  '/cosmos.feegrant.v1beta1.Query/Allowances': ({ state }, request) => {
    const { grantee } = QueryAllowancesRequest.decode(request);
    const rows = state.allowances.values().filter((allowance) => allowance.grantee === grantee);
    return list(1, rows, readPage(request, 2), feeGrantBytes);
  },
  '/cosmos.tx.v1beta1.Service/Simulate': ({ simulate }, request) => {
    const { tx, txBytes } = SimulateRequest.decode(request);
    const result = simulate(txBytes.length > 0 ? txBytes : tx === undefined ? txBytes : Tx.encode(tx).finish());
    if (result.code !== 0) {
      // The SDK hands the error on with the gas that it took until then.
      throw new StatusError('Unknown', `${result.log} with gas used: '${result.gasUsed}'`);
    }
    const { gasUsed, data, events } = result;
    const { msgResponses } = TxMsgData.decode(data);
    return SimulateResponse.encode(
      SimulateResponse.fromPartial({
        gasInfo: GasInfo.fromPartial({ gasUsed, gasWanted: 0n }),
        result: Result.fromPartial({ data, log: '', events: events.map(wireEvent), msgResponses }),
      }),
    ).finish();
  },
};

const wireEvent = ({ type, attributes }: ChainEvent) => ({
  type,
  attributes: attributes.map(([key, value]) => ({ key, value, index: true })),
});

function anyBytes(typeUrl: string, value: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([bytesField(1, new TextEncoder().encode(typeUrl)), bytesField(2, value)]));
}

const accountNotFound = (address: string): Denial => denial('sdk/not_found', { front: `account ${address} not found` });
