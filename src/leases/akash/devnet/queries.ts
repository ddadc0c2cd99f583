import {
  BidID,
  CertificateFilter,
  DeploymentID,
  GroupID,
  LeaseFilters,
  LeaseID,
  OrderID,
} from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { DeploymentFilters } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { BidFilters, OrderFilters } from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { cosmosQueries } from './cosmos-queries.ts';
import { mintQueries } from './mint-queries.ts';
import { PARAMS } from './context.ts';
import {
  auditBytes,
  bidBytes,
  certificateBytes,
  deploymentBytes,
  escrowBytes,
  groupBytes,
  leaseBytes,
  orderBytes,
  paymentBytes,
  providerBytes,
} from './encoding.ts';
import { fits, xidFits, type Filter } from './filters.ts';
import { fieldText, list, readPage, StatusError, type Queries, type QueryContext } from './query.ts';
import { bytesField, coinField, concatBytes, durationField, lastField, varintField } from './protobuf.ts';
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
import { Denial, denial } from './denials.ts';

/** gRPC queries by path, as `abci_query` carries them: request bytes in, response bytes out. */

const NONE = new Uint8Array();
const inner = (request: Uint8Array): Uint8Array => lastField(request, 1)?.bytes ?? NONE;

interface WireId {
  readonly owner: string;
  readonly dseq: { toString(): string };
  readonly gseq?: number;
  readonly oseq?: number;
  readonly provider?: string;
  readonly state?: string;
}

const plainId = (id: WireId): BidId => ({
  owner: id.owner,
  dseq: BigInt(id.dseq.toString()),
  gseq: id.gseq ?? 0,
  oseq: id.oseq ?? 0,
  provider: id.provider ?? '',
});

const filterOf = (id: WireId): Filter => ({ ...plainId(id), state: id.state ?? '' });

function found<V>(value: V | undefined, what: string): V {
  if (value === undefined) throw denial('sdk/not_found', { front: what });
  return value;
}

const accountField = (number: number, state: State, scope: string, xid: string): Uint8Array => {
  const account = state.escrows.get(escrowKey(scope, xid));
  return account === undefined ? NONE : bytesField(number, escrowBytes(account));
};

function deploymentInfo(state: State, key: string): Uint8Array {
  const deployment = found(state.deployments.get(key), 'Deployment not found');
  const groups = state.groups.values().filter(({ id }) => deploymentKey(id) === key);
  return concatBytes(
    bytesField(1, deploymentBytes(deployment)),
    ...groups.map((group) => bytesField(2, groupBytes(group))),
    accountField(3, state, 'deployment', key),
  );
}

function bidInfo(state: State, key: string): Uint8Array {
  const bid = found(state.bids.get(key), 'invalid bid: bid not found');
  return concatBytes(bytesField(1, bidBytes(bid)), accountField(2, state, 'bid', key));
}

function leaseInfo(state: State, lease: Lease | undefined): Uint8Array {
  const known = found(lease, 'invalid lease: lease not found');
  const payment = state.payments.get(paymentKey('deployment', deploymentKey(known.id), leasePaymentXid(known.id)));
  const paid = payment === undefined ? NONE : bytesField(2, paymentBytes(payment));
  return concatBytes(bytesField(1, leaseBytes(known)), paid);
}

const DEPLOYMENT = '/akash.deployment.v1beta4.Query';
const MARKET = '/akash.market.v1beta5.Query';

const marketQueries: Queries = {
  [`${DEPLOYMENT}/Deployments`]: ({ state }, request) => {
    const filter = filterOf(DeploymentFilters.decode(inner(request)));
    const rows = state.deployments.entries().filter(([, one]) => fits(filter, one, one.state));
    return list(1, rows, readPage(request, 2), ([key]) => deploymentInfo(state, key));
  },
  [`${DEPLOYMENT}/Deployment`]: ({ state }, request) =>
    deploymentInfo(state, deploymentKey(plainId(DeploymentID.decode(inner(request))))),
  [`${DEPLOYMENT}/Group`]: ({ state }, request) => {
    const group = state.groups.get(groupKey(plainId(GroupID.decode(inner(request)))));
    return bytesField(1, groupBytes(found(group, 'Group not found')));
  },
  [`${DEPLOYMENT}/Params`]: () => {
    const coins = Object.entries(PARAMS.deploymentMinDeposits);
    return bytesField(1, concatBytes(...coins.map(([denom, amount]) => coinField(1, { denom, amount }))));
  },
  [`${MARKET}/Orders`]: ({ state }, request) => {
    const filter = filterOf(OrderFilters.decode(inner(request)));
    const rows = state.orders.values().filter((order) => fits(filter, order.id, order.state));
    return list(1, rows, readPage(request, 2), orderBytes);
  },
  [`${MARKET}/Order`]: ({ state }, request) => {
    const order = state.orders.get(orderKey(plainId(OrderID.decode(inner(request)))));
    return bytesField(1, orderBytes(found(order, 'invalid order: order not found')));
  },
  [`${MARKET}/Bids`]: ({ state }, request) => {
    const filter = filterOf(BidFilters.decode(inner(request)));
    const rows = state.bids.values().filter((bid) => fits(filter, bid.id, bid.state));
    return list(1, rows, readPage(request, 2), (bid) => bidInfo(state, bidKey(bid.id)));
  },
  [`${MARKET}/Bid`]: ({ state }, request) => bidInfo(state, bidKey(plainId(BidID.decode(inner(request))))),
  [`${MARKET}/Leases`]: ({ state }, request) => {
    const filter = filterOf(LeaseFilters.decode(inner(request)));
    const rows = state.leases.values().filter((lease) => fits(filter, lease.id, lease.state));
    return list(1, rows, readPage(request, 2), (lease) => leaseInfo(state, lease));
  },
  [`${MARKET}/Lease`]: ({ state }, request) =>
    leaseInfo(state, state.leases.get(bidKey(plainId(LeaseID.decode(inner(request)))))),
  [`${MARKET}/Params`]: () => {
    const { bidMinDeposits, orderMaxBids, reclamationMinS, reclamationMaxS } = PARAMS;
    const body = concatBytes(
      coinField(1, { denom: 'uakt', amount: bidMinDeposits.uakt }),
      varintField(2, orderMaxBids),
      ...Object.entries(bidMinDeposits).map(([denom, amount]) => coinField(3, { denom, amount })),
      durationField(4, reclamationMinS),
      durationField(5, reclamationMaxS),
    );
    return bytesField(1, body);
  },
};

const otherQueries: Queries = {
  '/akash.escrow.v1.Query/Accounts': ({ state }, request) => {
    const [wanted, xid] = [fieldText(request, 1), fieldText(request, 2)];
    const rows = state.escrows
      .values()
      .filter((account) => (wanted === '' || account.state === wanted) && xidFits(account.scope, account.xid, xid));
    return list(1, rows, readPage(request, 5), escrowBytes);
  },
  '/akash.escrow.v1.Query/Payments': ({ state }, request) => {
    const [wanted, xid] = [fieldText(request, 1), fieldText(request, 2)];
    const rows = state.payments
      .values()
      .filter(
        (payment) =>
          (wanted === '' || payment.state === wanted) &&
          xidFits(payment.scope, `${payment.accountXid}/${payment.xid}`, xid),
      );
    return list(1, rows, readPage(request, 6), paymentBytes);
  },
  '/akash.cert.v1.Query/Certificates': ({ state }, request) => {
    const { owner, serial, state: wanted } = CertificateFilter.decode(inner(request));
    const rows = state.certificates
      .values()
      .filter(
        (one) =>
          (owner === '' || one.owner === owner) &&
          (serial === '' || one.serial === serial) &&
          (wanted === '' || one.state === wanted),
      );
    return list(1, rows, readPage(request, 2), certificateBytes);
  },
  '/akash.provider.v1beta4.Query/Providers': ({ state }, request) =>
    list(1, state.providers.values(), readPage(request, 1), providerBytes),
  '/akash.provider.v1beta4.Query/Provider': ({ state }, request) => {
    const provider = state.providers.get(fieldText(request, 1));
    return bytesField(1, providerBytes(found(provider, 'invalid provider: address not found')));
  },
  '/akash.audit.v1.Query/AllProvidersAttributes': (context, request) => audits(context, request, 1, () => true),
  '/akash.audit.v1.Query/ProviderAttributes': (context, request) =>
    audits(context, request, 2, ({ owner }) => owner === fieldText(request, 1)),
  '/akash.audit.v1.Query/ProviderAuditorAttributes': (context, request) =>
    audits(context, request, 3, (one) => one.auditor === fieldText(request, 1) && one.owner === fieldText(request, 2)),
  '/akash.audit.v1.Query/AuditorAttributes': (context, request) =>
    audits(context, request, 2, ({ auditor }) => auditor === fieldText(request, 1)),
};

function audits(
  { state }: QueryContext,
  request: Uint8Array,
  pageField: number,
  keep: (audit: { readonly owner: string; readonly auditor: string }) => boolean,
): Uint8Array {
  return list(1, state.audits.values().filter(keep), readPage(request, pageField), auditBytes);
}

const QUERIES: Queries = { ...marketQueries, ...otherQueries, ...mintQueries, ...cosmosQueries };

function statusOf({ codespace, code, message }: Denial): StatusError {
  const missing = codespace === 'sdk' && code === 38;
  return new StatusError(missing ? 'NotFound' : 'Unknown', missing ? message.replace(/: not found$/, '') : message);
}

/** Throws a Denial with the code and the text that a node makes of a gRPC error. */
export function answerQuery(context: QueryContext, path: string, request: Uint8Array): Uint8Array {
  const query = Object.hasOwn(QUERIES, path) ? QUERIES[path] : undefined;
  if (query === undefined) throw denial('sdk/unknown_request', { front: 'unknown query path' });
  try {
    return query(context, request);
  } catch (error) {
    if (!(error instanceof Denial || error instanceof StatusError)) throw error;
    const { kind, message } = error instanceof Denial ? statusOf(error) : error;
    const front = `rpc error: code = ${kind} desc = ${message}`;
    if (kind === 'NotFound') throw new Denial('sdk', 22, `${front}: key not found`);
    throw new Denial('sdk', 6, `${front}: unknown request`);
  }
}
