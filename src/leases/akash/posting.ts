import { describeError } from '../../errors.ts';
import type { NanoUsd } from '../../units.ts';
import {
  done,
  refused,
  unknown,
  type Bid,
  type Lease,
  type OrderRequest,
  type OrderView,
  type Outcome,
} from '../market.ts';
import { microDown, microUp, type Micro } from './amounts.ts';
import { gatherBids, type Gathered } from './bids.ts';
import type { ChainBid, Order } from './chain-types.ts';
import { leaseSecretsOf, type LeaseSecrets } from './lease-secrets.ts';
import { newLeaseTls, type LeaseTls } from './lease-tls.ts';
import { maskManifest, secretsOf } from './manifest-secrets.ts';
import { dseqOf, leaseIdOf, tlsSecretOf, walletIndexOf } from './names.ts';
import type { AkashParts } from './parts.ts';
import type { OrderRow } from './records.ts';
import { groupSpecOf, manifestOf, sortedJson, versionOf, type ServiceSpec } from './sdl.ts';
import { exposureOf, serviceOf } from './workload.ts';

/** Orders on the chain: posted as deployments, bids gathered, one taken or the deployment closed again. */
export class AkashPosting {
  readonly #parts: AkashParts;
  /** By order: what was seen of its bids, and at which block. */
  readonly #seen = new Map<string, Gathered & { readonly block: number }>();

  constructor(parts: AkashParts) {
    this.#parts = parts;
  }

  tender(request: OrderRequest): Promise<Outcome<OrderView>> {
    return this.#parts.orders.run(request.id, async () => {
      const found = await this.#parts.orders.find(request.id);
      if (found && ((found.created && !found.pending) || found.state !== 'open')) return done(this.#view(found));
      const problem = found ? null : this.#parts.problem();
      if (problem !== null) return refused(problem);
      const ceiling = microDown(request.ceilingNanoUsdPerBlock);
      const { clock, secretOf, leaseKey } = this.#parts;
      const leaseId = leaseIdOf(request.id);
      const { denom, expose, auditors, defaultImage } = this.#parts.rules;
      const tls = newLeaseTls(leaseKey(tlsSecretOf(leaseId)), clock.now());
      const secrets = leaseSecretsOf(leaseKey, leaseId);
      const service = serviceOf(request, {
        ...{ denom, expose, tls, auditors, defaultImage, ceilingMicroPerBlock: ceiling, apiKey: secrets.apiKey },
        ...{ secretOf, nowMs: clock.now() },
      });
      if (typeof service === 'string') return refused(service);
      const row = found ?? (await this.#parts.orders.save(this.#newRow(request, service, { secrets, tls })));
      // No provider can bid below one unit of the denom, and the chain takes no order for nothing.
      if (ceiling === 0n) return done(this.#view(row));
      const settled = await this.#parts.orders.settle(row);
      if (!settled) return unknown('the order is on its way to the chain');
      if (settled.created) return done(this.#view(settled));
      return this.#post(settled, service);
    });
  }

  async order(orderId: string): Promise<OrderView | null> {
    const { orders, chain } = this.#parts;
    const row = await orders.find(orderId);
    if (!row) return null;
    const block = chain.head?.height ?? 0;
    const fresh = (this.#seen.get(orderId)?.block ?? -1) >= block;
    if (row.state !== 'open' || !row.created || row.closing || fresh) return this.#view(row);
    return this.#view(await this.gather(row));
  }

  /** Looks for bids; the row remembers when each was first seen. */
  async gather(row: OrderRow): Promise<OrderRow> {
    const { chain, providers, rules, clock, orders, onChange } = this.#parts;
    const block = chain.head?.height ?? 0;
    const found = await chain.bids(row);
    await Promise.all(found.map(({ provider }) => providers.find(provider)));
    const { denom, auditors } = rules;
    const seen = { denom, auditors, nowMs: clock.now(), providers: providers.known };
    const gathered = gatherBids(row, found, seen);
    this.#remember(row.orderId, { ...gathered, block });
    if (sameBids(row.bids, gathered.bids)) return row;
    return orders.run(row.orderId, async () => {
      const current = await orders.find(row.orderId);
      if (current?.state !== 'open') return row;
      const saved = await orders.save({ ...current, bids: gathered.bids });
      onChange();
      return saved;
    });
  }

  cancel(orderId: string): Promise<Outcome<void>> {
    const { orders } = this.#parts;
    return orders.run(orderId, async () => {
      const found = await orders.find(orderId);
      if (!found) return done(undefined);
      if (found.booked && !found.lease) return done(undefined);
      const row = await orders.settle(found);
      if (!row) return unknown('a transaction of the order is still open');
      if (row.lease) return refused('the order became a lease');
      const ended = await orders.end(orderId, 'tenant');
      this.#seen.delete(orderId);
      return ended.kind === 'done' ? done(undefined) : ended;
    });
  }

  accept(orderId: string, bidId: string, depositNanoUsd: NanoUsd): Promise<Outcome<Lease>> {
    const { orders, terms } = this.#parts;
    return orders.run(orderId, async () => {
      const found = await orders.find(orderId);
      if (!found) return refused('there is no such order');
      const row = await orders.settle(found);
      if (!row) return unknown('a transaction of the order is still open');
      if (row.lease) {
        return row.lease.state === 'closed' || row.closing ? refused('the lease is closed') : done(row.lease);
      }
      if (row.state !== 'open' || row.closing) return refused('the order is closed');
      if (depositNanoUsd < terms().depositMinNanoUsd) return refused('the deposit is too small');
      const bid = await this.#bid(row, bidId);
      if (typeof bid === 'string') return refused(bid);
      return this.#lease(row, { bid, bidId, deposit: microUp(depositNanoUsd) });
    });
  }

  /** The rest of the deposit and the lease in one transaction: both or neither. */
  async #lease(
    row: OrderRow,
    { bid, bidId, deposit }: { readonly bid: ChainBid; readonly bidId: string; readonly deposit: Micro },
  ): Promise<Outcome<Lease>> {
    const { orders, providers, insolvent } = this.#parts;
    const paid = row.payments.reduce((sum, { amount }) => sum + amount, 0n);
    const rest = deposit > paid ? deposit - paid : 0n;
    const why = await insolvent(row.walletIndex, rest);
    if (why !== null) return refused(why);
    const steps: Order[] = rest > 0n ? [{ type: 'deposit', id: row, amount: rest }] : [];
    const step = await orders.send(row, {
      purpose: 'lease',
      orders: [...steps, { type: 'create_lease', id: row, bid }],
      payment: rest > 0n ? { id: 'deposit-lease', amount: rest } : null,
      bidId,
    });
    if (step.kind === 'unknown') return step;
    if (step.kind === 'refused') return refused(step.reason);
    const { lease } = step.row;
    if (!lease) return unknown('the lease is not to be seen on the chain yet');
    await providers.count(lease.provider, 'leases');
    return done(lease);
  }

  async #bid(row: OrderRow, bidId: string): Promise<ChainBid | string> {
    const { chain, rules, clock, providers } = this.#parts;
    const found = await chain.bids(row);
    const { denom, auditors } = rules;
    const seen = { denom, auditors, nowMs: clock.now(), providers: providers.known };
    const { bids, declined } = gatherBids(row, found, seen);
    const bid = bids.find(({ id }) => id === bidId);
    const open = found.find(({ provider, state }) => provider === bid?.provider && state === 'open');
    const why = declined.find(({ provider }) => `${row.orderId}/${provider}` === bidId);
    return bid && open ? open : (why?.reason ?? 'there is no such bid');
  }

  async #post(row: OrderRow, service: ServiceSpec): Promise<Outcome<OrderView>> {
    const { orders, chain, orderDeposit, insolvent } = this.#parts;
    const deposit = orderDeposit();
    const why = await insolvent(row.walletIndex, deposit);
    if (why !== null) {
      await orders.save({ ...row, state: 'closed', booked: true });
      return refused(why);
    }
    const order: Order = {
      type: 'create_deployment',
      id: row,
      group: groupSpecOf(service),
      version: Buffer.from(row.version, 'hex'),
      deposit,
      reclamationMs: row.request?.reclamationMs ?? null,
    };
    const step = await orders.send(row, {
      purpose: 'create',
      orders: [order],
      payment: { id: 'deposit', amount: deposit },
    });
    if (step.kind === 'unknown') return step;
    if (step.kind === 'done') return done(this.#view(step.row));
    // Refused because it is there already: an earlier transaction of ours, given up too soon.
    const there = await chain.deployment(row).catch(() => null);
    if (there?.groupName !== service.group) {
      await orders.save({ ...step.row, state: 'closed', booked: true });
      return refused(step.reason);
    }
    const payments = [{ id: 'deposit', amount: there.escrow.funds + there.escrow.transferred }];
    const created = { ...step.row, created: true, postedBlock: there.createdAt, payments };
    return done(this.#view(await orders.book(await orders.save(created))));
  }

  #newRow(request: OrderRequest, service: ServiceSpec, own: { secrets: LeaseSecrets; tls: LeaseTls }): OrderRow {
    const { clock, wallet, rules, chain, pools, secretOf } = this.#parts;
    const walletIndex = rules.walletPerPool && pools.has(request.pool) ? walletIndexOf(request.pool) : 0;
    const manifest = sortedJson(manifestOf(service));
    const expose = exposureOf(request.workload, rules.expose);
    return {
      orderId: request.id,
      pool: request.pool,
      owner: wallet(walletIndex).address,
      walletIndex,
      dseq: dseqOf(request.id),
      request,
      manifest: maskManifest(manifest, secretsOf(own.secrets, request.workload, secretOf)),
      version: Buffer.from(versionOf(manifest)).toString('hex'),
      state: 'open',
      created: false,
      postedAtMs: clock.now(),
      postedBlock: chain.head?.height ?? 0,
      bids: [],
      pending: null,
      payments: [],
      lastDraw: null,
      lease: null,
      gseq: 1,
      oseq: 1,
      rate: '0',
      manifestSentMs: null,
      reach: { expose, certificate: expose === 'ingress' ? null : own.tls.certificate },
      closing: null,
      booked: false,
      transactions: [],
    };
  }

  #view(row: OrderRow): OrderView {
    const { orderId: id, postedAtMs, postedBlock, bids, created, request } = row;
    const state = row.state === 'open' && row.closing ? 'closed' : row.state;
    const declined = this.#seen.get(id)?.declined ?? [];
    // Who will bid, only time tells; but nobody will bid for what was never posted.
    const complete = !created && row.pending === null && microDown(request?.ceilingNanoUsdPerBlock ?? 0n) === 0n;
    return { id, state, postedAtMs, postedBlock, bids, declined, complete };
  }

  view(row: OrderRow): OrderView {
    return this.#view(row);
  }

  #remember(orderId: string, seen: Gathered & { readonly block: number }): void {
    this.#seen.delete(orderId);
    this.#seen.set(orderId, seen);
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > 1000 && oldest !== undefined) this.#seen.delete(oldest);
  }

  /** Bids of every open order, at a new block; one that cannot be asked for holds up no other. */
  async watch(): Promise<void> {
    const { orders, log } = this.#parts;
    const open = orders.live().filter(({ state, created, closing }) => state === 'open' && created && !closing);
    await Promise.all(
      open.map((row) =>
        this.order(row.orderId).catch((error: unknown) => log(`bids of ${row.orderId}: ${describeError(error)}`)),
      ),
    );
  }
}

function sameBids(a: readonly Bid[], b: readonly Bid[]): boolean {
  const key = (bids: readonly Bid[]): string => bids.map((one) => `${one.id}@${one.priceNanoUsdPerBlock}`).join();
  return key(a) === key(b);
}
