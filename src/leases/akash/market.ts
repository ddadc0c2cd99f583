import { AppError, describeError } from '../../errors.ts';
import type { Breach, DisputeNote } from '../../spec/dispute.ts';
import type { Blocks, Ms, NanoUsd } from '../../units.ts';
import type { Judgement } from '../dispute.ts';
import { localDisputes, type Disputes } from '../disputes.ts';
import { Escrow } from '../local/escrow.ts';
import {
  done,
  refused,
  type CloseReason,
  type Lease,
  type LeaseStatus,
  type LogLine,
  type LogRequest,
  type Market,
  type MarketHealth,
  type MarketTerms,
  type OrderRequest,
  type OrderView,
  type Outcome,
  type ProviderView,
} from '../market.ts';
import { nanoOf, type Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { Keyring } from './chain-wallet.ts';
import { Grants } from './grants.ts';
import { Joining } from './joining.ts';
import { AkashLeases } from './leases.ts';
import { Money } from './money.ts';
import { walletIndexOf } from './names.ts';
import { AkashOrders } from './orders.ts';
import type { AkashMarketOptions, AkashParts } from './parts.ts';
import { AkashPosting } from './posting.ts';
import { AkashProviders } from './providers.ts';
import { Treasury } from './treasury.ts';
import { reportTreasury, type TreasuryReport } from './treasury-report.ts';
import { Upkeep } from './upkeep.ts';

/** Where the chain is too young to measure: what Akash aims at. */
const BLOCK_MS = 6000;
const MEASURE_EVERY = 200;
/** At the start: one question that fails is no reason to begin without the chain. */
const OPEN_TRIES = 2;

/** The Akash network as a market: orders are deployments on its chain, providers bid and are sent manifests. */
export class AkashMarket implements Market {
  readonly name = 'akash' as const;
  readonly #options: AkashMarketOptions;
  readonly #chain: Chain;
  readonly #orders: AkashOrders;
  readonly #providers: AkashProviders;
  readonly #disputes: Disputes;
  readonly #treasury: Treasury;
  readonly #posting: AkashPosting;
  readonly #leases: AkashLeases;
  readonly #listeners: (() => void)[] = [];
  readonly #stop = new AbortController();
  readonly #upkeep: Upkeep;
  readonly #money: Money;
  readonly #joining: Joining;
  readonly #grants: Grants;
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
    this.#disputes = localDisputes({ market: this.name, records: options.disputes, clock, log });
    this.#providers = new AkashProviders(this.#chain, marketRecords, clock);
    const parts: AkashParts = {
      ...{ chain: this.#chain, orders: this.#orders, providers: this.#providers, rules, clock, resolve, wallet },
      ...{ leaseKey, signal, log, pools: new Set(options.pools), secretOf: options.secretOf ?? (() => null) },
      terms: () => this.terms(),
      orderDeposit: () => this.#orderDeposit(),
      insolvent: (index, amount) => this.#money.solvency.refusal(index, amount),
      onChange: () => this.#changed(),
      problem: () => this.#joining.problem(),
    };
    this.#posting = new AkashPosting(parts);
    this.#leases = new AkashLeases(parts);
    this.#upkeep = new Upkeep(parts);
    this.#grants = new Grants(this.#chain, {
      ...{ treasury: wallet(0), clock, log, ...options.grants },
      pools: this.#derived.map(({ index, pool }) => ({ pool, wallet: wallet(index) })),
    });
    this.#joining = new Joining({
      ...{ chain: this.#chain, clock, log },
      prepare: () => this.#prepare(),
      onChange: () => this.#changed(),
    });
  }

  /** What our own records tell is served at once; the chain is joined when it answers, which may be later. */
  async open(): Promise<void> {
    await this.#providers.open();
    await this.#disputes.open();
    await this.#orders.load();
    for (let tries = 0; tries < OPEN_TRIES && !this.#joining.joined; tries += 1) {
      this.#joining.hurry();
      await this.#joining.attempt();
    }
    this.#schedule();
  }

  /** @throws AppError `setup_failed` when this chain does not take our money; Error when it cannot be asked */
  async #prepare(): Promise<void> {
    const { rules } = this.#options;
    const { head } = this.#chain;
    this.#height = Math.max(this.#height, head?.height ?? 0);
    const least = await this.#chain.depositMin();
    if (least === null) {
      throw new AppError('setup_failed', `the chain ${head?.chainId} takes no deposits in ${rules.denom}`);
    }
    this.#depositMin = least;
    await this.#measure();
    await this.#orders.adopt([{ index: 0, pool: null }, ...this.#derived]);
    await this.#grants.renew();
    // What a crash kept out of the ledger. What it left open on the chain is looked up when somebody asks for it.
    for (const row of this.#orders.live()) await this.#orders.run(row.orderId, () => this.#orders.catchUp(row));
    await this.#money.reconcile();
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

  health(): MarketHealth {
    return { problem: this.#joining.problem(), detail: this.#chain.describe() };
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

  async status(leaseId: string): Promise<LeaseStatus | null> {
    return this.#disputes.statusOf(await this.#leases.status(leaseId));
  }

  logs(leaseId: string, request: LogRequest, signal: AbortSignal): AsyncIterable<LogLine> {
    return this.#leases.logs(leaseId, request, signal);
  }

  fund(leaseId: string, amountNanoUsd: NanoUsd, fundingId: string): Promise<Outcome<Lease>> {
    return this.#leases.fund(leaseId, amountNanoUsd, fundingId);
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    return this.#leases.close(leaseId, reason);
  }

  /** The network has no record of disputes and no money of theirs: they count in our own choice of providers only. */
  async dispute(leaseId: string, breach: Breach): Promise<Outcome<DisputeNote>> {
    const status = await this.#leases.status(leaseId);
    return status ? done(await this.#disputes.file(status.lease, breach, null)) : refused('there is no such lease');
  }

  judge(disputeId: string, verdict: Judgement): Promise<Outcome<DisputeNote>> {
    return this.#disputes.judge(disputeId, verdict);
  }

  /** @throws AppError `no_capacity` until the chain was joined: what else is ours there is not known before */
  async list(): Promise<{ orders: readonly OrderView[]; leases: readonly LeaseStatus[] }> {
    if (!this.#joining.joined) throw new AppError('no_capacity', this.#joining.problem() ?? 'joining the chain');
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
    const views = this.#providers.views(this.#orders.live(), this.#options.rules.auditors);
    return Promise.resolve(this.#disputes.counted(views));
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
    if (!this.#joining.joined) {
      await this.#joining.attempt();
      return this.#leases.watch();
    }
    const head = await this.#chain.refresh();
    this.#joining.tell();
    if (head && head.height > this.#height) {
      this.#height = head.height;
      await this.#posting.watch();
    }
    await this.#leases.watch();
    if (this.#joining.problem() !== null) return;
    this.#upkeep.run();
    this.#grants.look();
    this.#money.tick();
    this.#ticks += 1;
    if (this.#ticks % MEASURE_EVERY === 0) {
      await this.#measure();
      await this.#money.reconcile();
    }
  }

  async #measure(): Promise<void> {
    const measured = await this.#chain.blockMs().catch(() => null);
    if (measured !== null) this.#blockMs = Math.max(1, Math.round(measured));
  }
}
