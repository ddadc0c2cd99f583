import {
  QueryAllProvidersAttributesRequest,
  QueryProvidersResponse as AuditedResponse,
} from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { QueryProvidersRequest, QueryProvidersResponse } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { Comet38Client } from '@cosmjs/tendermint-rpc';
import { BinaryReader } from 'cosmjs-types/binary';
import { QueryGranteeGrantsRequest, QueryGranteeGrantsResponse } from 'cosmjs-types/cosmos/authz/v1beta1/query';
import { QueryAllowancesRequest, QueryAllowancesResponse } from 'cosmjs-types/cosmos/feegrant/v1beta1/query';
import { Coin } from 'cosmjs-types/cosmos/base/v1beta1/coin';
import { describeError } from '../../errors.ts';
import type { EpochMs, Ms } from '../../units.ts';
import type { Micro } from './amounts.ts';
import { AUTHORIZATION_TYPE, limitOf } from './chain-authorization.ts';
import { ChainQueries } from './chain-queries.ts';
import { RpcPool, type NodeState, type RpcPoolOptions } from './chain-rpc.ts';
import type { ChainProvider, DepositGrant, FeeGrant } from './chain-types.ts';

/** A question of each module that Underbid speaks to, in the version that it speaks. */
const SPOKEN = [
  'akash.deployment.v1beta4.Query/Params',
  'akash.market.v1beta5.Query/Params',
  'akash.escrow.v1.Query/Accounts',
  'akash.cert.v1.Query/Certificates',
  'akash.provider.v1beta4.Query/Providers',
  'akash.audit.v1.Query/AllProvidersAttributes',
  'akash.bme.v1.Query/Status',
  'cosmos.authz.v1beta1.Query/GranteeGrants',
  'cosmos.feegrant.v1beta1.Query/Allowances',
] as const;

const PROVIDERS_PAGE = 5000;
const MINT_STATES: Record<string, MintStatus['state']> = { 1: 'healthy', 2: 'warning' };

export interface MintStatus {
  readonly state: 'healthy' | 'warning' | 'halted';
  readonly allowed: boolean;
  /** Of collateral to ACT. */
  readonly ratio: number;
}

export interface MarketParams {
  readonly orderMaxBids: number;
  /** 0 and 0: the chain knows no reclamation. */
  readonly reclamationMinMs: Ms;
  readonly reclamationMaxMs: Ms;
}

export interface GivenGrant extends DepositGrant {
  readonly granter: string;
}

/** Read-only questions to a chain, with no key: what `underbid doctor` looks at. */
export class Inspection {
  readonly #pool: RpcPool;
  readonly #comet: Comet38Client;
  readonly queries: ChainQueries;

  constructor(options: RpcPoolOptions) {
    this.#pool = new RpcPool(options);
    this.#comet = Comet38Client.create(this.#pool);
    this.queries = new ChainQueries(this.#comet, this.#pool);
  }

  /** Asks each node where it is. */
  async nodes(): Promise<readonly NodeState[]> {
    await this.#pool.refresh();
    return this.#pool.nodes();
  }

  async nodeVersion(): Promise<string> {
    const { result } = await this.#pool.execute({ jsonrpc: '2.0', id: 1, method: 'abci_info', params: {} });
    const { response } = (result ?? {}) as { response?: { version?: unknown } };
    return typeof response?.version === 'string' ? response.version.slice(0, 100) : '';
  }

  /** Those of the questions that this chain does not know. */
  async unspoken(): Promise<string[]> {
    const answers = await Promise.all(
      SPOKEN.map(async (path) => {
        const { code, log } = await this.#comet.abciQuery({ path: `/${path}`, data: new Uint8Array(), prove: false });
        return code !== 0 && /unknown query path|unknown service|unknown request/i.test(log ?? '') ? path : null;
      }),
    );
    return answers.filter((path) => path !== null).map((path) => path.replace(/\.Query\/.*$/, ''));
  }

  /** market/v1beta5/params.proto: order_max_bids 2, min_reclamation_window 4, max_reclamation_window 5. */
  async marketParams(): Promise<MarketParams | null> {
    const params = (await this.#fields('/akash.market.v1beta5.Query/Params'))?.bytes.get(1)?.at(-1);
    if (params === undefined) return null;
    const { numbers, bytes } = readFields(params);
    const windowMs = (number: number): Ms => {
      const duration = bytes.get(number)?.at(-1);
      return duration === undefined ? 0 : Number(readFields(duration).numbers.get(1) ?? 0n) * 1000;
    };
    const [reclamationMinMs, reclamationMaxMs] = [windowMs(4), windowMs(5)];
    return { orderMaxBids: Number(numbers.get(2) ?? 0n), reclamationMinMs, reclamationMaxMs };
  }

  /** chain-sdk proto/node/akash/bme/v1/query.proto: status 1, collateral_ratio 2, mints_allowed 5. */
  async mintStatus(): Promise<MintStatus | null> {
    const fields = await this.#fields('/akash.bme.v1.Query/Status');
    if (fields === null) return null;
    const state = MINT_STATES[String(fields.numbers.get(1) ?? 0n)] ?? 'halted';
    const ratio = Number(new TextDecoder().decode(fields.bytes.get(2)?.at(-1)) || '0') / 1e18;
    return { state, allowed: fields.numbers.get(5) === 1n, ratio };
  }

  /** The least ACT that one request may mint: bme/v1/params.proto, field 9 of field 1. */
  async mintMin(): Promise<Micro | null> {
    const fields = await this.#fields('/akash.bme.v1.Query/Params');
    const params = fields?.bytes.get(1)?.at(-1);
    const coins =
      params === undefined ? [] : (readFields(params).bytes.get(9) ?? []).map((bytes) => Coin.decode(bytes));
    const uact = coins.find(({ denom }) => denom === 'uact');
    return uact ? BigInt(uact.amount) : null;
  }

  /** Who pays deposits of an address, up to what and until when. */
  async depositGrants(grantee: string, denom: string): Promise<GivenGrant[]> {
    const message = QueryGranteeGrantsRequest.fromPartial({ grantee });
    const path = '/cosmos.authz.v1beta1.Query/GranteeGrants';
    const reply = await this.queries.ask(path, [QueryGranteeGrantsRequest, message], QueryGranteeGrantsResponse);
    return (reply?.grants ?? []).flatMap(({ granter, authorization, expiration }) =>
      authorization?.typeUrl === AUTHORIZATION_TYPE
        ? [{ granter, amount: limitOf(authorization.value, denom), untilMs: secondsOf(expiration) }]
        : [],
    );
  }

  /** Who pays its fees. */
  async feeGranters(grantee: string): Promise<({ readonly granter: string } & FeeGrant)[]> {
    const message = QueryAllowancesRequest.fromPartial({ grantee });
    const path = '/cosmos.feegrant.v1beta1.Query/Allowances';
    const reply = await this.queries.ask(path, [QueryAllowancesRequest, message], QueryAllowancesResponse);
    const granters = (reply?.allowances ?? []).map(({ granter }) => granter);
    const grants = await Promise.all(granters.map((granter) => this.queries.feeGrant(granter, grantee)));
    return granters.flatMap((granter, at) => {
      const grant = grants[at];
      return grant ? [{ granter, ...grant }] : [];
    });
  }

  /** Everybody who is registered as a provider; most of them have been silent for long. */
  async providers(): Promise<Omit<ChainProvider, 'auditors'>[]> {
    const message = QueryProvidersRequest.fromPartial({ pagination: { limit: PROVIDERS_PAGE } });
    const path = '/akash.provider.v1beta4.Query/Providers';
    const reply = await this.queries.ask(path, [QueryProvidersRequest, message], QueryProvidersResponse);
    return (reply?.providers ?? []).map(({ owner, hostUri, attributes }) => ({
      owner,
      hostUri,
      attributes: Object.fromEntries(attributes.map(({ key, value }) => [key, value])),
    }));
  }

  /** Whose attributes one of these signed. */
  async auditedBy(auditors: readonly string[]): Promise<ReadonlySet<string>> {
    const message = QueryAllProvidersAttributesRequest.fromPartial({ pagination: { limit: PROVIDERS_PAGE } });
    const path = '/akash.audit.v1.Query/AllProvidersAttributes';
    const codec = [QueryAllProvidersAttributesRequest, message] as const;
    const reply = await this.queries.ask(path, codec, AuditedResponse);
    const signed = (reply?.providers ?? []).filter(({ auditor }) => auditors.includes(auditor));
    return new Set(signed.map(({ owner }) => owner));
  }

  async #fields(path: string): Promise<Fields | null> {
    const encode = { encode: () => ({ finish: () => new Uint8Array() }) };
    try {
      return await this.queries.ask(path, [encode, null], { decode: readFields });
    } catch (error) {
      throw new Error(`${path}: ${describeError(error)}`, { cause: error });
    }
  }
}

interface Fields {
  readonly numbers: ReadonlyMap<number, bigint>;
  readonly bytes: ReadonlyMap<number, readonly Uint8Array[]>;
}

function readFields(message: Uint8Array): Fields {
  const reader = new BinaryReader(message);
  const numbers = new Map<number, bigint>();
  const bytes = new Map<number, Uint8Array[]>();
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const [number, type] = [tag >>> 3, tag & 7];
    if (type === 0) numbers.set(number, reader.int64());
    else if (type === 2) bytes.set(number, [...(bytes.get(number) ?? []), reader.bytes()]);
    else reader.skipType(type);
  }
  return { numbers, bytes };
}

function secondsOf(time: { readonly seconds: bigint } | undefined): EpochMs | null {
  return time === undefined ? null : Number(time.seconds) * 1000;
}
