import type { Clock } from '../../clock.ts';
import { AppError, describeError } from '../../errors.ts';
import type { Ledger } from '../../ledger/operations.ts';
import type { Blocks, Ms, NanoUsd } from '../../units.ts';
import { Escrow } from '../local/escrow.ts';
import {
  refused,
  type CloseReason,
  type Lease,
  type LeaseStatus,
  type Market,
  type MarketTerms,
  type OrderRequest,
  type OrderView,
  type Outcome,
  type ProviderView,
} from '../market.ts';
import type { MarketRecords } from '../records.ts';
import type { Resolve } from './address.ts';
import { Allowance } from './allowance.ts';
import { nanoOf, type Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { Keyring } from './chain-wallet.ts';
import { openGrants, type GrantRules } from './grants.ts';
import { AkashLeases } from './leases.ts';
import { walletIndexOf } from './names.ts';
import { AkashOrders } from './orders.ts';
import type { AkashParts, AkashRules } from './parts.ts';
import { AkashPosting } from './posting.ts';
import { AkashProviders } from './providers.ts';
import type { AkashRecords } from './records.ts';
import { Treasury } from './treasury.ts';
import { Upkeep } from './upkeep.ts';

export interface AkashMarketOptions {
  /** The chain, which ends with the signal. */
  readonly newChain: (signal: AbortSignal) => Chain;
  /** Between two looks at it. */
  readonly pollMs: Ms;
  readonly rules: AkashRules;
  readonly grants: GrantRules;
  readonly keyring: Keyring;
  /** Whose wallets are looked through for what is ours. */
  readonly pools: readonly string[];
  readonly records: AkashRecords;
  readonly marketRecords: MarketRecords;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly resolve: Resolve;
  readonly leaseKey: (leaseId: string) => string;
  readonly log: (line: string) => void;
}

/** Where the chain is too young to measure: what Akash aims at. */
const BLOCK_MS = 6000;
const MEASURE_EVERY = 200;

/** The Akash network as a market: orders are deployments on its chain, providers bid and are sent manifests. */
export class AkashMarket implements Market {
  readonly name = 'akash' as const;
  readonly #options: AkashMarketOptions;
  readonly #chain: Chain;
  readonly #orders: AkashOrders;
  readonly #providers: AkashProviders;
  readonly #treasury: Treasury;
  readonly #posting: AkashPosting;
  readonly #leases: AkashLeases;
  readonly #listeners: (() => void)[] = [];
  readonly #stop = new AbortController();
  readonly #upkeep: Upkeep;
  #blockMs: Ms = BLOCK_MS;
  #depositMin: Micro = 0n;
  #ticking: Promise<void> = Promise.resolve();
  #ticks = 0;
  #height = 0;
  /** The chain was asked what is ours on it. */
  #connected = false;

  constructor(options: AkashMarketOptions) {
    this.#options = options;
    const { rules, clock, ledger, keyring, marketRecords, log, resolve, leaseKey } = options;
    const { signal } = this.#stop;
    this.#chain = options.newChain(signal);
    const escrow = new Escrow(ledger, clock, this.name);
    this.#treasury = new Treasury({ ledger, escrow, clock, log });
    const wallet = (index: number): ReturnType<Keyring['wallet']> => keyring.wallet(index);
    this.#orders = new AkashOrders({
      ...{ chain: this.#chain, records: options.records, treasury: this.#treasury, clock, wallet, log },
      allowance: new Allowance(rules.depositsPerHour),
      feeGranter: (index) => (index === 0 ? undefined : wallet(0).address),
    });
    this.#providers = new AkashProviders(this.#chain, marketRecords, clock);
    const parts: AkashParts = {
      ...{ chain: this.#chain, orders: this.#orders, providers: this.#providers, rules, clock, resolve, wallet },
      ...{ leaseKey, signal, log, pools: new Set(options.pools) },
      terms: () => this.terms(),
      orderDeposit: () => this.#orderDeposit(),
      onChange: () => this.#changed(),
    };
    this.#posting = new AkashPosting(parts);
    this.#leases = new AkashLeases(parts);
    this.#upkeep = new Upkeep(parts);
  }

  /**
   * A first start needs the chain; a gateway that has rented here before goes on without it until a node answers.
   * @throws AppError `setup_failed` when no node answers, or this chain does not take our money
   */
  async open(): Promise<void> {
    await this.#providers.open();
    const before = await this.#orders.open();
    try {
      await this.#connect();
    } catch (error) {
      const wrong = error instanceof AppError && this.#chain.head !== null;
      if (!before || wrong) throw error;
      this.#options.log(`Akash market: ${describeError(error)}; nothing is ordered here until a node answers`);
    }
    this.#schedule();
  }

  async #connect(): Promise<void> {
    const { rules, pools, keyring, grants, log } = this.#options;
    const head = await this.#chain.open();
    this.#height = head.height;
    const least = await this.#chain.depositMin();
    if (least === null) {
      throw new AppError('setup_failed', `the chain ${head.chainId} takes no deposits in ${rules.denom}`);
    }
    this.#depositMin = least;
    await this.#measure();
    const derived = rules.walletPerPool ? pools.map((pool) => ({ index: walletIndexOf(pool), pool })) : [];
    await this.#orders.search([{ index: 0, pool: null }, ...derived]);
    if (derived.length > 0) {
      const pools = derived.map(({ index, pool }) => ({ pool, wallet: keyring.wallet(index) }));
      await openGrants(this.#chain, { treasury: keyring.wallet(0), pools, clock: this.#options.clock, ...grants, log });
    }
    // What a crash kept out of the ledger. What it left open on the chain is looked up when somebody asks for it.
    for (const row of this.#orders.live()) await this.#orders.run(row.orderId, () => this.#orders.catchUp(row));
    await this.#reconcile();
    this.#connected = true;
  }

  terms(): MarketTerms {
    return {
      blockMs: this.#blockMs,
      takeFeeBp: 0,
      makeFeeBp: 0,
      depositMinNanoUsd: nanoOf(this.#depositMin),
      settlement: this.#options.rules.denom,
      endsWithProcess: false,
    };
  }

  block(): Blocks {
    return this.#chain.head?.height ?? this.#height;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  tender(request: OrderRequest): Promise<Outcome<OrderView>> {
    if (this.#stop.signal.aborted) return Promise.resolve(refused('the market has stopped'));
    if (!this.#connected) return Promise.resolve(refused('no node of the chain answers'));
    return this.#posting.tender(request);
  }

  order(id: string): Promise<OrderView | null> {
    return this.#posting.order(id);
  }

  cancel(orderId: string): Promise<Outcome<void>> {
    return this.#posting.cancel(orderId);
  }

  async accept(orderId: string, bidId: string, depositNanoUsd: NanoUsd): Promise<Outcome<Lease>> {
    const outcome = await this.#posting.accept(orderId, bidId, depositNanoUsd);
    // The manifest goes at once: the provider waits for it, and the rent runs.
    if (outcome.kind === 'done') this.#leases.deployNow(outcome.value.id);
    return outcome;
  }

  deploy(leaseId: string): Promise<Outcome<void>> {
    return this.#leases.deploy(leaseId);
  }

  status(leaseId: string): Promise<LeaseStatus | null> {
    return this.#leases.status(leaseId);
  }

  /** What the container prints (`logs`), or what the provider's cluster says of it (`events`). @throws Error */
  lines(leaseId: string, what: 'logs' | 'events', limit: { linesMax: number; withinMs: Ms }): Promise<string[]> {
    return this.#leases.lines(leaseId, what, limit);
  }

  fund(leaseId: string, amountNanoUsd: NanoUsd, fundingId: string): Promise<Outcome<Lease>> {
    return this.#leases.fund(leaseId, amountNanoUsd, fundingId);
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    return this.#leases.close(leaseId, reason);
  }

  /** The network has no record of disputes: it counts in our own choice of providers only. */
  dispute(leaseId: string, reason: string): Promise<Outcome<void>> {
    return this.#leases.dispute(leaseId, reason);
  }

  async list(): Promise<{ orders: readonly OrderView[]; leases: readonly LeaseStatus[] }> {
    if (!this.#connected) throw new Error('no node of the chain answers: what is ours there is not known yet');
    for (const row of this.#orders.live()) {
      if (row.pending) await this.#orders.run(row.orderId, () => this.#orders.settleNow(row.orderId));
    }
    const orders = this.#orders
      .live()
      .filter(({ state, closing }) => state === 'open' && !closing)
      .map((row) => this.#posting.view(row));
    return { orders, leases: await this.#leases.live() };
  }

  providers(): Promise<readonly ProviderView[]> {
    const used = new Map<string, number>();
    for (const { lease } of this.#orders.live()) {
      if (lease?.state === 'active') used.set(lease.provider, (used.get(lease.provider) ?? 0) + 1);
    }
    return Promise.resolve(this.#providers.views(used, this.#options.rules.auditors));
  }

  /** Leases stay: they are found again at the next start, and can burn no more than is in their escrow. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('the market has stopped'));
    await this.#ticking;
    await this.#orders.idle();
  }

  #orderDeposit(): Micro {
    const { orderDeposit } = this.#options.rules;
    return orderDeposit !== null && orderDeposit > this.#depositMin ? orderDeposit : this.#depositMin;
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #schedule(): void {
    if (this.#stop.signal.aborted) return;
    this.#options.clock.timer(this.#options.pollMs, () => {
      this.#ticking = this.look()
        .catch((error: unknown) => this.#options.log(`Akash market: ${describeError(error)}`))
        .then(() => this.#schedule());
    });
  }

  /** A new block may bring bids, and an end to leases; containers come up between blocks. */
  async look(): Promise<void> {
    const { signal } = this.#stop;
    if (signal.aborted) return;
    const head = await this.#chain.refresh();
    if (!this.#connected) {
      if (!head) return;
      await this.#connect();
      this.#changed();
    }
    if (head && head.height > this.#height) {
      this.#height = head.height;
      await this.#posting.watch();
    }
    await this.#leases.watch();
    this.#upkeep.run();
    this.#ticks += 1;
    if (this.#ticks % MEASURE_EVERY === 0) {
      await this.#measure();
      await this.#reconcile();
    }
  }

  async #measure(): Promise<void> {
    const measured = await this.#chain.blockMs().catch(() => null);
    if (measured !== null) this.#blockMs = Math.max(1, Math.round(measured));
  }

  /** The ledger's treasury against the wallet, when nothing is under way that would be counted twice. */
  async #reconcile(): Promise<void> {
    const { keyring, log } = this.#options;
    if (!this.#orders.quiet) return;
    try {
      const held = await this.#chain.balance(keyring.wallet(0).address);
      if (!this.#orders.quiet) return;
      await this.#treasury.reconcile(nanoOf(held), this.block());
    } catch (error) {
      log(`the treasury could not be read: ${describeError(error)}`);
    }
  }
}
