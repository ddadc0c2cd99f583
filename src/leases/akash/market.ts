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
import { nanoOf, type Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { Keyring } from './chain-wallet.ts';
import type { SecretOf } from './manifest-secrets.ts';
import { openGrants, type GrantRules } from './grants.ts';
import { AkashLeases } from './leases.ts';
import { Money } from './money.ts';
import { walletIndexOf } from './names.ts';
import { AkashOrders } from './orders.ts';
import type { AkashParts, AkashRules } from './parts.ts';
import { AkashPosting } from './posting.ts';
import { AkashProviders } from './providers.ts';
import type { AkashRecords } from './records.ts';
import { Treasury } from './treasury.ts';
import { reportTreasury, type TreasuryReport } from './treasury-report.ts';
import type { TreasuryRecords } from './treasury-records.ts';
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
  readonly treasuryRecords: TreasuryRecords;
  readonly marketRecords: MarketRecords;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly resolve: Resolve;
  readonly leaseKey: (leaseId: string) => string;
  /** Secrets that pools name; read anew for each order. */
  readonly secretOf?: SecretOf;
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
  readonly #money: Money;
  #blockMs: Ms = BLOCK_MS;
  #depositMin: Micro = 0n;
  #ticking: Promise<void> = Promise.resolve();
  #ticks = 0;
  #height = 0;

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
      feeGranter: (index) => (index === 0 ? undefined : wallet(0).address),
    });
    this.#money = new Money({
      ...{ chain: this.#chain, orders: this.#orders, treasury: this.#treasury, rules, wallet, clock, log },
      records: options.treasuryRecords,
      wallets: [{ pool: null, index: 0 }, ...this.#derived],
      orderDeposit: () => this.#orderDeposit(),
      blockMs: () => this.#blockMs,
    });
    this.#providers = new AkashProviders(this.#chain, marketRecords, clock);
    const parts: AkashParts = {
      ...{ chain: this.#chain, orders: this.#orders, providers: this.#providers, rules, clock, resolve, wallet },
      ...{ leaseKey, signal, log, pools: new Set(options.pools), secretOf: options.secretOf ?? (() => null) },
      terms: () => this.terms(),
      orderDeposit: () => this.#orderDeposit(),
      insolvent: (index, amount) => this.#money.solvency.refusal(index, amount),
      onChange: () => this.#changed(),
    };
    this.#posting = new AkashPosting(parts);
    this.#leases = new AkashLeases(parts);
    this.#upkeep = new Upkeep(parts);
  }

  /** @throws AppError `setup_failed` when no node answers, or this chain does not take our money */
  async open(): Promise<void> {
    const { rules } = this.#options;
    const head = await this.#chain.open();
    this.#height = head.height;
    const least = await this.#chain.depositMin();
    if (least === null) {
      throw new AppError('setup_failed', `the chain ${head.chainId} takes no deposits in ${rules.denom}`);
    }
    this.#depositMin = least;
    await this.#measure();
    await this.#providers.open();
    await this.#orders.open([{ index: 0, pool: null }, ...this.#derived]);
    await this.#grant();
    // What a crash kept out of the ledger. What it left open on the chain is looked up when somebody asks for it.
    for (const row of this.#orders.live()) await this.#orders.run(row.orderId, () => this.#orders.catchUp(row));
    await this.#money.reconcile();
    this.#schedule();
  }

  /** Wallets that hold nothing, one for each pool. */
  get #derived(): readonly { readonly index: number; readonly pool: string }[] {
    const { rules, pools } = this.#options;
    return rules.walletPerPool ? pools.map((pool) => ({ index: walletIndexOf(pool), pool })) : [];
  }

  /** What the treasury has, owes and may spend, and its books beside the chain. */
  treasury(): Promise<TreasuryReport> {
    return reportTreasury(this.#money, this.#options.ledger);
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
    await this.#money.idle();
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
    if (head && head.height > this.#height) {
      this.#height = head.height;
      await this.#posting.watch();
    }
    await this.#leases.watch();
    this.#upkeep.run();
    this.#money.tick();
    this.#ticks += 1;
    if (this.#ticks % MEASURE_EVERY === 0) {
      await this.#measure();
      await this.#grant();
      await this.#money.reconcile();
    }
  }

  /** Renewed when they are half used up or gone. */
  async #grant(): Promise<void> {
    const { keyring, grants, clock, log } = this.#options;
    const pools = this.#derived.map(({ index, pool }) => ({ pool, wallet: keyring.wallet(index) }));
    await openGrants(this.#chain, { treasury: keyring.wallet(0), pools, clock, ...grants, log });
  }

  async #measure(): Promise<void> {
    const measured = await this.#chain.blockMs().catch(() => null);
    if (measured !== null) this.#blockMs = Math.max(1, Math.round(measured));
  }
}
