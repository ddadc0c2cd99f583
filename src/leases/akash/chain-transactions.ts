import { makeAuthInfoBytes, makeSignBytes, makeSignDoc, encodePubkey } from '@cosmjs/proto-signing';
import { fromBase64, toBase64, toHex } from '@cosmjs/encoding';
import type { Comet38Client } from '@cosmjs/tendermint-rpc';
import { sha256 } from '@noble/hashes/sha2.js';
import { SimulateRequest, SimulateResponse } from 'cosmjs-types/cosmos/tx/v1beta1/service';
import { AuthInfo, TxBody, TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { RandomBytes } from '../../random.ts';
import type { EpochMs, Ms } from '../../units.ts';
import { messageOf } from './chain-messages.ts';
import { QueryRefused, type ChainQueries } from './chain-queries.ts';
import { NodeRefused, type RpcPool } from './chain-rpc.ts';
import type { Guard, Included, Order, SendOutcome, SignedTx, TxOutcome } from './chain-types.ts';
import type { Wallet } from './chain-wallet.ts';

export interface TransactionOptions {
  readonly denom: string;
  /** uakt per unit of gas, in billionths, so that 0.025 is exact. */
  readonly gasPriceNano: bigint;
  readonly feeMaxUakt: bigint;
  /** How long a transaction may wait to be included. */
  readonly lifeMs: Ms;
  readonly pollMs: Ms;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly signal: AbortSignal;
}

export interface SendRequest {
  readonly wallet: Wallet;
  readonly orders: readonly Order[];
  /** Who pays the fee, when it is not the signer. */
  readonly feeGranter?: string | undefined;
  /** Called with each transaction before a node sees it; what it throws stops the sending. */
  readonly note: (tx: SignedTx) => Promise<void>;
}

const OUT_OF_GAS = 11;
/** The SDK's ErrTxInMempoolCache. */
const IN_CACHE = 19;
const SIGN_TRIES = 3;
/** Escrow messages cost more the longer ago they were settled: between simulation and inclusion that grows. */
const GAS_MARGIN = 1.5;
const GAS_AGAIN = 1.6;
/**
 * uakt. Taking a fee costs gas itself (about 15,000), and who has none to pay it with is found before anything is signed; how
 * much it is changes neither.
 */
const SIMULATED_FEE = 1n;
/** After its time-out a transaction may still be in a block that a node has not indexed yet. */
const SETTLE_MS = 4000;

/** Signs, sends and follows transactions. Unordered ones: no sequence number, so none waits for another. */
export class Transactions {
  readonly #comet: Comet38Client;
  readonly #pool: RpcPool;
  readonly #queries: ChainQueries;
  readonly #options: TransactionOptions;
  readonly #accountNumbers = new Map<string, bigint>();
  #lastTimeoutNs = 0n;
  guard: Pick<Guard, 'fee' | 'included'> | null = null;

  constructor(comet: Comet38Client, pool: RpcPool, queries: ChainQueries, options: TransactionOptions) {
    this.#comet = comet;
    this.#pool = pool;
    this.#queries = queries;
    this.#options = options;
  }

  /** Signs and sends, and waits until it is known what became of it. Never repeated with other bytes while that is open. */
  async send(request: SendRequest): Promise<SendOutcome> {
    let gas: bigint;
    try {
      const simulated = await this.#simulate(request);
      if (typeof simulated === 'string') return { kind: 'refused', reason: simulated };
      gas = scaled(simulated, GAS_MARGIN);
    } catch (error) {
      // Nothing was sent, but whether an earlier one was is not known either.
      return { kind: 'unknown', reason: describeError(error) };
    }
    let last = 'out of gas';
    for (let tries = 0; tries < SIGN_TRIES; tries += 1) {
      const fee = (gas * this.#options.gasPriceNano + 999_999_999n) / 1_000_000_000n;
      if (fee > this.#options.feeMaxUakt) {
        return { kind: 'refused', reason: `its fee of ${fee} uakt is above the limit of ${this.#options.feeMaxUakt}` };
      }
      const forbidden = (await this.guard?.fee(fee, request.orders)) ?? null;
      if (forbidden !== null) return { kind: 'refused', reason: forbidden };
      let tx: SignedTx;
      try {
        tx = await this.#sign(request, gas, fee);
      } catch (error) {
        return { kind: 'unknown', reason: describeError(error) };
      }
      await request.note(tx);
      const sent = await this.#broadcast(tx);
      if (sent.kind === 'refused' && sent.code !== OUT_OF_GAS) return { kind: 'refused', reason: sent.reason };
      if (sent.kind === 'refused') {
        last = sent.reason;
        gas = scaled(gas, GAS_AGAIN);
        continue;
      }
      const outcome = await this.#follow(tx);
      if (outcome.kind === 'pending') return { kind: 'unknown', reason: outcome.reason };
      if (outcome.kind === 'never') return { kind: 'refused', reason: 'it was not included in time' };
      const { tx: included } = outcome;
      if (included.code === 0) return { kind: 'done', tx: included };
      last = included.log;
      if (included.code !== OUT_OF_GAS) return { kind: 'refused', reason: last };
      gas = scaled(included.gasUsed > gas ? included.gasUsed : gas, GAS_AGAIN);
    }
    return { kind: 'refused', reason: last };
  }

  /** What became of a transaction that was noted. One that can still be included is sent again: the same bytes count once. */
  async resolve(tx: SignedTx): Promise<TxOutcome> {
    const outcome = await this.outcomeOf(tx);
    if (outcome.kind !== 'pending') return outcome;
    await this.#broadcast(tx).catch(() => undefined);
    return this.#follow(tx);
  }

  /** Looked up by its hash. Absent after its time-out by the chain's own clock: never. */
  async outcomeOf(tx: SignedTx): Promise<TxOutcome> {
    try {
      // Before the look-up: a block that ends its time must not have come after it.
      const head = await this.#pool.refresh();
      const found = await this.#find(tx.hash);
      await (found && this.guard?.included(found));
      if (found) return { kind: 'included', tx: found };
      if (head && head.timeMs > tx.timeoutMs + SETTLE_MS) return { kind: 'never' };
      return { kind: 'pending', reason: 'it is not in a block yet' };
    } catch (error) {
      return { kind: 'pending', reason: describeError(error) };
    }
  }

  async #follow(tx: SignedTx): Promise<TxOutcome> {
    const { clock, lifeMs, pollMs, signal } = this.#options;
    const endMs = clock.monotonic() + lifeMs * 1.2 + SETTLE_MS;
    for (;;) {
      const outcome = await this.outcomeOf(tx);
      if (outcome.kind !== 'pending' || clock.monotonic() > endMs) return outcome;
      if (signal.aborted) return outcome;
      await clock.sleep(pollMs, signal).catch(() => undefined);
    }
  }

  async #find(hash: string): Promise<Included | null> {
    try {
      const { result, height, tx } = await this.#comet.tx({ hash: Buffer.from(hash, 'hex') });
      this.#queries.raiseFloor(height);
      const { amount: fee = [] } = AuthInfo.decode(TxRaw.decode(tx).authInfoBytes).fee ?? {};
      const offered = fee.reduce((sum, { denom, amount }) => (denom === 'uakt' ? sum + BigInt(amount) : sum), 0n);
      // One that fails before its messages, as when its time is over in its block, is in the block and pays nothing.
      const paid =
        result.code === 0 || result.events.some(({ type, attributes }) => type === 'tx' && paysFee(attributes));
      const log = (result.log ?? '').slice(0, 1000);
      return { hash, height, code: result.code, log, gasUsed: result.gasUsed, feeUakt: paid ? offered : 0n };
    } catch (error) {
      if (error instanceof NodeRefused && /not found/i.test(error.message)) return null;
      throw error;
    }
  }

  async #broadcast(
    tx: SignedTx,
  ): Promise<{ readonly kind: 'sent' } | { readonly kind: 'refused'; readonly code: number; readonly reason: string }> {
    const { failovers } = this.#pool;
    try {
      const { code, codespace, log = '' } = await this.#comet.broadcastTxSync({ tx: fromBase64(tx.bytesBase64) });
      // A node that gave no answer may have taken it: what the next one says of it is not the last word.
      if (this.#pool.failovers !== failovers) return { kind: 'sent' };
      if (code === 0 || (code === IN_CACHE && (codespace ?? 'sdk') === 'sdk')) return { kind: 'sent' };
      return { kind: 'refused', code, reason: log.slice(0, 1000) || `refused with code ${code}` };
    } catch {
      // "Already in cache", and whatever else a node says or does not: the hash tells.
      return { kind: 'sent' };
    }
  }

  /** Gas of the very body that is sent, a fee paid with it; a string says why the chain would refuse it. */
  async #simulate(request: SendRequest): Promise<bigint | string> {
    const { txBytes } = await this.#build(request, 0n, SIMULATED_FEE, this.#timeoutNs());
    const message = SimulateRequest.fromPartial({ txBytes });
    try {
      const path = '/cosmos.tx.v1beta1.Service/Simulate';
      const { gasInfo } = await this.#queries.demand(path, [SimulateRequest, message], SimulateResponse);
      return gasInfo?.gasUsed ?? 'the node simulated it and did not say its gas';
    } catch (error) {
      if (error instanceof QueryRefused) return error.message;
      throw error;
    }
  }

  async #sign(request: SendRequest, gas: bigint, fee: bigint): Promise<SignedTx> {
    const timeoutNs = this.#timeoutNs();
    const { txBytes } = await this.#build(request, gas, fee, timeoutNs);
    return {
      hash: toHex(sha256(txBytes)).toUpperCase(),
      bytesBase64: toBase64(txBytes),
      timeoutMs: Number(timeoutNs / 1_000_000n) + 1,
    };
  }

  async #build(request: SendRequest, gas: bigint, fee: bigint, timeoutNs: bigint): Promise<{ txBytes: Uint8Array }> {
    const { wallet, orders, feeGranter } = request;
    const bodyBytes = TxBody.encode(
      TxBody.fromPartial({
        messages: orders.map((order) => messageOf(order, this.#options.denom)),
        unordered: true,
        timeoutTimestamp: { seconds: timeoutNs / 1_000_000_000n, nanos: Number(timeoutNs % 1_000_000_000n) },
      }),
    ).finish();
    const pubkey = encodePubkey({ type: 'tendermint/PubKeySecp256k1', value: toBase64(wallet.publicKey) });
    const amount = fee === 0n ? [] : [{ denom: 'uakt', amount: String(fee) }];
    const signer = [{ pubkey, sequence: 0 }];
    const authInfoBytes = makeAuthInfoBytes(signer, amount, Number(gas), feeGranter, undefined);
    const chainId = this.#pool.chainId;
    if (chainId === null) throw new Error('no node of the chain has answered yet');
    const doc = makeSignDoc(bodyBytes, authInfoBytes, chainId, await this.#accountNumber(wallet.address));
    const signatures = [await wallet.sign(makeSignBytes(doc))];
    return { txBytes: TxRaw.encode(TxRaw.fromPartial({ bodyBytes, authInfoBytes, signatures })).finish() };
  }

  async #accountNumber(address: string): Promise<bigint> {
    const known = this.#accountNumbers.get(address);
    if (known !== undefined) return known;
    const found = await this.#queries.accountNumber(address);
    if (found === null) throw new Error(`the chain has no account ${address}: send it some AKT first`);
    this.#accountNumbers.set(address, found);
    return found;
  }

  /**
   * By the chain's clock, which ours may differ from. The time-out is also what tells unordered transactions of one signer
   * apart, so each has nanoseconds of its own, after a restart too.
   */
  #timeoutNs(): bigint {
    const { random, lifeMs } = this.#options;
    const head = this.#pool.head;
    const nowMs: EpochMs = Math.max(head?.timeMs ?? 0, this.#options.clock.now() - MAX_SKEW_MS);
    const [a = 0, b = 0, c = 0] = random(3);
    const ns = BigInt(Math.floor(nowMs + lifeMs)) * 1_000_000n + BigInt(((a << 16) | (b << 8) | c) % 1_000_000);
    this.#lastTimeoutNs = ns > this.#lastTimeoutNs ? ns : this.#lastTimeoutNs + 1n;
    return this.#lastTimeoutNs;
  }
}

/** A chain whose newest block is older than this has stalled: its clock is not waited for. */
const MAX_SKEW_MS = 15_000;

function paysFee(attributes: readonly { readonly key: string }[]): boolean {
  return attributes.some(({ key }) => key === 'fee');
}

function scaled(gas: bigint, factor: number): bigint {
  return (gas * BigInt(Math.round(factor * 100)) + 99n) / 100n;
}
