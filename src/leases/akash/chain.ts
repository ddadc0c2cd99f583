import { Comet38Client } from '@cosmjs/tendermint-rpc';
import type { Dispatcher } from 'undici';
import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { RandomBytes } from '../../random.ts';
import type { Ms } from '../../units.ts';
import type { Micro } from './amounts.ts';
import { feeAllowance, mintRecords, mintTerms, type FeeAllowance } from './chain-mint-queries.ts';
import { ChainQueries } from './chain-queries.ts';
import { RpcPool, type NodeHead, type NodeState } from './chain-rpc.ts';
import { Transactions, type SendRequest } from './chain-transactions.ts';
import type {
  ChainBid,
  ChainDeployment,
  ChainLease,
  ChainProvider,
  DeploymentId,
  DepositGrant,
  FeeGrant,
  Guard,
  MintRecord,
  MintTerms,
  SendOutcome,
  SignedTx,
  TxOutcome,
} from './chain-types.ts';

export interface ChainOptions {
  readonly rpc: readonly string[];
  readonly chainId: string | null;
  readonly denom: string;
  readonly gasPriceNano: bigint;
  readonly feeMaxUakt: bigint;
  readonly lifeMs: Ms;
  readonly pollMs: Ms;
  /** For one answer of a node; default 10 s. */
  readonly timeoutMs?: Ms;
  /** A chain whose newest block is older has stalled; default 120 s. */
  readonly stalledMs?: Ms;
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

const STALLED_MS: Ms = 120_000;
/** Blocks over which the time of one is measured: about a quarter of an hour. */
const MEASURED_BLOCKS = 150;
/** What a chain begins with comes in no time. */
const FIRST_MEASURED = 3;

/** The Akash chain as the market needs it: its one door to cosmjs and chain-sdk. */
export class Chain {
  readonly #pool: RpcPool;
  readonly #comet: Comet38Client;
  readonly #queries: ChainQueries;
  readonly #transactions: Transactions;
  readonly #options: ChainOptions;
  #guard: Guard | null = null;

  constructor(options: ChainOptions) {
    this.#options = options;
    const { rpc: urls, chainId, dispatcher, clock, signal, log } = options;
    this.#pool = new RpcPool({ ...options, urls, chainId, dispatcher, clock, signal, log });
    this.#comet = Comet38Client.create(this.#pool);
    this.#queries = new ChainQueries(this.#comet, this.#pool);
    this.#transactions = new Transactions(this.#comet, this.#pool, this.#queries, options);
  }

  /** Finds a node of the right chain. @throws AppError `setup_failed` that says what each node answered */
  async open(): Promise<NodeHead> {
    const head = await this.#pool.refresh();
    if (head) return head;
    throw new AppError('setup_failed', this.silence() ?? 'no node of the Akash chain can be used');
  }

  /** Why nothing can come of a transaction now: no node that can be used, or no new blocks. Null: it may. */
  silence(): string | null {
    const { clock, stalledMs = STALLED_MS } = this.#options;
    const { head } = this.#pool;
    if (head === null) {
      const problems = this.#pool.nodes().map(({ url, problem }) => `${new URL(url).host}: ${problem ?? 'not asked'}`);
      return `no node of the Akash chain can be used: ${problems.join('; ')}`;
    }
    const oldS = Math.round((clock.now() - head.timeMs) / 1000);
    if (oldS * 1000 <= stalledMs) return null;
    return `the chain ${head.chainId} has stalled: its newest block, ${head.height}, is ${oldS} s old`;
  }

  /** The newest block; null when no node answers. */
  refresh(): Promise<NodeHead | null> {
    return this.#pool.refresh();
  }

  get head(): NodeHead | null {
    return this.#pool.head;
  }

  nodes(): readonly NodeState[] {
    return this.#pool.nodes();
  }

  /** For operators. */
  describe(): Readonly<Record<string, unknown>> {
    const nodes = this.#pool.nodes().map(({ url, head, problem }) => {
      return { node: new URL(url).host, block: head?.height ?? null, problem };
    });
    const { head } = this.#pool;
    return { chain_id: head?.chainId ?? null, block: head?.height ?? null, nodes };
  }

  /** Milliseconds of one block, measured over the last ones. Null: the chain is too young to say. */
  async blockMs(): Promise<Ms | null> {
    const head = this.#pool.head;
    if (!head || head.height < FIRST_MEASURED + 2) return null;
    const from = Math.max(FIRST_MEASURED, head.height - MEASURED_BLOCKS);
    const { block } = await this.#comet.block(from);
    const measured = (head.timeMs - block.header.time.getTime()) / (head.height - from);
    return measured > 0 ? measured : null;
  }

  /** From now on nothing is sent that it refuses. */
  guardBy(guard: Guard): void {
    this.#guard = guard;
    this.#transactions.guard = guard;
  }

  /**
   * Nothing goes out while nothing can come of it. A chain that has stood still for ten minutes refuses every unordered
   * transaction besides: its time-out, by any other clock, is too far from the newest block's time.
   */
  async send(request: SendRequest): Promise<SendOutcome> {
    const silence = this.silence();
    if (silence !== null) return { kind: 'unknown', reason: silence };
    const permit = await this.#guard?.permit(request.orders);
    if (permit?.kind === 'refused') return permit;
    let noted = false;
    const note: SendRequest['note'] = async (tx) => {
      noted = true;
      await permit?.noted(tx.hash);
      await request.note(tx);
    };
    const outcome = await this.#transactions.send({ ...request, note });
    // Unknown before anything was signed: no node could be asked, so nothing was spent.
    if (outcome.kind === 'refused' || (outcome.kind === 'unknown' && !noted)) await permit?.giveBack();
    return outcome;
  }

  async outcomeOf(tx: SignedTx): Promise<TxOutcome> {
    return this.#told(tx, await this.#transactions.outcomeOf(tx));
  }

  async resolve(tx: SignedTx): Promise<TxOutcome> {
    return this.#told(tx, await this.#transactions.resolve(tx));
  }

  /** What was sent and not known to have paid is counted until it is certain that it did not. */
  async #told(tx: SignedTx, outcome: TxOutcome): Promise<TxOutcome> {
    const failed = outcome.kind === 'included' && outcome.tx.code !== 0;
    if (failed || outcome.kind === 'never') await this.#guard?.unspent(tx.hash);
    return outcome;
  }

  deployment(id: DeploymentId): Promise<ChainDeployment | null> {
    return this.#queries.deployment(id);
  }

  deployments(owner: string): Promise<ChainDeployment[]> {
    return this.#queries.deployments(owner);
  }

  bids(id: DeploymentId): Promise<ChainBid[]> {
    return this.#queries.bids(id);
  }

  leases(id: DeploymentId): Promise<ChainLease[]> {
    return this.#queries.leases(id);
  }

  async provider(owner: string): Promise<ChainProvider | null> {
    const found = await this.#queries.provider(owner);
    return found && { ...found, auditors: await this.#queries.auditorsOf(owner) };
  }

  certificates(owner: string, serial: string): Promise<string[]> {
    return this.#queries.certificates(owner, serial);
  }

  /** Of the settlement denom. */
  balance(address: string): Promise<Micro> {
    return this.#queries.balance(address, this.#options.denom);
  }

  balanceUakt(address: string): Promise<bigint> {
    return this.#queries.balance(address, 'uakt');
  }

  depositMin(): Promise<Micro | null> {
    return this.#queries.depositMin(this.#options.denom);
  }

  /** Null: none. */
  depositGrant(granter: string, grantee: string): Promise<DepositGrant | null> {
    return this.#queries.depositGrant(granter, grantee, this.#options.denom);
  }

  /** Null: none. */
  feeGrant(granter: string, grantee: string): Promise<FeeGrant | null> {
    return this.#queries.feeGrant(granter, grantee);
  }

  feeAllowance(granter: string, grantee: string): Promise<FeeAllowance | null> {
    return feeAllowance(this.#queries, granter, grantee);
  }

  mintTerms(): Promise<MintTerms> {
    return mintTerms(this.#queries);
  }

  mintRecords(owner: string): Promise<MintRecord[]> {
    return mintRecords(this.#queries, owner);
  }

  /** Answers are of the newest block that is known from now on, or a later one. */
  demandFresh(): void {
    this.#queries.raiseFloor(this.#pool.head?.height ?? 0);
  }
}
