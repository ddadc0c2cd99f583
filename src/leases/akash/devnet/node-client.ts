import type { Chain, TxResult } from './chain.ts';
import { signUnordered, type Wallet } from './wallet.ts';

export interface AnyMessage {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

const GAS = 3_000_000n;
const FEE_UAKT = 7_500n;
const TTL_MS = 300_000;

/** A wallet at its own node: signs and hands in, as everybody else has to. */
export class NodeClient {
  readonly wallet: Wallet;
  readonly #chain: Chain;
  #count = 0n;

  constructor(chain: Chain, wallet: Wallet) {
    this.#chain = chain;
    this.wallet = wallet;
  }

  send(...messages: readonly AnyMessage[]): TxResult {
    const account = this.#chain.state.accounts.get(this.wallet.address);
    this.#count += 1n;
    const tx = signUnordered(this.wallet, {
      chainId: this.#chain.chainId,
      accountNumber: account?.number ?? 0n,
      messages,
      gas: GAS,
      feeUakt: FEE_UAKT,
      timeoutNanos: BigInt(this.#chain.timeMs + TTL_MS) * 1_000_000n + this.#count,
    });
    return this.#chain.submit(tx);
  }
}
