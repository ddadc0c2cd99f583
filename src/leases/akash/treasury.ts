import type { Clock } from '../../clock.ts';
import {
  coinEquity,
  coinExchange,
  coinTreasury,
  minting,
  mintSpread,
  networkFees,
  operatorEquity,
  treasury,
  usdExchange,
  type AccountSpec,
} from '../../ledger/accounts.ts';
import type { Ledger, TransferOp } from '../../ledger/operations.ts';
import { formatUsd, type NanoUsd } from '../../units.ts';
import type { Escrow } from '../local/escrow.ts';
import { leaseIdOf } from './names.ts';
import { nanoOf, type Micro } from './amounts.ts';
import type { OrderRow } from './records.ts';
import type { MintRow } from './treasury-records.ts';

const MARKET = 'akash';
const COIN = 'AKT';

export interface TreasuryOptions {
  readonly ledger: Ledger;
  readonly escrow: Escrow;
  readonly clock: Clock;
  readonly log: (line: string) => void;
}

type Posting = Omit<TransferOp, 'op' | 'actor' | 'atMs'>;

/** The books of one asset: what the wallets hold of it, and where it came from. */
interface Holding {
  readonly held: AccountSpec;
  readonly equity: AccountSpec;
  readonly id: string;
}

const ACT: Holding = { held: treasury(MARKET), equity: operatorEquity(MARKET), id: 'block' };
const AKT: Holding = { held: coinTreasury(MARKET, COIN), equity: coinEquity(MARKET, COIN), id: 'akt-block' };

/**
 * The chain's money in our ledger. The chain moves it, the ledger follows: each transfer has an id made from what it is
 * for, so following twice changes nothing, and what a crash left out is made up for. One uact is 1,000 nano-USD, one uakt
 * 1,000 billionths of an AKT.
 */
export class Treasury {
  readonly #options: TreasuryOptions;

  constructor(options: TreasuryOptions) {
    this.#options = options;
  }

  /**
   * Brings the ledger's treasury to what the wallets hold, when nothing is under way: what was sent to them or taken out.
   * Resolves with what is gone that nobody here has paid, or null.
   */
  async reconcile(
    { uact, uakt }: { readonly uact: Micro; readonly uakt: Micro },
    height: number,
  ): Promise<string | null> {
    const gone = [await this.#bring(ACT, nanoOf(uact), height), await this.#bring(AKT, nanoOf(uakt), height)];
    return gone.find((why) => why !== null) ?? null;
  }

  /** All that the ledger should have of an order, in its order; most of it is there already. */
  async follow(row: OrderRow): Promise<void> {
    const leaseId = leaseIdOf(row.orderId);
    for (const { id, amount } of row.payments) await this.#deposit(leaseId, nanoOf(amount), id);
    for (const { hash, feeUakt } of row.transactions) await this.fee({ hash, feeUakt });
    if (row.lastDraw && row.lease && row.lastDraw.rent > 0n) {
      const { fromBlock, toBlock, rent } = row.lastDraw;
      const draw = { fromBlock, toBlock, rent, takeFee: 0n, makeFee: 0n };
      const result = await this.#options.escrow.draw(row.lease, draw);
      if (!result.ok) throw new Error(`rent of ${leaseId} was refused: ${result.why}`);
    }
    if (row.state === 'closed') await this.#options.escrow.refund(leaseId);
  }

  /** The network took it, whatever became of the transaction. */
  async fee({ hash, feeUakt }: { readonly hash: string; readonly feeUakt: bigint }): Promise<void> {
    if (feeUakt === 0n) return;
    await this.#pay(AKT, {
      id: `akash:fee:${hash}`,
      type: 'network_fee',
      debit: networkFees(MARKET, COIN),
      amount: nanoOf(feeUakt),
      reason: `fee of transaction ${hash}`,
    });
  }

  /** A mint as far as it has come: AKT into the queue, then ACT out of it with the spread, or AKT back. */
  async followMint(row: MintRow): Promise<void> {
    if (row.height === null) return;
    const id = `akash:mint:${row.seq}`;
    const burnt = nanoOf(row.burnUakt);
    const queue = minting(MARKET, COIN);
    const reason = `mint ${row.seq}`;
    await this.#pay(AKT, { id: `${id}:queued`, type: 'mint_queued', debit: queue, amount: burnt, reason });
    if (row.state === 'cancelled' || row.state === 'dropped') {
      const back = { debit: AKT.held, credit: queue, amount: burnt, reason: `mint ${row.seq}: ${row.reason}` };
      await this.#must({ id: `${id}:refund`, type: 'mint_refund', ...back });
    }
    if (row.state !== 'executed') return;
    const [spread, net] = [nanoOf(row.spread), nanoOf(row.minted - row.spread)];
    const given = { debit: coinExchange(MARKET, COIN), credit: queue, amount: burnt, reason };
    const made = { credit: usdExchange(MARKET), reason };
    await this.#must({ id: `${id}:burnt`, type: 'mint_burnt', ...given });
    await this.#must({ id: `${id}:minted`, type: 'mint_minted', debit: ACT.held, amount: net, ...made });
    await this.#must({ id: `${id}:spread`, type: 'mint_spread', debit: mintSpread(MARKET), amount: spread, ...made });
  }

  async #bring({ held, equity, id }: Holding, amountHeld: NanoUsd, height: number): Promise<string | null> {
    const { ledger, log } = this.#options;
    const known = (await ledger.ask({ op: 'account', name: held.name }))?.posted ?? 0n;
    if (known === amountHeld) return null;
    const more = amountHeld > known;
    const result = await this.#post({
      id: `treasury:${MARKET}:${id}-${height}:${amountHeld}`,
      type: 'treasury_reconcile',
      debit: more ? held : equity,
      credit: more ? equity : held,
      amount: more ? amountHeld - known : known - amountHeld,
      reason: `what the wallets hold at block ${height}`,
    });
    if (!result.ok) log(`the treasury of the Akash market could not be reconciled: ${result.why}`);
    if (more) return null;
    const gone = `${formatUsd(known - amountHeld)} ${id === AKT.id ? COIN : 'ACT'}`;
    return `at block ${height} the wallets held ${gone} less than the books: it went out without this gateway`;
  }

  /** The chain took it, so the wallet had it: where the ledger did not know of that yet, it learns it now. */
  async #deposit(leaseId: string, amount: NanoUsd, id: string): Promise<void> {
    const { escrow } = this.#options;
    if ((await escrow.deposit(leaseId, amount, id)).ok) return;
    await this.#cover(ACT, { id: `${leaseId}:${id}`, amount, reason: `paid by a wallet for ${leaseId}` });
    const again = await escrow.deposit(leaseId, amount, id);
    if (!again.ok) throw new Error(`a deposit of ${leaseId} was refused by the ledger: ${again.why}`);
  }

  /** The same for whatever else a wallet paid. */
  async #pay(holding: Holding, posting: Omit<Posting, 'credit'>): Promise<void> {
    const whole = { ...posting, credit: holding.held };
    if ((await this.#post(whole)).ok) return;
    await this.#cover(holding, posting);
    await this.#must(whole);
  }

  async #cover(
    { held, equity }: Holding,
    { id, amount, reason }: Pick<Posting, 'id' | 'amount' | 'reason'>,
  ): Promise<void> {
    const accounts = { debit: held, credit: equity };
    await this.#post({ id: `treasury:${MARKET}:${id}`, type: 'treasury_reconcile', ...accounts, amount, reason });
  }

  async #must(posting: Posting): Promise<void> {
    if (posting.amount === 0n) return;
    const result = await this.#post(posting);
    if (!result.ok) throw new Error(`${posting.id} was refused by the ledger: ${result.why}`);
  }

  #post(posting: Posting): ReturnType<Escrow['deposit']> {
    const { ledger, clock } = this.#options;
    return ledger.ask({ op: 'transfer', actor: 'market', atMs: clock.now(), ...posting });
  }
}
