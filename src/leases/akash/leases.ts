import { describeError } from '../../errors.ts';
import type { EpochMs, NanoUsd } from '../../units.ts';
import {
  done,
  refused,
  unknown,
  type CloseReason,
  type Lease,
  type LeaseStatus,
  type LogLine,
  type LogRequest,
  type Outcome,
} from '../market.ts';
import { microUp } from './amounts.ts';
import { AkashDelivery, NO_DELIVERY } from './delivery.ts';
import { reasonOf } from './lease-rows.ts';
import { hideSecrets, leaseSecretsOf } from './lease-secrets.ts';
import { fillManifest, hasOtherSecrets, secretsOf } from './manifest-secrets.ts';
import { leaseIdOf, orderOfLease } from './names.ts';
import type { AkashParts } from './parts.ts';
import { Provider } from './provider.ts';
import { readLogFrame } from './provider-reply.ts';
import type { OrderRow, ProviderDoor } from './records.ts';
import { versionOf } from './sdl.ts';

/** Rent goes into the books every so many blocks: about every ten minutes. */
const DRAW_EVERY_BLOCKS = 100;
/** Between two looks at a lease on the chain. */
const LOOK_BLOCKS = 2;

/** Leases on the chain from the manifest to the refund. */
export class AkashLeases {
  readonly #parts: AkashParts;
  readonly #deliveries = new Map<string, AkashDelivery>();
  /** By order: the block at which the chain was last asked whether the lease stands. */
  readonly #looked = new Map<string, number>();
  /** By order: where its provider is, as the chain said last. */
  readonly #doors = new Map<string, ProviderDoor>();
  readonly #finishing = new Set<string>();

  constructor(parts: AkashParts) {
    this.#parts = parts;
  }

  /** The manifest goes at once when a lease is made; who asks for it later waits for the same. */
  async deploy(leaseId: string): Promise<Outcome<void>> {
    const row = await this.#row(leaseId);
    if (row?.lease?.state !== 'active' || row.closing) return refused('the lease is not active');
    const delivery = this.#delivery(row);
    return typeof delivery === 'string' ? refused(delivery) : delivery.send();
  }

  /** The same, without waiting for it. */
  deployNow(leaseId: string): void {
    this.deploy(leaseId).catch((error: unknown) => {
      this.#parts.log(`manifest of ${leaseId}: ${describeError(error)}`);
    });
  }

  async status(leaseId: string): Promise<LeaseStatus | null> {
    const found = await this.#row(leaseId);
    if (!found?.lease) return null;
    const row = found.booked ? found : await this.#seen(found);
    const { lease } = row;
    if (!lease) return null;
    const delivery = this.#deliveries.get(row.orderId);
    if (lease.state !== 'active') return { lease, delivery: { ...NO_DELIVERY, detail: 'closed' } };
    if (row.closing && row.closing !== 'tenant') {
      return { lease, delivery: { ...NO_DELIVERY, state: 'failed', detail: `the lease ended: ${row.closing}` } };
    }
    if (row.manifestSentMs !== null && !delivery) this.#delivery(row);
    const known = this.#deliveries.get(row.orderId);
    await known?.look();
    return { lease, delivery: known?.view ?? NO_DELIVERY };
  }

  async *logs(leaseId: string, request: LogRequest, signal: AbortSignal): AsyncGenerator<LogLine, void> {
    const row = await this.#row(leaseId);
    if (!row?.lease) throw new Error('there is no such lease');
    const secrets = leaseSecretsOf(this.#parts.leaseKey, leaseId);
    const provider = await this.#provider(row);
    if (!provider) throw new Error('the chain has no such provider');
    for await (const frame of provider.stream(row, request, signal)) {
      const { source, text } = readLogFrame(frame);
      yield { source, text: hideSecrets(text, secrets) };
    }
  }

  fund(leaseId: string, amountNanoUsd: NanoUsd, fundingId: string): Promise<Outcome<Lease>> {
    const { orders, insolvent } = this.#parts;
    return this.#run(leaseId, async () => {
      const found = await this.#row(leaseId);
      if (!found?.lease) return refused('there is no such lease');
      if (amountNanoUsd <= 0n) return refused('an amount must be above zero');
      const row = await orders.settle(found);
      if (!row?.lease) return unknown('a transaction of the lease is still open');
      if (row.payments.some(({ id }) => id === fundingId)) return done(row.lease);
      if (row.lease.state !== 'active' || row.closing) return refused('the lease is not active');
      const amount = microUp(amountNanoUsd);
      const why = await insolvent(row.walletIndex, amount);
      if (why !== null) return refused(why);
      const step = await orders.send(row, {
        purpose: 'fund',
        orders: [{ type: 'deposit', id: row, amount }],
        payment: { id: fundingId, amount },
      });
      if (step.kind === 'unknown') return step;
      if (step.kind === 'refused') return refused(step.reason);
      return done(step.row.lease ?? row.lease);
    });
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    return this.#run(leaseId, async () => {
      const found = await this.#row(leaseId);
      if (!found?.lease) return refused('there is no such lease');
      const ended = await this.#end(found, reason);
      if (ended.kind === 'unknown') return ended;
      if (ended.kind === 'refused') return refused(ended.reason);
      return ended.row.lease ? done(ended.row.lease) : unknown('the lease is not known');
    });
  }

  async live(): Promise<LeaseStatus[]> {
    const rows = this.#parts.orders.live().filter(({ lease }) => lease !== null && lease.state !== 'closed');
    return rows.flatMap((row) => {
      if (!row.lease) return [];
      return [{ lease: row.lease, delivery: this.#deliveries.get(row.orderId)?.view ?? NO_DELIVERY }];
    });
  }

  /** Starting leases are asked after at every tick, so that the scheduler hears of a change at once. */
  async watch(): Promise<void> {
    const { orders, log } = this.#parts;
    const rows = orders.live().filter(({ lease, closing }) => lease?.state === 'active' && !closing);
    await Promise.all(
      rows.map((row) =>
        this.status(leaseIdOf(row.orderId)).catch((error: unknown) =>
          log(`lease of ${row.orderId}: ${describeError(error)}`),
        ),
      ),
    );
    for (const row of orders.live()) if (row.closing) this.#finish(row);
    for (const map of [this.#deliveries, this.#looked, this.#doors]) {
      for (const id of map.keys()) if (orders.known(id)?.booked !== false) map.delete(id);
    }
  }

  /** An end that was begun and did not come about yet. */
  #finish(row: OrderRow): void {
    const { orders, log } = this.#parts;
    const { orderId, closing } = row;
    if (closing === null || this.#finishing.has(orderId)) return;
    this.#finishing.add(orderId);
    orders
      .run(orderId, () => orders.end(orderId, closing))
      .catch((error: unknown) => log(`order ${orderId} could not be ended: ${describeError(error)}`))
      .finally(() => this.#finishing.delete(orderId));
  }

  async #end(row: OrderRow, reason: CloseReason): ReturnType<AkashParts['orders']['end']> {
    const { orders, onChange } = this.#parts;
    const ended = await orders.end(row.orderId, reason);
    if (ended.kind === 'done' && !row.booked) onChange();
    return ended;
  }

  /** A chain that does not answer now changes nothing: the lease goes on as it was last seen. */
  async #seen(row: OrderRow): Promise<OrderRow> {
    try {
      return await this.#look(row);
    } catch (error) {
      this.#parts.log(`lease of ${row.orderId}: ${describeError(error)}`);
      return (await this.#parts.orders.find(row.orderId)) ?? row;
    }
  }

  /** Does the lease still stand on the chain? One that does not is ended here too: its deposit would stay locked. */
  async #look(row: OrderRow): Promise<OrderRow> {
    const { chain, orders } = this.#parts;
    const block = chain.head?.height ?? 0;
    const last = this.#looked.get(row.orderId) ?? 0;
    if (row.lease?.state !== 'active' || row.closing || block < last + LOOK_BLOCKS) return row;
    this.#looked.set(row.orderId, block);
    const found = (await chain.leases(row)).find(({ provider }) => provider === row.lease?.provider);
    return orders.run(row.orderId, async () => {
      const current = (await orders.find(row.orderId)) ?? row;
      if (current.lease?.state !== 'active' || current.closing || current.pending) return current;
      if (found && found.state !== 'active') {
        const reason = reasonOf(found);
        if (reason !== 'tenant') await this.#parts.providers.count(current.lease.provider, 'failures');
        const ended = await this.#end(current, reason);
        return ended.kind === 'done' ? ended.row : ((await orders.find(row.orderId)) ?? current);
      }
      const { lease } = current;
      const reclaimMs = found?.reclaimMs ?? null;
      const seen = reclaimMs === (lease.reclaimMs ?? null) ? current : await this.#reclaimed(current, lease, reclaimMs);
      if (block < lease.settledBlock + DRAW_EVERY_BLOCKS) return seen;
      return orders.draw(seen, block);
    });
  }

  async #reclaimed(row: OrderRow, lease: Lease, reclaimMs: EpochMs | null): Promise<OrderRow> {
    const saved = await this.#parts.orders.save({ ...row, lease: { ...lease, reclaimMs } });
    this.#parts.onChange();
    return saved;
  }

  #delivery(row: OrderRow): AkashDelivery | string {
    const known = this.#deliveries.get(row.orderId);
    if (known && known.view.state !== 'failed') return known;
    const { clock, resolve, rules, orders, onChange, leaseKey, secretOf } = this.#parts;
    const { orderId, dseq, gseq, oseq, manifestSentMs: sentMs } = row;
    const { reach } = row;
    if (!reach) return 'the order does not say how its server is reached: its record was lost, or is an older one';
    const secrets = leaseSecretsOf(leaseKey, leaseIdOf(orderId));
    const { apiKey } = secrets;
    const manifest = fillManifest(row.manifest, secretsOf(secrets, row.request?.workload ?? null, secretOf));
    // One that the provider has runs on, although a secret that went with it was changed since.
    const sent = sentMs !== null && hasOtherSecrets(row.manifest);
    if (!sent && Buffer.from(versionOf(manifest)).toString('hex') !== row.version) {
      return 'the manifest of the order is not known any more: its record or the secret of the data folder was lost';
    }
    const delivery = new AkashDelivery({
      ...{ at: { dseq, gseq, oseq }, provider: () => this.#provider(row), manifest, apiKey, sentMs },
      ...{ clock, resolve, onChange, reach },
      ingressTls: rules.ingressTls,
      allowPrivate: rules.allowPrivate,
      onSent: () =>
        orders.run(orderId, async () => {
          const current = await orders.find(orderId);
          const door = this.#doors.get(orderId) ?? null;
          if (current) await orders.save({ ...current, manifestSentMs: clock.now(), door });
        }),
    });
    this.#deliveries.set(orderId, delivery);
    return delivery;
  }

  /** Null: the chain has no such provider. */
  async #provider(row: OrderRow): Promise<Provider | null> {
    const { wallet, rules, clock, resolve, signal } = this.#parts;
    const door = await this.#door(row);
    if (!door) return null;
    const tenant = wallet(row.walletIndex);
    const { allowPrivate } = rules;
    return new Provider({
      hostUri: door.hostUri,
      trust: { owner: row.lease?.provider ?? '', certificates: door.certificates },
      ...{ tenant, allowPrivate, clock, resolve, signal },
    });
  }

  /** As the chain has it; while that is silent, as it had it last: a lease is served on though no node answers. */
  async #door(row: OrderRow): Promise<ProviderDoor | null> {
    const { chain, providers } = this.#parts;
    const { orderId, lease } = row;
    const owner = lease?.provider ?? '';
    const last = this.#doors.get(orderId) ?? row.door ?? null;
    if (last !== null && chain.head === null) return last;
    try {
      const [found, certificates] = await Promise.all([providers.find(owner), chain.certificates(owner, '')]);
      const door = found && { hostUri: found.hostUri, certificates };
      if (door) this.#doors.set(orderId, door);
      return door;
    } catch (error) {
      if (last === null) throw error;
      return last;
    }
  }

  #run<T>(leaseId: string, work: () => Promise<T>): Promise<T> {
    return this.#parts.orders.run(orderOfLease(leaseId) ?? leaseId, work);
  }

  async #row(leaseId: string): Promise<OrderRow | null> {
    const orderId = orderOfLease(leaseId);
    return orderId === null ? null : this.#parts.orders.find(orderId);
  }
}
