import { Deposit, MsgCreateCertificate, Source } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { MsgCreateProvider } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { MsgCloseBid, MsgCreateBid, MsgWithdrawLease } from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { BidID, LeaseID } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import type { Clock } from '../../../clock.ts';
import type { Block, Chain } from './chain.ts';
import type { OwnCertificate } from './certificate.ts';
import { formatDec } from './decimal.ts';
import { groupPrice } from './group-checks.ts';
import { hasCapabilities } from './market-rules.ts';
import { CLOSE_REASONS } from './order-rules.ts';
import { NodeClient, type AnyMessage } from './node-client.ts';
import { bytesField, concatBytes, durationField, varintField } from './protobuf.ts';
import type { ProviderLeases } from './provider-leases.ts';
import { attributesOf, bidPrice, hasRoom, offerFor, type ProviderSpec } from './provider-spec.ts';
import { bidKey, deploymentKey, escrowKey, orderKey, type BidId, type Lease, type Order } from './state.ts';
import type { Wallet } from './wallet.ts';

/** What a provider does on the chain: it bids, it keeps an eye on its leases, it collects its rent. */
export interface ProviderOptions {
  readonly spec: ProviderSpec;
  readonly wallet: Wallet;
  readonly chain: Chain;
  readonly clock: Clock;
  readonly leases: ProviderLeases;
}

/** Timers of provider-services, in the chain's time (akash.md 4). */
const TIMERS = { bidMs: 300_000, manifestMs: 300_000, unhealthyMs: 480_000 };
const SLOW_BID_MS = 60_000;
/** Rent is collected so often, and an escrow that ran dry is found. */
const EVERY = { withdrawBlocks: 600, fundsBlocks: 10 };
const BID_DEPOSIT_UAKT = '500000';

export class Provider {
  readonly spec: ProviderSpec;
  readonly #options: ProviderOptions;
  readonly #node: NodeClient;
  /** Orders that it has made up its mind about. */
  readonly #seen = new Set<string>();
  readonly #bidAtMs = new Map<string, number>();
  readonly #told = new Set<string>();
  readonly #timers = new Set<() => void>();
  #stopped = false;

  constructor(options: ProviderOptions) {
    this.#options = options;
    this.spec = options.spec;
    this.#node = new NodeClient(options.chain, options.wallet);
  }

  get address(): string {
    return this.#options.wallet.address;
  }

  /** Puts provider and certificate on the chain. */
  register(hostUri: string, certificate: OwnCertificate): void {
    const owner = this.address;
    const info = { email: '', website: '' };
    const attributes = attributesOf(this.spec);
    this.#send(
      message(MsgCreateProvider, MsgCreateProvider.fromPartial({ owner, hostUri, attributes, info })),
      message(MsgCreateCertificate, {
        owner,
        cert: Buffer.from(certificate.certPem),
        pubkey: Buffer.from(certificate.pubkeyPem),
      }),
    );
  }

  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }

  onBlock(block: Block): void {
    if (this.#stopped) return;
    for (const order of this.#options.chain.state.orders.values()) this.#consider(order);
    this.#dropOldBids(block.timeMs);
    for (const lease of this.#options.chain.state.leases.values()) {
      if (lease.id.provider === this.address) this.#tend(lease, block);
    }
  }

  #consider(order: Order): void {
    const key = orderKey(order.id);
    const { chain, clock } = this.#options;
    if (order.state !== 'open' || this.#seen.has(key) || chain.faults.has('no-bids', this.spec.name)) return;
    this.#seen.add(key);
    const delayMs = this.spec.bidDelayMs + (chain.faults.has('slow-bids', this.spec.name) ? SLOW_BID_MS : 0);
    if (delayMs === 0) {
      this.#bid(order);
      return;
    }
    const cancel = clock.timer(delayMs, () => {
      this.#timers.delete(cancel);
      this.#bid(order);
    });
    this.#timers.add(cancel);
  }

  #bid(order: Order): void {
    const { chain } = this.#options;
    const { state, faults } = chain;
    if (this.#stopped || state.orders.get(orderKey(order.id))?.state !== 'open') return;
    const price = bidPrice(this.spec, order.spec);
    if (!this.#suits(order) || price > groupPrice(order.spec).amount) return;
    const bid = MsgCreateBid.fromPartial({
      id: { ...order.id, provider: this.address, bseq: 0 },
      price: { denom: groupPrice(order.spec).denom, amount: formatDec(price) },
      deposit: Deposit.fromPartial({
        amount: { denom: 'uakt', amount: BID_DEPOSIT_UAKT },
        sources: [Source.balance],
      }),
    });
    const offer = offerFor(this.spec, order.spec, faults.has('wrong-gpu', this.spec.name));
    const bytes = MsgCreateBid.encode({ ...bid, resourcesOffer: offer }).finish();
    const windowS = order.reclamationS === null ? null : this.spec.reclamationS;
    const value = windowS === null ? bytes : concatBytes(bytes, durationField(5, windowS));
    this.#bidAtMs.set(bidKey({ ...order.id, provider: this.address }), chain.timeMs);
    this.#send({ typeUrl: '/akash.market.v1beta5.MsgCreateBid', value });
  }

  /** What a provider can tell before it bids: its own machine, its attributes, who signed for them. */
  #suits(order: Order): boolean {
    const { state } = this.#options.chain;
    const attributes = attributesOf(this.spec);
    const taken = state.bids
      .values()
      .filter(({ id, state: at }) => id.provider === this.address && (at === 'open' || at === 'active'))
      .flatMap(({ id }) => state.orders.get(orderKey(id))?.spec ?? []);
    const audits = state.audits.values().filter(({ owner }) => owner === this.address);
    const { signedBy, attributes: wanted = [] } = order.spec.requirements ?? {};
    const [anyOf, allOf] = [signedBy?.anyOf ?? [], signedBy?.allOf ?? []];
    const signed = (auditor: string): boolean => audits.some((audit) => audit.auditor === auditor);
    return (
      hasRoom(this.spec, taken, order.spec) &&
      hasCapabilities(order.spec, attributes) &&
      wanted.every(({ key, value }) => attributes.some((one) => one.key === key && one.value === value)) &&
      allOf.every(signed) &&
      (anyOf.length === 0 || anyOf.some(signed)) &&
      (order.reclamationS === null || (this.spec.reclamationS ?? 0n) >= order.reclamationS)
    );
  }

  #dropOldBids(nowMs: number): void {
    for (const [key, atMs] of this.#bidAtMs) {
      if (nowMs - atMs < TIMERS.bidMs) continue;
      this.#bidAtMs.delete(key);
      const bid = this.#options.chain.state.bids.get(key);
      if (bid?.state === 'open') this.#closeBid(bid.id, CLOSE_REASONS.unspecified);
    }
  }

  #tend(lease: Lease, block: Block): void {
    const { chain, leases } = this.#options;
    const key = bidKey(lease.id);
    if (lease.state === 'closed' || lease.state === 'insufficient_funds') {
      leases.end(key);
      return;
    }
    const { faults } = chain;
    leases.begin(lease, block.timeMs);
    if (faults.has('lease-closed', this.spec.name) && lease.state === 'active')
      this.#closeBid(lease.id, CLOSE_REASONS.unstable);
    if (faults.has('reclamation-started', this.spec.name) && lease.state === 'active' && lease.reclamation !== null) {
      this.#startReclaim(lease.id);
    }
    const idleMs = leases.idleMs(key, block.timeMs);
    if (idleMs.withoutManifest > TIMERS.manifestMs) this.#closeBid(lease.id, CLOSE_REASONS.manifest_timeout);
    if (idleMs.unhealthy > TIMERS.unhealthyMs) this.#closeBid(lease.id, CLOSE_REASONS.unstable);
    const dryCheck = faults.has('escrow-overdrawn') || block.height % EVERY.fundsBlocks === 0;
    const due = (block.height - lease.createdAt) % EVERY.withdrawBlocks === 0 && block.height > lease.createdAt;
    if (due || (dryCheck && this.#isDry(lease))) this.#withdraw(lease.id);
  }

  /** Funds as queries show them are those of the last settlement. */
  #isDry(lease: Lease): boolean {
    const { state, height } = this.#options.chain;
    const account = state.escrows.get(escrowKey('deployment', deploymentKey(lease.id)));
    if (account?.state !== 'open') return false;
    const rates = state.payments
      .values()
      .filter(({ accountXid, state: at }) => accountXid === account.xid && at === 'open')
      .reduce((sum, { rate }) => sum + rate.amount, 0n);
    const funds = account.funds.find(({ denom }) => denom === lease.price.denom)?.amount ?? 0n;
    return funds < rates * BigInt(height - account.settledAt);
  }

  #withdraw(id: BidId): void {
    this.#send(message(MsgWithdrawLease, { id: LeaseID.fromPartial({ ...id, bseq: 0 }) }));
  }

  #closeBid(id: BidId, reason: number): void {
    const key = `${bidKey(id)} close`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.#send(message(MsgCloseBid, { id: BidID.fromPartial({ ...id, bseq: 0 }), reason }));
  }

  #startReclaim(id: BidId): void {
    const key = `${bidKey(id)} reclaim`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const lease = LeaseID.encode(LeaseID.fromPartial({ ...id, bseq: 0 })).finish();
    const value = concatBytes(bytesField(1, lease), varintField(2, CLOSE_REASONS.decommission));
    this.#send({ typeUrl: '/akash.market.v1beta5.MsgLeaseStartReclaim', value });
  }

  #send(...messages: readonly AnyMessage[]): void {
    this.#node.send(...messages);
  }
}

function message<M>(
  type: { readonly $type: string; encode(message: M): { finish(): Uint8Array } },
  value: M,
): AnyMessage {
  return { typeUrl: `/${type.$type}`, value: type.encode(value).finish() };
}
