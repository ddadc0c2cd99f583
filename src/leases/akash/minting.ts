import type { Clock } from '../../clock.ts';
import type { Alarms } from './alarms.ts';
import type { Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { MintTerms } from './chain-types.ts';
import type { Wallet } from './chain-wallet.ts';
import { planMint, stockRange, type MintPlan, type MintRules, type StockRange } from './mint-plan.ts';
import type { SpendingLimits } from './spending-limits.ts';
import type { Treasury } from './treasury.ts';
import type { MintRow, MintState, TreasuryRecords } from './treasury-records.ts';

export interface MintingOptions {
  readonly rules: MintRules;
  readonly chain: Pick<
    Chain,
    'balance' | 'balanceUakt' | 'mintTerms' | 'mintRecords' | 'send' | 'resolve' | 'demandFresh'
  > & {
    readonly head: Chain['head'];
  };
  readonly wallet: Wallet;
  readonly records: TreasuryRecords;
  readonly treasury: Treasury;
  readonly limits: SpendingLimits;
  readonly alarms: Alarms;
  /** Rent of an hour of all leases. */
  readonly hourly: () => Micro;
  readonly clock: Clock;
  readonly log: (line: string) => void;
}

export interface MintView {
  readonly on: boolean;
  readonly range: StockRange;
  readonly terms: MintTerms | null;
  /** What came of the last look. */
  readonly plan: string;
  readonly recent: readonly MintRow[];
}

/** As many as tell how often the network cancelled in a row. */
const ROWS = 20;
/** After a mint the next one waits for as many blocks, so that no node answers with the balance of before. */
const REST_BLOCKS = 3;
/** The network's epochs last a day at most: what is in the queue for longer is told. */
const STUCK_BLOCKS = 15_000;
/** Every reason for which nothing is minted though it is wanted. */
const BLOCKS = ['treasury.low', 'mint.halted', 'mint.no_price', 'mint.spread', 'mint.limit', 'treasury.akt_short'];

/**
 * Keeps the stock of ACT. One mint at a time, and its row is on disk before each step: a crash anywhere finds the transaction
 * by its hash and the entry of the queue by its block, and a need is met once. Nothing is planned while one is open.
 */
export class Minting {
  readonly #options: MintingOptions;
  #rows: MintRow[] | null = null;
  #terms: MintTerms | null = null;
  #plan = 'not looked yet';

  constructor(options: MintingOptions) {
    this.#options = options;
  }

  /** Read from disk once; the newest first. */
  async #recent(): Promise<MintRow[]> {
    this.#rows ??= await this.#options.records.mints(ROWS);
    return this.#rows;
  }

  /** A mint is under way, so AKT and ACT are about to change by themselves. */
  async isOpen(): Promise<boolean> {
    return (await this.#recent()).some(({ booked }) => !booked);
  }

  async view(): Promise<MintView> {
    const { rules, hourly } = this.#options;
    const recent = await this.#recent();
    const { on } = rules;
    return { on, range: stockRange(rules, hourly()), terms: this.#terms, plan: this.#plan, recent };
  }

  /** One look: what is open goes on as far as it can; else the stock is looked at. Calls must follow one another. */
  async advance(): Promise<void> {
    const rows = await this.#recent();
    const open = rows.find(({ booked }) => !booked);
    if (open) await this.#goOn(open);
    else await this.#consider(rows);
  }

  async #goOn(row: MintRow): Promise<void> {
    const { chain, wallet } = this.#options;
    if (row.owner !== wallet.address) return this.#end(row, 'dropped', { reason: 'it was of another wallet' });
    if (row.state === 'intended') {
      // Signed transactions are noted before they are sent: without one nothing was.
      if (row.tx === null) return this.#end(row, 'dropped', { reason: 'nothing was sent' });
      const outcome = await chain.resolve(row.tx);
      if (outcome.kind === 'pending') return;
      if (outcome.kind === 'never') return this.#end(row, 'dropped', { reason: 'it was not included in time' });
      const { code, log, height } = outcome.tx;
      if (code !== 0) return this.#end(row, 'dropped', { reason: log });
      return this.#queued(row, height);
    }
    if (row.state === 'queued') return this.#watch(row);
    await this.#book(row);
  }

  async #queued(row: MintRow, height: number): Promise<void> {
    const queued = await this.#save({ ...row, state: 'queued', height });
    this.#plan = `${row.burnUakt} uakt wait in the network's queue`;
    await this.#options.treasury.followMint(queued);
  }

  /** How did the queue end? A mint that is cancelled makes no noise: its AKT is back, and its record says so. */
  async #watch(row: MintRow): Promise<void> {
    const { chain, wallet, treasury, alarms, log } = this.#options;
    await treasury.followMint(row);
    const records = await chain.mintRecords(wallet.address);
    const found = records.find(({ height, burnUakt, state }) => {
      // An executed record need not say what was burnt.
      return height === row.height && (burnUakt === row.burnUakt || (burnUakt === 0n && state === 'executed'));
    });
    const block = chain.head?.height ?? 0;
    if (!found || found.state === 'pending') {
      const waited = block - (row.height ?? block);
      const stuck = waited > STUCK_BLOCKS ? `mint ${row.seq} has been in the queue for ${waited} blocks` : null;
      return alarms.set('mint.stuck', stuck);
    }
    alarms.clear('mint.stuck');
    const { minted, spread, reason } = found;
    if (found.state === 'executed') {
      alarms.clear('mint.cancelled');
      return this.#end(row, 'executed', { minted, spread });
    }
    alarms.raise('mint.cancelled', `the network cancelled mint ${row.seq} and gave the AKT back: ${reason}`);
    log(`mint ${row.seq} was cancelled: ${reason}`);
    return this.#end(row, 'cancelled', { reason });
  }

  async #end(row: MintRow, state: MintState, change: Partial<MintRow>): Promise<void> {
    const { clock, chain } = this.#options;
    const endedBlock = chain.head?.height ?? 0;
    await this.#book(await this.#save({ ...row, ...change, state, endedMs: clock.now(), endedBlock }));
  }

  async #book(row: MintRow): Promise<void> {
    const { treasury, limits } = this.#options;
    await treasury.followMint(row);
    // Its AKT is back, or never went: the day's limit has its room again.
    if (row.tx && (row.state === 'cancelled' || row.state === 'dropped')) await limits.giveBackOf(row.tx.hash, 'mint');
    await this.#save({ ...row, booked: true });
    this.#plan =
      row.state === 'dropped' ? `mint ${row.seq} did not happen: ${row.reason}` : `mint ${row.seq} ${row.state}`;
  }

  async #consider(rows: readonly MintRow[]): Promise<void> {
    const { chain, wallet, rules, limits, alarms, clock, hourly } = this.#options;
    const [newest] = rows;
    const block = chain.head?.height ?? 0;
    if (newest && block < newest.endedBlock + REST_BLOCKS) return;
    chain.demandFresh();
    const [stock, uakt, terms, allowance] = await Promise.all([
      chain.balance(wallet.address),
      chain.balanceUakt(wallet.address),
      chain.mintTerms(),
      limits.left('mint'),
    ]);
    this.#terms = terms;
    const { cancelled, cancelledMs } = cancelledInRow(rows);
    const need = { stock, uakt, hourly: hourly(), allowance, terms, cancelled, cancelledMs, nowMs: clock.now() };
    const plan = planMint(rules, need);
    this.#plan = plan.why;
    for (const name of BLOCKS) alarms.set(name, plan.kind === 'blocked' && plan.alarm === name ? plan.why : null);
    if (plan.kind === 'mint') await this.#mint(plan, (newest?.seq ?? 0) + 1);
  }

  async #mint({ worth, burnUakt, why }: Extract<MintPlan, { kind: 'mint' }>, seq: number): Promise<void> {
    const { chain, wallet, clock, log } = this.#options;
    let row = await this.#save({
      ...{
        seq,
        owner: wallet.address,
        state: 'intended',
        worth,
        burnUakt,
        why,
        atMs: clock.now(),
        tx: null,
        height: null,
      },
      ...{ minted: 0n, spread: 0n, endedMs: null, endedBlock: 0, reason: '', booked: false },
    });
    const outcome = await chain.send({
      wallet,
      orders: [{ type: 'mint_act', owner: wallet.address, burnUakt, worth }],
      note: async (tx) => {
        row = await this.#save({ ...row, tx });
      },
    });
    if (outcome.kind === 'done') {
      log(`mint ${seq}: ${burnUakt} uakt for about ${worth} uact, since ${why}`);
      return this.#queued(row, outcome.tx.height);
    }
    if (outcome.kind === 'refused') return this.#end(row, 'dropped', { reason: outcome.reason });
    // Unknown: the next look asks by the hash, or finds that nothing was signed.
  }

  /** To disk first: what memory says was written. */
  async #save(row: MintRow): Promise<MintRow> {
    await this.#options.records.saveMint(row);
    const rest = (this.#rows ?? []).filter(({ seq }) => seq !== row.seq);
    this.#rows = [row, ...rest].sort((a, b) => b.seq - a.seq).slice(0, ROWS);
    return row;
  }
}

/** Those that never reached the network say nothing of it. */
function cancelledInRow(rows: readonly MintRow[]): { readonly cancelled: number; readonly cancelledMs: number } {
  const ended = rows.filter(({ state }) => state === 'executed' || state === 'cancelled');
  const end = ended.findIndex(({ state }) => state === 'executed');
  const cancelled = end === -1 ? ended.length : end;
  return { cancelled, cancelledMs: cancelled > 0 ? (ended[0]?.endedMs ?? 0) : 0 };
}
