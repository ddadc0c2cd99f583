import { sha256 } from '@cosmjs/crypto';
import { toHex, toUtf8 } from '@cosmjs/encoding';
import { TxMsgData } from 'cosmjs-types/cosmos/base/abci/v1beta1/abci';
import type { EpochMs } from '../../../units.ts';
import { dropExpired } from './bank-rules.ts';
import { endMintBlock } from './bme-rules.ts';
import { emitPlain, GasMeter, type ChainEvent, type Context } from './context.ts';
import { Denial, plainDenial } from './denials.ts';
import type { Faults } from './faults.ts';
import { HOOKS } from './rules.ts';
import { snapshot, type State } from './state.ts';
import { decodeTx, hashOf, nonceKeys, runAnte, type Tx } from './tx.ts';

/** Blocks, mempool and index around the state: one validator that never disagrees with itself. */

export interface TxResult {
  readonly code: number;
  readonly codespace: string;
  readonly log: string;
  readonly data: Uint8Array;
  readonly gasWanted: bigint;
  readonly gasUsed: bigint;
  readonly events: readonly ChainEvent[];
}

export interface IndexedTx {
  readonly hash: string;
  readonly height: number;
  readonly index: number;
  readonly bytes: Uint8Array;
  readonly result: TxResult;
}

export interface Block {
  readonly height: number;
  readonly timeMs: EpochMs;
  readonly hash: Uint8Array;
  readonly txs: readonly IndexedTx[];
  /** Of the block's end: mints. */
  readonly events: readonly ChainEvent[];
}

/** Old blocks and transactions are forgotten, as a pruning node does. */
const LIMITS = { blocks: 2_000, txs: 20_000, mempool: 5_000 };

export class Chain {
  readonly chainId: string;
  readonly state: State;
  readonly faults: Faults;
  readonly #blocks: Block[] = [];
  readonly #txs = new Map<string, IndexedTx>();
  readonly #cache = new Set<string>();
  readonly #listeners: ((block: Block) => void)[] = [];
  #mempool: Tx[] = [];
  #height = 0;
  #timeMs: EpochMs;
  #stale: { readonly state: State; readonly height: number } | null = null;

  constructor(options: {
    readonly chainId: string;
    readonly genesis: State;
    readonly faults: Faults;
    readonly nowMs: EpochMs;
  }) {
    this.chainId = options.chainId;
    this.state = options.genesis;
    this.faults = options.faults;
    this.#timeMs = options.nowMs;
    this.state.journal.forget();
    this.faults.onChange(({ name }, on) => {
      if (name === 'stale-rpc') this.#stale = on ? { state: snapshot(this.state), height: this.#height } : null;
    });
    this.nextBlock(options.nowMs);
    if (this.faults.has('stale-rpc')) this.#stale = { state: snapshot(this.state), height: this.#height };
  }

  /** Transactions that wait for the next block. */
  get waiting(): number {
    return this.#mempool.length;
  }

  get height(): number {
    return this.#height;
  }

  get timeMs(): EpochMs {
    return this.#timeMs;
  }

  /** What a node that clients ask knows: it may lag. */
  get seen(): { readonly state: State; readonly height: number } {
    return this.#stale ?? { state: this.state, height: this.#height };
  }

  onBlock(listener: (block: Block) => void): void {
    this.#listeners.push(listener);
  }

  block(height: number): Block | undefined {
    return this.#blocks.find((block) => block.height === height);
  }

  tx(hash: string): IndexedTx | undefined {
    const found = this.#txs.get(hash.toUpperCase());
    return found !== undefined && found.height <= this.seen.height ? found : undefined;
  }

  txs(): IndexedTx[] {
    return [...this.#txs.values()].filter(({ height }) => height <= this.seen.height);
  }

  /** The node has seen these bytes: they wait, or are in a block. */
  knows(bytes: Uint8Array): boolean {
    return this.#cache.has(hashOf(bytes));
  }

  /** Checks a transaction and, when it is right, lets it wait for the next block. */
  submit(bytes: Uint8Array): TxResult {
    const { result, tx } = this.#attempt(bytes, (read) => this.#check(read));
    if (result.code !== 0 || tx === null) return result;
    if (this.#mempool.length >= LIMITS.mempool)
      return { ...result, code: 20, codespace: 'sdk', log: 'mempool is full' };
    this.#mempool.push(tx);
    this.#cache.add(tx.hash);
    return result;
  }

  /** Runs a transaction without signatures and forgets what it did. */
  simulate(bytes: Uint8Array): TxResult {
    return this.#attempt(bytes, (tx) => {
      const mark = this.state.journal.mark();
      const context = this.#context(new GasMeter(2n ** 62n));
      try {
        runAnte(context, tx, this.#anteOptions('simulate'));
        return this.#runMessages(context, tx);
      } finally {
        this.state.journal.rollback(mark);
      }
    }).result;
  }

  /** Makes the next block of what waits. */
  nextBlock(nowMs: EpochMs): Block {
    this.#height += 1;
    // A block's time never stands still.
    this.#timeMs = Math.max(nowMs, this.#timeMs + 1);
    const waiting = this.#mempool;
    this.#mempool = [];
    const height = this.#height;
    const txs = waiting.map((tx, index) => ({
      hash: tx.hash,
      height,
      index,
      bytes: tx.bytes,
      result: this.#deliver(tx),
    }));
    const context = this.#context(new GasMeter(2n ** 62n));
    endMintBlock(context);
    dropExpired(context);
    this.#dropNonces();
    this.state.journal.forget();
    const hash = sha256(toUtf8(`${this.chainId} ${height} ${this.#timeMs} ${txs.map((tx) => tx.hash).join(' ')}`));
    const block = { height, timeMs: this.#timeMs, hash, txs, events: context.events };
    this.#keep(block);
    for (const listener of this.#listeners) listener(block);
    return block;
  }

  #keep(block: Block): void {
    this.#blocks.push(block);
    if (this.#blocks.length > LIMITS.blocks) this.#blocks.shift();
    for (const tx of block.txs) {
      this.#txs.set(tx.hash, tx);
      // A failed transaction may be sent again, a done one is remembered.
      if (tx.result.code !== 0) this.#cache.delete(tx.hash);
    }
    for (const old of this.#txs.keys()) {
      if (this.#txs.size <= LIMITS.txs) break;
      this.#txs.delete(old);
      this.#cache.delete(old);
    }
  }

  #attempt(bytes: Uint8Array, run: (tx: Tx) => TxResult): { result: TxResult; tx: Tx | null } {
    try {
      const tx = decodeTx(bytes);
      try {
        return { result: run(tx), tx };
      } catch (error) {
        return { result: failure(error, tx.fee.gasLimit, 0n), tx };
      }
    } catch (error) {
      return { result: failure(error, 0n, 0n), tx: null };
    }
  }

  #check(tx: Tx): TxResult {
    const mark = this.state.journal.mark();
    const context = this.#context(new GasMeter(tx.fee.gasLimit));
    try {
      runAnte(context, tx, this.#anteOptions('check'));
      return success(context, new Uint8Array());
    } catch (error) {
      return failure(error, tx.fee.gasLimit, context.gas.used);
    } finally {
      this.state.journal.rollback(mark);
    }
  }

  #deliver(tx: Tx): TxResult {
    const { journal } = this.state;
    const mark = journal.mark();
    const context = this.#context(new GasMeter(tx.fee.gasLimit, this.faults.has('out-of-gas') ? 3n : 1n));
    try {
      runAnte(context, tx, this.#anteOptions('deliver'));
    } catch (error) {
      journal.rollback(mark);
      return failure(error, tx.fee.gasLimit, context.gas.used);
    }
    const paid = [...context.events];
    const afterFee = journal.mark();
    try {
      return this.#runMessages(context, tx);
    } catch (error) {
      // The fee is paid and the sequence used all the same.
      journal.rollback(afterFee);
      return { ...failure(error, tx.fee.gasLimit, context.gas.used), events: paid };
    }
  }

  #runMessages(context: Context, tx: Tx): TxResult {
    const responses: { typeUrl: string; value: Uint8Array }[] = [];
    for (const [at, message] of tx.messages.entries()) {
      const from = context.events.length;
      try {
        context.gas.consume(message.gas, 'message');
        emitPlain(context, 'message', { action: message.typeUrl, sender: message.signer });
        responses.push({ typeUrl: `${message.typeUrl}Response`, value: message.run(context) });
      } catch (error) {
        if (!(error instanceof Denial) || error.code === 11) throw error;
        throw error.wrap(`failed to execute message; message index: ${at}`);
      }
      for (let index = from; index < context.events.length; index += 1) {
        const event = context.events[index];
        if (event === undefined) continue;
        context.events[index] = { ...event, attributes: [...event.attributes, ['msg_index', String(at)]] };
      }
    }
    return success(context, TxMsgData.encode({ data: [], msgResponses: responses }).finish());
  }

  #context(gas: GasMeter): Context {
    return {
      state: this.state,
      height: this.#height,
      timeS: BigInt(Math.floor(this.#timeMs / 1000)),
      gas,
      events: [],
      hooks: HOOKS,
      mintsHalted: this.faults.has('mint-halted'),
      mintsCanceled: this.faults.has('mint-cancelled'),
    };
  }

  #anteOptions(mode: 'check' | 'deliver' | 'simulate') {
    return {
      mode,
      chainId: this.chainId,
      timeMs: this.#timeMs,
      ahead: (address: string): bigint =>
        BigInt(this.#mempool.filter((tx) => !tx.body.unordered && tx.signers.includes(address)).length),
      waiting: (nonce: string): boolean => this.#mempool.some((tx) => nonceKeys(tx).includes(nonce)),
    };
  }

  #dropNonces(): void {
    const nowNanos = BigInt(this.#timeMs) * 1_000_000n;
    for (const [key, untilNanos] of this.state.nonces.entries()) {
      if (untilNanos < nowNanos) this.state.nonces.delete(key);
    }
  }
}

function success(context: Context, data: Uint8Array): TxResult {
  const { gas, events } = context;
  return { code: 0, codespace: '', log: '', data, gasWanted: gas.limit, gasUsed: gas.used, events };
}

function failure(error: unknown, gasWanted: bigint, gasUsed: bigint): TxResult {
  // A number that is none, found while a message ran.
  const known = error instanceof RangeError ? plainDenial(error.message) : error;
  if (!(known instanceof Denial)) throw error;
  const { code, codespace, message: log } = known;
  return { code, codespace, log, data: new Uint8Array(), gasWanted, gasUsed, events: [] };
}

export const hexHash = (hash: Uint8Array): string => toHex(hash).toUpperCase();
