import {
  Deployment_State,
  QueryCertificatesRequest,
  QueryCertificatesResponse,
  QueryProviderAttributesRequest,
  QueryProvidersResponse,
  type Types_Account as EscrowAccount,
} from '@akashnetwork/chain-sdk/private-types/akash.v1';
import {
  QueryDeploymentRequest,
  QueryDeploymentResponse,
  QueryDeploymentsRequest,
  QueryDeploymentsResponse,
  QueryParamsRequest,
  QueryParamsResponse,
  QueryProviderRequest,
  QueryProviderResponse,
} from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import {
  QueryBidsRequest,
  QueryBidsResponse,
  QueryLeasesRequest,
  QueryLeasesResponse,
} from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import type { Comet38Client } from '@cosmjs/tendermint-rpc';
import { QueryGranterGrantsRequest, QueryGranterGrantsResponse } from 'cosmjs-types/cosmos/authz/v1beta1/query';
import { QueryAccountRequest, QueryAccountResponse } from 'cosmjs-types/cosmos/auth/v1beta1/query';
import { QueryBalanceRequest, QueryBalanceResponse } from 'cosmjs-types/cosmos/bank/v1beta1/query';
import { AllowedMsgAllowance, BasicAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { QueryAllowanceRequest, QueryAllowanceResponse } from 'cosmjs-types/cosmos/feegrant/v1beta1/query';
import { accountFromAny } from '@cosmjs/stargate';
import { AUTHORIZATION_TYPE, limitOf } from './chain-authorization.ts';
import { readDeadlines } from './chain-deadlines.ts';
import { microOfDecDown, type Micro } from './amounts.ts';
import { NodeUnreachable, type RpcPool } from './chain-rpc.ts';
import type {
  ChainBid,
  ChainDeployment,
  ChainLease,
  ChainProvider,
  DeploymentId,
  DepositGrant,
  Escrow,
  FeeGrant,
} from './chain-types.ts';

/** Rows of one question; more are cut off. */
const PAGE_MAX = 1000;
/** Different nodes are asked for a state that is new enough. */
const STALE_TRIES = 4;

/** Of a certificate; chain-sdk exports another enum by that one's name. */
const VALID = '1';
const BID_STATES: Record<string, ChainBid['state']> = { 1: 'open', 2: 'active', 3: 'lost' };
// 4, reclaiming, is newer than chain-sdk: the lease runs and is paid for until its deadline.
const LEASE_STATES: Record<string, ChainLease['state']> = { 1: 'active', 2: 'insufficient_funds', 4: 'active' };
const ESCROW_STATES: Record<string, Escrow['state']> = { 1: 'open', 3: 'overdrawn' };

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
}

interface Decoder<T> {
  decode(bytes: Uint8Array): T;
}

/** The chain answered a question with an error. */
export class QueryRefused extends Error {
  readonly code: number;

  constructor(path: string, code: number, log: string) {
    super(`${path} was refused (${code}): ${log.slice(0, 500)}`);
    this.code = code;
  }
}

/** Questions to the chain by `abci_query`, none answered from a block older than one we know of. */
export class ChainQueries {
  readonly #comet: Comet38Client;
  readonly #pool: RpcPool;
  /** A transaction of ours was included there: an older state would not show it. */
  #floor = 0;

  constructor(comet: Comet38Client, pool: RpcPool) {
    this.#comet = comet;
    this.#pool = pool;
  }

  /** From now on answers are of this block or a later one. */
  raiseFloor(height: number): void {
    this.#floor = Math.max(this.#floor, height);
  }

  /** Bytes to a path of the chain's gRPC services. Null: the chain says that there is no such thing. */
  async ask<Q, A>(path: string, request: readonly [Codec<Q>, Q], decoder: Decoder<A>): Promise<A | null> {
    try {
      return await this.demand(path, request, decoder);
    } catch (error) {
      if (error instanceof QueryRefused && isNotFound(error)) return null;
      throw error;
    }
  }

  /** @throws QueryRefused when the chain answers with an error, whatever it is that it does not find */
  async demand<Q, A>(path: string, [codec, message]: readonly [Codec<Q>, Q], decoder: Decoder<A>): Promise<A> {
    const data = codec.encode(message).finish();
    for (let tries = 0; tries < STALE_TRIES; tries += 1) {
      const { code, log, value, height } = await this.#comet.abciQuery({ path, data, prove: false });
      if (code !== 0) throw new QueryRefused(path, code ?? 0, String(log));
      if (height === undefined || height >= this.#floor) return decoder.decode(value);
      this.#pool.blameStale(height);
    }
    throw new NodeUnreachable(`no node has block ${this.#floor} yet`);
  }

  async accountNumber(address: string): Promise<bigint | null> {
    const message = QueryAccountRequest.fromPartial({ address });
    const reply = await this.ask(
      '/cosmos.auth.v1beta1.Query/Account',
      [QueryAccountRequest, message],
      QueryAccountResponse,
    );
    return reply?.account ? accountFromAny(reply.account).accountNumber : null;
  }

  async balance(address: string, denom: string): Promise<Micro> {
    const message = QueryBalanceRequest.fromPartial({ address, denom });
    const reply = await this.ask(
      '/cosmos.bank.v1beta1.Query/Balance',
      [QueryBalanceRequest, message],
      QueryBalanceResponse,
    );
    return BigInt(reply?.balance?.amount ?? '0');
  }

  async depositMin(denom: string): Promise<Micro | null> {
    const message = QueryParamsRequest.fromPartial({});
    const path = '/akash.deployment.v1beta4.Query/Params';
    const reply = await this.ask(path, [QueryParamsRequest, message], QueryParamsResponse);
    const found = reply?.params?.minDeposits.find((coin) => coin.denom === denom);
    return found ? BigInt(found.amount) : null;
  }

  async deployment(id: DeploymentId): Promise<ChainDeployment | null> {
    const message = QueryDeploymentRequest.fromPartial({ id: { owner: id.owner, dseq: String(id.dseq) } });
    const path = '/akash.deployment.v1beta4.Query/Deployment';
    const reply = await this.ask(path, [QueryDeploymentRequest, message], QueryDeploymentResponse);
    return reply && deploymentOf(reply);
  }

  /** Deployments that are active, the closed ones left out. */
  async deployments(owner: string): Promise<ChainDeployment[]> {
    const message = QueryDeploymentsRequest.fromPartial({
      filters: { owner, state: 'active' },
      pagination: { limit: PAGE_MAX },
    });
    const path = '/akash.deployment.v1beta4.Query/Deployments';
    const reply = await this.ask(path, [QueryDeploymentsRequest, message], QueryDeploymentsResponse);
    return (reply?.deployments ?? []).map(deploymentOf).filter((one) => one !== null);
  }

  async bids({ owner, dseq }: DeploymentId): Promise<ChainBid[]> {
    const message = QueryBidsRequest.fromPartial({
      filters: { owner, dseq: String(dseq) },
      pagination: { limit: PAGE_MAX },
    });
    const reply = await this.ask('/akash.market.v1beta5.Query/Bids', [QueryBidsRequest, message], QueryBidsResponse);
    return (reply?.bids ?? []).flatMap(({ bid }) => {
      if (!bid?.id || !bid.price) return [];
      const { provider, gseq, oseq, bseq } = bid.id;
      const gpus = bid.resourcesOffer.flatMap((offer) => offer.resources?.gpu?.attributes.map(({ key }) => key) ?? []);
      const state = BID_STATES[String(bid.state)] ?? 'closed';
      const { denom, amount: price } = bid.price;
      return [{ provider, gseq, oseq, bseq, state, denom, price, createdAt: Number(bid.createdAt), gpus }];
    });
  }

  /** Leases of a deployment, whatever became of them. */
  async leases({ owner, dseq }: DeploymentId): Promise<ChainLease[]> {
    const message = QueryLeasesRequest.fromPartial({
      filters: { owner, dseq: String(dseq) },
      pagination: { limit: PAGE_MAX },
    });
    const path = '/akash.market.v1beta5.Query/Leases';
    const decode = (bytes: Uint8Array) => ({
      leases: QueryLeasesResponse.decode(bytes).leases,
      deadlines: readDeadlines(bytes),
    });
    const reply = await this.ask(path, [QueryLeasesRequest, message], { decode });
    return (reply?.leases ?? []).flatMap(({ lease }, at) => {
      if (!lease?.id || !lease.price) return [];
      const reclaimMs = reply?.deadlines[at] ?? null;
      const { provider, gseq, oseq, bseq } = lease.id;
      const state = LEASE_STATES[String(lease.state)] ?? 'closed';
      const { amount: price } = lease.price;
      const [createdAt, closedOn] = [Number(lease.createdAt), Number(lease.closedOn)];
      return [{ provider, gseq, oseq, bseq, state, reclaimMs, price, createdAt, closedOn, reason: lease.reason }];
    });
  }

  async provider(owner: string): Promise<Omit<ChainProvider, 'auditors'> | null> {
    const message = QueryProviderRequest.fromPartial({ owner });
    const path = '/akash.provider.v1beta4.Query/Provider';
    const reply = await this.ask(path, [QueryProviderRequest, message], QueryProviderResponse);
    const found = reply?.provider;
    if (!found) return null;
    const attributes = Object.fromEntries(found.attributes.map(({ key, value }) => [key, value]));
    return { owner: found.owner, hostUri: found.hostUri, attributes };
  }

  /** Who signed attributes of a provider. */
  async auditorsOf(owner: string): Promise<string[]> {
    const message = QueryProviderAttributesRequest.fromPartial({ owner, pagination: { limit: PAGE_MAX } });
    const path = '/akash.audit.v1.Query/ProviderAttributes';
    const reply = await this.ask(path, [QueryProviderAttributesRequest, message], QueryProvidersResponse);
    return (reply?.providers ?? []).map(({ auditor }) => auditor);
  }

  /** PEM texts of the valid certificates that an owner has put on the chain. */
  async certificates(owner: string, serial: string): Promise<string[]> {
    const message = QueryCertificatesRequest.fromPartial({
      filter: { owner, serial, state: 'valid' },
      pagination: { limit: PAGE_MAX },
    });
    const path = '/akash.cert.v1.Query/Certificates';
    const reply = await this.ask(path, [QueryCertificatesRequest, message], QueryCertificatesResponse);
    return (reply?.certificates ?? []).flatMap(({ certificate }) =>
      certificate && String(certificate.state) === VALID ? [Buffer.from(certificate.cert).toString('utf8')] : [],
    );
  }

  /** What `granter` lets `grantee` put into deposits: null when nothing. */
  async depositGrant(granter: string, grantee: string, denom: string): Promise<DepositGrant | null> {
    const message = QueryGranterGrantsRequest.fromPartial({ granter });
    const path = '/cosmos.authz.v1beta1.Query/GranterGrants';
    const reply = await this.ask(path, [QueryGranterGrantsRequest, message], QueryGranterGrantsResponse);
    const found = reply?.grants.find(
      (grant) => grant.grantee === grantee && grant.authorization?.typeUrl === AUTHORIZATION_TYPE,
    );
    if (!found?.authorization) return null;
    return { amount: limitOf(found.authorization.value, denom), untilMs: msOf(found.expiration) };
  }

  async feeGrant(granter: string, grantee: string): Promise<FeeGrant | null> {
    const message = QueryAllowanceRequest.fromPartial({ granter, grantee });
    const path = '/cosmos.feegrant.v1beta1.Query/Allowance';
    const reply = await this.ask(path, [QueryAllowanceRequest, message], QueryAllowanceResponse);
    const given = reply?.allowance?.allowance;
    if (!given) return null;
    const inner = given.typeUrl === AllowedMsgAllowance.typeUrl ? AllowedMsgAllowance.decode(given.value) : null;
    const basic = BasicAllowance.decode((inner?.allowance ?? given).value);
    const uakt = basic.spendLimit.find(({ denom }) => denom === 'uakt');
    const amount = basic.spendLimit.length === 0 ? null : BigInt(uakt?.amount ?? '0');
    return { amount, untilMs: msOf(basic.expiration) };
  }
}

function msOf(time: { readonly seconds: bigint } | undefined): number | null {
  return time === undefined ? null : Number(time.seconds) * 1000;
}

/** gRPC's NotFound, and what the modules of the chain say in their own words. */
function isNotFound({ code, message }: QueryRefused): boolean {
  return code === 5 || code === 22 || /not found|NotFound/.test(message);
}

function deploymentOf(reply: QueryDeploymentResponse): ChainDeployment | null {
  const { deployment, groups, escrowAccount } = reply;
  if (!deployment?.id) return null;
  return {
    owner: deployment.id.owner,
    dseq: BigInt(String(deployment.id.dseq)),
    groupName: groups[0]?.groupSpec?.name ?? '',
    state: deployment.state === Deployment_State.active ? 'active' : 'closed',
    version: Buffer.from(deployment.hash).toString('hex'),
    createdAt: Number(deployment.createdAt),
    escrow: escrowOf(escrowAccount),
  };
}

function escrowOf(account: EscrowAccount | undefined): Escrow {
  const state = account?.state;
  const sum = (list: readonly { amount: string }[] | undefined): Micro =>
    (list ?? []).reduce((total, { amount }) => total + microOfDecDown(amount.startsWith('-') ? '0' : amount), 0n);
  return {
    state: ESCROW_STATES[String(state?.state ?? 0)] ?? 'closed',
    funds: sum(state?.funds),
    transferred: sum(state?.transferred),
    settledAt: Number(state?.settledAt ?? 0),
  };
}
