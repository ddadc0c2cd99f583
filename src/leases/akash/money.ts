import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import { Alarms } from './alarms.ts';
import type { Chain } from './chain.ts';
import type { Wallet } from './chain-wallet.ts';
import { Foresight } from './foresight.ts';
import { Minting } from './minting.ts';
import type { MintRules } from './mint-plan.ts';
import type { AkashOrders } from './orders.ts';
import type { AkashRules } from './parts.ts';
import { Purse } from './purse.ts';
import { Solvency } from './solvency.ts';
import { DAY_MS, HOUR_MS, SpendingLimits, type SpendingLimit } from './spending-limits.ts';
import type { Treasury } from './treasury.ts';
import type { TreasuryRecords } from './treasury-records.ts';

export interface MoneyOptions {
  readonly chain: Chain;
  readonly orders: AkashOrders;
  readonly treasury: Treasury;
  readonly records: TreasuryRecords;
  readonly rules: AkashRules;
  readonly wallet: (index: number) => Wallet;
  /** The treasury's and every pool's. */
  readonly wallets: readonly { readonly pool: string | null; readonly index: number }[];
  readonly orderDeposit: () => bigint;
  readonly blockMs: () => Ms;
  readonly clock: Clock;
  readonly log: (line: string) => void;
}

const EVERY_MS: Ms = 30_000;
const SENDING_MS: Ms = 30_000;
const OFF: MintRules = {
  on: false,
  hoursMin: 0,
  hoursMax: 0,
  leastPerHour: 0n,
  stockMax: 0n,
  spreadMaxBp: 0,
  reserveUakt: 0n,
};

/** The treasury's keeper: limits at the chain's door, the stock of ACT, the escrows of live leases, and alarms. */
export class Money {
  readonly alarms: Alarms;
  readonly limits: SpendingLimits;
  readonly foresight: Foresight;
  readonly minting: Minting;
  readonly solvency: Solvency;
  readonly #options: MoneyOptions;
  readonly #everyMs: Ms;
  #lookedMs = -Infinity;
  #work: Promise<void> | null = null;

  constructor(options: MoneyOptions) {
    this.#options = options;
    const { chain, orders, treasury, records, rules, wallet, blockMs, clock, log } = options;
    this.#everyMs = rules.moneyMs ?? EVERY_MS;
    this.alarms = new Alarms(clock, log);
    this.limits = new SpendingLimits(records, limitsOf(rules), clock);
    const { alarms, limits } = this;
    chain.guardBy(new Purse({ limits, alarms, bookFee: (tx) => treasury.fee(tx), log }));
    this.foresight = new Foresight({
      ...{ chain, orders, alarms, blockMs, log, everyMs: this.#everyMs, sendingMs: rules.sendingMs ?? SENDING_MS },
    });
    this.minting = new Minting({
      ...{ chain, records, treasury, limits, alarms, clock, log, wallet: wallet(0), rules: rules.mint ?? OFF },
      hourly: () => this.foresight.hourly(),
    });
    this.solvency = new Solvency({ chain, wallet, alarms });
  }

  get options(): MoneyOptions {
    return this.#options;
  }

  /** Looks when it is time to, without being waited for. */
  tick(): void {
    const { clock, log } = this.#options;
    const now = clock.monotonic();
    if (this.#work || now - this.#lookedMs < this.#everyMs) return;
    this.#lookedMs = now;
    this.#work = this.look()
      .catch((error: unknown) => log(`the treasury could not be looked after: ${describeError(error)}`))
      .finally(() => (this.#work = null));
  }

  /** Ends with the look that is under way. */
  async idle(): Promise<void> {
    await this.#work;
  }

  /** What one part cannot do holds up no other. */
  async look(): Promise<void> {
    const { rules, log, orderDeposit } = this.#options;
    const parts: [string, () => Promise<unknown>][] = [
      ['escrows', () => this.foresight.look()],
      ['mint', () => (rules.mint ? this.minting.advance() : Promise.resolve())],
      ['balance', () => this.solvency.refusal(0, orderDeposit())],
      ['limits', () => this.#watchLimits()],
    ];
    for (const [what, work] of parts) {
      await work().catch((error: unknown) => log(`treasury, ${what}: ${describeError(error)}`));
    }
  }

  /** The ledger's treasury against the wallets, when nothing is under way that would be counted twice. */
  async reconcile(): Promise<void> {
    const { chain, treasury, wallet, wallets, log } = this.#options;
    try {
      if (!(await this.#isQuiet())) return;
      let [uact, uakt] = [0n, 0n];
      for (const { index } of wallets) {
        const { address } = wallet(index);
        uact += await chain.balance(address);
        uakt += await chain.balanceUakt(address);
      }
      if (!(await this.#isQuiet())) return;
      this.alarms.set('books.differ', await treasury.reconcile({ uact, uakt }, chain.head?.height ?? 0));
    } catch (error) {
      log(`the treasury could not be read: ${describeError(error)}`);
    }
  }

  async #isQuiet(): Promise<boolean> {
    return this.#options.orders.quiet && !(await this.minting.isOpen());
  }

  /** Once a limit has room for an order again, it is no alarm any more. */
  async #watchLimits(): Promise<void> {
    const usage = await this.limits.usage();
    const met = usage.find(({ used, max }) => used + this.#options.orderDeposit() > max);
    if (!met) this.alarms.clear('limit.reached');
  }
}

function limitsOf(rules: AkashRules): SpendingLimit[] {
  const { depositsPerHour, depositsPerDay = null, mintsPerDay = null, feesPerDayUakt = null } = rules;
  const limits: [SpendingLimit['kind'], Ms, bigint | null, string][] = [
    ['deposit', HOUR_MS, depositsPerHour, 'deposits_max_usd_per_hour'],
    ['deposit', DAY_MS, depositsPerDay, 'deposits_max_usd_per_day'],
    ['mint', DAY_MS, mintsPerDay, 'treasury.mint_max_usd_per_day'],
    ['fee', DAY_MS, feesPerDayUakt, 'fees_max_akt_per_day'],
  ];
  return limits.flatMap(([kind, windowMs, max, setting]) => (max === null ? [] : [{ kind, windowMs, max, setting }]));
}
