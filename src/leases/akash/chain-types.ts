import type { EpochMs } from '../../units.ts';
import type { Micro } from './amounts.ts';
import type { GroupSpecJson } from './sdl.ts';

/** What the market sees of the chain: no type of cosmjs or chain-sdk goes beyond the files `chain*.ts`. */

export interface DeploymentId {
  readonly owner: string;
  readonly dseq: bigint;
}

export interface Escrow {
  readonly state: 'open' | 'closed' | 'overdrawn';
  /** As of `settledAt`: rent since then is not taken off (akash.md 4). */
  readonly funds: Micro;
  /** Paid out to providers so far. */
  readonly transferred: Micro;
  readonly settledAt: number;
}

export interface ChainDeployment extends DeploymentId {
  readonly groupName: string;
  readonly state: 'active' | 'closed';
  readonly version: string;
  readonly createdAt: number;
  readonly escrow: Escrow;
}

export interface ChainBid {
  readonly provider: string;
  readonly gseq: number;
  readonly oseq: number;
  readonly bseq: number;
  readonly state: 'open' | 'active' | 'lost' | 'closed';
  readonly denom: string;
  /** Per block, a decimal with at most 18 places. */
  readonly price: string;
  readonly createdAt: number;
  /** Attributes of the GPUs that would really be given. */
  readonly gpus: readonly string[];
}

export interface ChainLease {
  readonly provider: string;
  readonly gseq: number;
  readonly oseq: number;
  readonly bseq: number;
  readonly state: 'active' | 'insufficient_funds' | 'closed';
  /** Its provider takes the machine back: until then it runs, and is paid for. */
  readonly reclaimMs: EpochMs | null;
  readonly price: string;
  readonly createdAt: number;
  readonly closedOn: number;
  /** Why it was closed: akash.md 4; 0 where the chain lost it. */
  readonly reason: number;
}

export interface ChainProvider {
  readonly owner: string;
  readonly hostUri: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** Who signed attributes of it. */
  readonly auditors: readonly string[];
}

/** What may still be put into escrows out of somebody's funds, and until when; null: without end. */
export interface DepositGrant {
  readonly amount: Micro;
  readonly untilMs: EpochMs | null;
}

/** What somebody still pays of another's fees, in uakt; null: no limit. */
export interface FeeGrant {
  readonly amount: bigint | null;
  readonly untilMs: EpochMs | null;
}

/** A transaction that was signed: enough to send it again and to find out what became of it. */
export interface SignedTx {
  /** Hex, in capitals: how nodes know it. */
  readonly hash: string;
  readonly bytesBase64: string;
  /** After the chain's clock has passed this, it can never be included. */
  readonly timeoutMs: EpochMs;
}

export interface Included {
  readonly hash: string;
  readonly height: number;
  /** 0: it did what it says. */
  readonly code: number;
  readonly log: string;
  readonly gasUsed: bigint;
  readonly feeUakt: bigint;
}

export type TxOutcome =
  | { readonly kind: 'included'; readonly tx: Included }
  /** It is not on the chain and can never be. */
  | { readonly kind: 'never' }
  /** It may still be included, or nobody could be asked. */
  | { readonly kind: 'pending'; readonly reason: string };

export type SendOutcome =
  | { readonly kind: 'done'; readonly tx: Included }
  | { readonly kind: 'refused'; readonly reason: string }
  /** Its hash was noted: `outcomeOf` tells later. */
  | { readonly kind: 'unknown'; readonly reason: string };

export type Order =
  | {
      readonly type: 'create_deployment';
      readonly id: DeploymentId;
      readonly group: GroupSpecJson;
      readonly version: Uint8Array;
      readonly deposit: Micro;
      /** The least notice before a provider takes the machine back; null: none is asked for. */
      readonly reclamationMs?: number | null;
    }
  | { readonly type: 'deposit'; readonly id: DeploymentId; readonly amount: Micro }
  | { readonly type: 'create_lease'; readonly id: DeploymentId; readonly bid: ChainBid }
  | { readonly type: 'close_deployment'; readonly id: DeploymentId }
  /** `from` lets `to` pay deposits of its own deployments out of the funds of `from`. */
  | {
      readonly type: 'grant_deposits';
      readonly from: string;
      readonly to: string;
      readonly amount: Micro;
      readonly untilMs: EpochMs;
    }
  /** `from` pays the network's fees of `to`. */
  | {
      readonly type: 'grant_fees';
      readonly from: string;
      readonly to: string;
      readonly uakt: bigint;
      readonly untilMs: EpochMs;
    }
  /** AKT into ACT, by the network's queue. `worth` is what it comes to before the spread, as far as we know. */
  | { readonly type: 'mint_act'; readonly owner: string; readonly burnUakt: bigint; readonly worth: Micro }
  | { readonly type: 'revoke_fees'; readonly from: string; readonly to: string }
  | { readonly type: 'create_certificate'; readonly owner: string; readonly cert: string; readonly publicKey: string };

export type Permit =
  /** `giveBack`: it is certain that nothing was spent. `noted`: this transaction pays it, in place of any before. */
  | {
      readonly kind: 'granted';
      readonly giveBack: () => Promise<void>;
      readonly noted: (hash: string) => Promise<void>;
    }
  | { readonly kind: 'refused'; readonly reason: string };

/** Stands at the chain's one door: nothing is sent that it refuses, whoever asks, and it hears of all that was included. */
export interface Guard {
  permit(orders: readonly Order[]): Promise<Permit>;
  /** Before each signing. Null: the fee may be paid; else why not. */
  fee(uakt: bigint, orders: readonly Order[]): Promise<string | null>;
  /** A transaction of ours is in a block, whether it did what it says or not. It may be told of one more than once. */
  included(tx: Included): Promise<void>;
  /** It is certain that a transaction of ours paid nothing but its fee. It may be told so more than once. */
  unspent(hash: string): Promise<void>;
}

/** How the network mints, as it says now. */
export interface MintTerms {
  /** Less is cancelled. */
  readonly least: Micro;
  readonly spreadBp: number;
  readonly allowed: boolean;
  /** As the network names it: healthy, warning, halt_cr, halt_oracle. */
  readonly status: string;
  /** USD of one AKT in 1e-18; null: no healthy price is known. */
  readonly price: bigint | null;
}

/** One entry of the network's mint queue. */
export interface MintRecord {
  readonly height: number;
  readonly burnUakt: bigint;
  readonly state: 'pending' | 'executed' | 'cancelled';
  /** Before the spread. */
  readonly minted: Micro;
  readonly spread: Micro;
  /** Of a cancelled one. */
  readonly reason: string;
}
