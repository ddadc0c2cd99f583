import type { PageRequest } from 'cosmjs-types/cosmos/base/query/v1beta1/pagination';
import { mintStatus } from './bme-rules.ts';
import type { Chain } from './chain.ts';
import { balanceOf, balancesOf, MODULES, PARAMS } from './context.ts';
import { DEC_ONE, formatDec } from './decimal.ts';
import { fits, xidFits, type Filter } from './filters.ts';
import {
  accountJson,
  auditJson,
  bidRowJson,
  certificateJson,
  coinJson,
  deploymentJson,
  escrowJson,
  groupJson,
  leaseRowJson,
  mintJson,
  orderRowJson,
  paymentJson,
  providerJson,
} from './rest-json.ts';
import { restList } from './rest-page.ts';
import { blockAt, statusOf } from './rpc-shapes.ts';
import {
  bidKey,
  deploymentKey,
  escrowKey,
  groupKey,
  leasePaymentXid,
  orderKey,
  paymentKey,
  type BidId,
  type Lease,
  type State,
} from './state.ts';

export interface RestCall {
  readonly chain: Chain;
  readonly state: State;
  readonly query: URLSearchParams;
  readonly page: PageRequest;
}

interface Route {
  readonly pattern: RegExp;
  /** Null: there is no such thing. */
  readonly run: (call: RestCall, match: RegExpExecArray) => unknown;
}

const get = (path: string, run: Route['run']): Route => ({
  pattern: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '([^/]+)')}$`),
  run,
});

function filterOf(query: URLSearchParams, prefix: 'filters' | 'id'): Filter {
  const text = (name: string): string => query.get(`${prefix}.${name}`) ?? '';
  const whole = (name: string): number => Number(text(name)) || 0;
  return {
    owner: text('owner'),
    dseq: /^\d{1,20}$/.test(text('dseq')) ? BigInt(text('dseq')) : 0n,
    gseq: whole('gseq'),
    oseq: whole('oseq'),
    provider: text('provider'),
    state: text('state'),
  };
}

const idOf = ({ query }: RestCall): BidId => filterOf(query, 'id');

function deploymentInfo(state: State, key: string): unknown {
  const deployment = state.deployments.get(key);
  if (deployment === undefined) return null;
  const account = state.escrows.get(escrowKey('deployment', key));
  return {
    deployment: deploymentJson(deployment),
    groups: state.groups
      .values()
      .filter(({ id }) => deploymentKey(id) === key)
      .map(groupJson),
    escrow_account: account === undefined ? null : escrowJson(account),
  };
}

function bidInfo(state: State, key: string): unknown {
  const bid = state.bids.get(key);
  if (bid === undefined) return null;
  const account = state.escrows.get(escrowKey('bid', key));
  return { bid: bidRowJson(bid), escrow_account: account === undefined ? null : escrowJson(account) };
}

function leaseInfo(state: State, lease: Lease | undefined): unknown {
  if (lease === undefined) return null;
  const payment = state.payments.get(paymentKey('deployment', deploymentKey(lease.id), leasePaymentXid(lease.id)));
  return { lease: leaseRowJson(lease), escrow_payment: payment === undefined ? null : paymentJson(payment) };
}

const DEPLOYMENT = '/akash/deployment/v1beta4';
const MARKET = '/akash/market/v1beta5';

const marketRoutes: readonly Route[] = [
  get(`${DEPLOYMENT}/deployments/list`, ({ state, query, page }) => {
    const filter = filterOf(query, 'filters');
    const rows = state.deployments.entries().filter(([, one]) => fits(filter, one, one.state));
    return restList('deployments', rows, page, ([key]) => deploymentInfo(state, key));
  }),
  get(`${DEPLOYMENT}/deployments/info`, (call) => deploymentInfo(call.state, deploymentKey(idOf(call)))),
  get(`${DEPLOYMENT}/groups/info`, (call) => {
    const group = call.state.groups.get(groupKey(idOf(call)));
    return group === undefined ? null : { group: groupJson(group) };
  }),
  get(`${DEPLOYMENT}/params`, () => ({ params: { min_deposits: coinsJson(PARAMS.deploymentMinDeposits) } })),
  get(`${MARKET}/orders/list`, ({ state, query, page }) => {
    const filter = filterOf(query, 'filters');
    const rows = state.orders.values().filter((order) => fits(filter, order.id, order.state));
    return restList('orders', rows, page, orderRowJson);
  }),
  get(`${MARKET}/orders/info`, (call) => {
    const order = call.state.orders.get(orderKey(idOf(call)));
    return order === undefined ? null : { order: orderRowJson(order) };
  }),
  get(`${MARKET}/bids/list`, ({ state, query, page }) => {
    const filter = filterOf(query, 'filters');
    const rows = state.bids.values().filter((bid) => fits(filter, bid.id, bid.state));
    return restList('bids', rows, page, (bid) => bidInfo(state, bidKey(bid.id)));
  }),
  get(`${MARKET}/bids/info`, (call) => bidInfo(call.state, bidKey(idOf(call)))),
  get(`${MARKET}/leases/list`, ({ state, query, page }) => {
    const filter = filterOf(query, 'filters');
    const rows = state.leases.values().filter((lease) => fits(filter, lease.id, lease.state));
    return restList('leases', rows, page, (lease) => leaseInfo(state, lease));
  }),
  get(`${MARKET}/leases/info`, (call) => leaseInfo(call.state, call.state.leases.get(bidKey(idOf(call))))),
  get(`${MARKET}/params`, () => ({
    params: {
      bid_min_deposit: { denom: 'uakt', amount: PARAMS.bidMinDeposits.uakt.toString() },
      order_max_bids: PARAMS.orderMaxBids,
      bid_min_deposits: coinsJson(PARAMS.bidMinDeposits),
      min_reclamation_window: `${PARAMS.reclamationMinS}s`,
      max_reclamation_window: `${PARAMS.reclamationMaxS}s`,
    },
  })),
];

const coinsJson = (coins: Readonly<Record<string, bigint>>) =>
  Object.entries(coins).map(([denom, amount]) => coinJson({ denom, amount }));

const otherRoutes: readonly Route[] = [
  get('/akash/escrow/v1/types/accounts', ({ state, query, page }) => {
    const [wanted, xid] = [query.get('state') ?? '', query.get('xid') ?? ''];
    const rows = state.escrows
      .values()
      .filter((one) => (wanted === '' || one.state === wanted) && xidFits(one.scope, one.xid, xid));
    return restList('accounts', rows, page, escrowJson);
  }),
  get('/akash/escrow/v1/types/payments', ({ state, query, page }) => {
    const [wanted, xid] = [query.get('state') ?? '', query.get('xid') ?? ''];
    const rows = state.payments
      .values()
      .filter(
        (one) => (wanted === '' || one.state === wanted) && xidFits(one.scope, `${one.accountXid}/${one.xid}`, xid),
      );
    return restList('payments', rows, page, paymentJson);
  }),
  get('/akash/cert/v1/certificates/list', ({ state, query, page }) => {
    const wanted = (name: 'owner' | 'serial' | 'state'): string => query.get(`filter.${name}`) ?? '';
    const rows = state.certificates
      .values()
      .filter((one) => (['owner', 'serial', 'state'] as const).every((name) => ['', one[name]].includes(wanted(name))));
    return restList('certificates', rows, page, certificateJson);
  }),
  get('/akash/provider/v1beta4/providers', ({ state, page }) =>
    restList('providers', state.providers.values(), page, providerJson),
  ),
  get('/akash/provider/v1beta4/providers/{owner}', ({ state }, match) => {
    const provider = state.providers.get(match[1] ?? '');
    return provider === undefined ? null : { provider: providerJson(provider) };
  }),
  get('/akash/audit/v1/audit/attributes/list', ({ state, page }) =>
    restList('providers', state.audits.values(), page, auditJson),
  ),
  get('/akash/audit/v1/audit/attributes/{owner}/list', ({ state, page }, match) => {
    const rows = state.audits.values().filter(({ owner }) => owner === match[1]);
    return restList('providers', rows, page, auditJson);
  }),
  get('/akash/audit/v1/audit/attributes/{auditor}/{owner}', ({ state, page }, match) => {
    const rows = state.audits.values().filter(({ auditor, owner }) => auditor === match[1] && owner === match[2]);
    return restList('providers', rows, page, auditJson);
  }),
  get('/akash/bme/v1/status', ({ chain, state }) => {
    const { status, ratio } = mintStatus(state, chain.faults.has('mint-halted'));
    const part = (bp: number): string => formatDec((DEC_ONE * BigInt(bp)) / 10_000n);
    return {
      status: ['', 'mint_status_healthy', 'mint_status_warning', 'mint_status_halt_cr'][status],
      collateral_ratio: formatDec(ratio),
      warn_threshold: part(PARAMS.mint.warnBp),
      halt_threshold: part(PARAMS.mint.haltBp),
      mints_allowed: status < 3,
      refunds_allowed: true,
    };
  }),
  get('/akash/bme/v1/params', () => ({
    params: {
      circuit_breaker_warn_threshold: PARAMS.mint.warnBp,
      circuit_breaker_halt_threshold: PARAMS.mint.haltBp,
      min_epoch_blocks: String(PARAMS.mint.epochBlocks),
      epoch_blocks_backoff_percent: 10,
      mint_spread_bps: Number(PARAMS.mint.spreadBp),
      settle_spread_bps: Number(PARAMS.mint.settleSpreadBp),
      max_endblocker_records: PARAMS.mint.recordsPerBlock,
      min_mint: [coinJson({ denom: 'uact', amount: PARAMS.mint.minimumUact })],
      max_pending_attempts: PARAMS.mint.attemptsMax,
    },
  })),
  get('/akash/bme/v1/vault', ({ state }) => ({
    vault_state: { balances: balancesOf(state, MODULES.bme).map(coinJson) },
  })),
  get('/akash/bme/v1/ledger', ({ state, query, page }) => {
    const wanted = query.get('filters.source') ?? '';
    const rows = state.mints.values().filter(({ source }) => wanted === '' || source === wanted);
    return restList('records', rows, page, mintJson);
  }),
  get('/akash/discovery/v1/info', ({ chain }) => ({ info: discovery(chain.chainId) })),
];

function discovery(chainId: string): unknown {
  const versions = {
    deployment: 'v1beta4',
    market: 'v1beta5',
    escrow: 'v1',
    cert: 'v1',
    provider: 'v1beta4',
    audit: 'v1',
    bme: 'v1',
  };
  const modules = Object.entries(versions).map(([module, version]) => ({ module, version }));
  return {
    client_info: { api_version: 'v1beta3' },
    supported_versions: [{ api_version: 'v1beta3', modules, features: [] }],
    chain_id: chainId,
    node_version: 'v2.1.0',
    min_client_version: 'v2.0.0',
  };
}

const cosmosRoutes: readonly Route[] = [
  get('/cosmos/auth/v1beta1/accounts/{address}', ({ state }, match) => {
    const account = state.accounts.get(match[1] ?? '');
    return account === undefined ? null : { account: accountJson(account) };
  }),
  get('/cosmos/bank/v1beta1/balances/{address}', ({ state, page }, match) =>
    restList('balances', balancesOf(state, match[1] ?? ''), page, coinJson),
  ),
  get('/cosmos/bank/v1beta1/balances/{address}/by_denom', ({ state, query }, match) => {
    const denom = query.get('denom') ?? '';
    return { balance: coinJson({ denom, amount: balanceOf(state, match[1] ?? '', denom) }) };
  }),
  get('/cosmos/base/tendermint/v1beta1/node_info', ({ chain }) => ({
    default_node_info: (statusOf(chain) as { node_info: unknown }).node_info,
    application_version: { name: 'akash', version: 'v2.1.0', cosmos_sdk_version: 'v0.53.4' },
  })),
  get('/cosmos/base/tendermint/v1beta1/syncing', () => ({ syncing: false })),
  get('/cosmos/base/tendermint/v1beta1/blocks/latest', ({ chain }) => blockAt(chain, chain.seen.height)),
  get('/cosmos/base/tendermint/v1beta1/blocks/{height}', ({ chain }, match) => blockAt(chain, Number(match[1]))),
];

export const REST_ROUTES: readonly Route[] = [...marketRoutes, ...otherRoutes, ...cosmosRoutes];
