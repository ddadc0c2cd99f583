import type { Attribute } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import type { GroupSpec } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import type { ResourceOffer } from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import type { Coin, Dec, DecCoin } from './decimal.ts';

/** The chain's whole state: tables of values that are never changed in place, so a copy of the tables is a snapshot. */

export interface AuthAccount {
  readonly address: string;
  readonly number: bigint;
  readonly sequence: bigint;
  /** Compressed secp256k1; null until its first transaction. */
  readonly pubkey: Uint8Array | null;
}

export interface GroupId {
  readonly owner: string;
  readonly dseq: bigint;
  readonly gseq: number;
}

export interface OrderId extends GroupId {
  readonly oseq: number;
}

/** Of bids and of leases; bseq is 0 on today's chain. */
export interface BidId extends OrderId {
  readonly provider: string;
}

export interface Deployment {
  readonly owner: string;
  readonly dseq: bigint;
  readonly state: 'active' | 'closed';
  readonly hash: Uint8Array;
  readonly createdAt: number;
  readonly reclamationS: bigint | null;
}

export interface Group {
  readonly id: GroupId;
  readonly state: 'open' | 'paused' | 'insufficient_funds' | 'closed';
  readonly spec: GroupSpec;
  readonly createdAt: number;
}

export interface Order {
  readonly id: OrderId;
  readonly state: 'open' | 'active' | 'closed';
  readonly spec: GroupSpec;
  readonly createdAt: number;
  readonly reclamationS: bigint | null;
}

export interface Bid {
  readonly id: BidId;
  readonly state: 'open' | 'active' | 'lost' | 'closed';
  readonly price: DecCoin;
  readonly createdAt: number;
  readonly offer: readonly ResourceOffer[];
  readonly reclamationS: bigint | null;
}

export interface Reclamation {
  readonly windowS: bigint;
  readonly startedAt: number;
  readonly deadlineS: bigint;
  readonly reason: number;
}

export interface Lease {
  readonly id: BidId;
  readonly state: 'active' | 'insufficient_funds' | 'closed' | 'reclaiming';
  readonly price: DecCoin;
  readonly createdAt: number;
  readonly closedOn: number;
  readonly reason: number;
  readonly reclamation: Reclamation | null;
}

export type EscrowState = 'open' | 'closed' | 'overdrawn';

export interface Depositor {
  readonly owner: string;
  readonly height: number;
  readonly source: 'balance' | 'grant';
  readonly balance: DecCoin;
}

export interface EscrowAccount {
  readonly scope: 'deployment' | 'bid';
  readonly xid: string;
  readonly owner: string;
  readonly state: EscrowState;
  readonly transferred: readonly DecCoin[];
  readonly settledAt: number;
  readonly funds: readonly DecCoin[];
  readonly deposits: readonly Depositor[];
}

export interface EscrowPayment {
  readonly scope: 'deployment' | 'bid';
  readonly accountXid: string;
  readonly xid: string;
  readonly owner: string;
  readonly state: EscrowState;
  readonly rate: DecCoin;
  readonly balance: Dec;
  readonly unsettled: Dec;
  readonly withdrawn: bigint;
}

export interface Certificate {
  readonly owner: string;
  readonly serial: string;
  readonly state: 'valid' | 'revoked';
  readonly cert: Uint8Array;
  readonly pubkey: Uint8Array;
}

export interface Provider {
  readonly owner: string;
  readonly hostUri: string;
  readonly attributes: readonly Attribute[];
  readonly info: { readonly email: string; readonly website: string };
}

export interface Audit {
  readonly owner: string;
  readonly auditor: string;
  readonly attributes: readonly Attribute[];
}

/** A DepositAuthorization of the granter's to the grantee. */
export interface DepositGrant {
  readonly granter: string;
  readonly grantee: string;
  readonly scopes: readonly number[];
  readonly limits: readonly Coin[];
  readonly expiresS: bigint | null;
}

export interface FeeAllowance {
  readonly granter: string;
  readonly grantee: string;
  /** Null: no limit. */
  readonly limit: readonly Coin[] | null;
  readonly expiresS: bigint | null;
  /** Null: any message. */
  readonly messages: readonly string[] | null;
}

export interface MintRecord {
  readonly source: string;
  readonly denom: string;
  readonly toDenom: string;
  readonly height: number;
  readonly sequence: number;
  readonly burn: Coin;
  readonly status: 'pending' | 'executed' | 'canceled';
  readonly attempts: number;
  readonly minted: Coin | null;
  readonly spread: Coin | null;
  readonly cancelReason: number;
}

/** Undoes what a failed transaction did. */
class Journal {
  #undo: (() => void)[] = [];

  push(undo: () => void): void {
    this.#undo.push(undo);
  }

  mark(): number {
    return this.#undo.length;
  }

  rollback(mark: number): void {
    for (const undo of this.#undo.splice(mark).toReversed()) undo();
  }

  forget(): void {
    this.#undo = [];
  }
}

export class Table<V> {
  readonly #rows: Map<string, V>;
  readonly #journal: Journal;

  constructor(journal: Journal, rows: ReadonlyMap<string, V> = new Map()) {
    this.#journal = journal;
    this.#rows = new Map(rows);
  }

  get(key: string): V | undefined {
    return this.#rows.get(key);
  }

  set(key: string, value: V): void {
    const before = this.#rows.get(key);
    this.#journal.push(() => {
      if (before === undefined) this.#rows.delete(key);
      else this.#rows.set(key, before);
    });
    this.#rows.set(key, value);
  }

  delete(key: string): void {
    const before = this.#rows.get(key);
    if (before === undefined) return;
    this.#journal.push(() => this.#rows.set(key, before));
    this.#rows.delete(key);
  }

  values(): V[] {
    return [...this.#rows.values()];
  }

  entries(): [string, V][] {
    return [...this.#rows];
  }

  copy(journal: Journal): Table<V> {
    return new Table(journal, this.#rows);
  }
}

const TABLES = () => {
  const journal = new Journal();
  return {
    journal,
    accounts: new Table<AuthAccount>(journal),
    /** By `address denom`. */
    balances: new Table<bigint>(journal),
    supply: new Table<bigint>(journal),
    grants: new Table<DepositGrant>(journal),
    allowances: new Table<FeeAllowance>(journal),
    deployments: new Table<Deployment>(journal),
    groups: new Table<Group>(journal),
    orders: new Table<Order>(journal),
    bids: new Table<Bid>(journal),
    leases: new Table<Lease>(journal),
    escrows: new Table<EscrowAccount>(journal),
    payments: new Table<EscrowPayment>(journal),
    certificates: new Table<Certificate>(journal),
    providers: new Table<Provider>(journal),
    audits: new Table<Audit>(journal),
    mints: new Table<MintRecord>(journal),
    /** Time-outs that unordered transactions used, by `address nanoseconds`, until they pass. */
    nonces: new Table<bigint>(journal),
    /** Numbers of modules: the next epoch of mints, what is pending, what was minted. */
    numbers: new Table<bigint>(journal),
  };
};

export type State = ReturnType<typeof TABLES>;

export const emptyState = (): State => TABLES();

/** As it is now, for queries of a node that lags behind. */
export function snapshot(state: State): State {
  const { journal: _old, ...tables } = state;
  const { journal } = emptyState();
  const copies = Object.entries(tables).map(([name, table]) => [name, (table as Table<unknown>).copy(journal)]);
  return { journal, ...Object.fromEntries(copies) } as State;
}

export const deploymentKey = ({ owner, dseq }: { owner: string; dseq: bigint }): string => `${owner}/${dseq}`;
export const groupKey = (id: GroupId): string => `${deploymentKey(id)}/${id.gseq}`;
export const orderKey = (id: OrderId): string => `${groupKey(id)}/${id.oseq}`;
export const bidKey = (id: BidId): string => `${orderKey(id)}/${id.provider}`;
export const escrowKey = (scope: string, xid: string): string => `${scope} ${xid}`;
export const paymentKey = (scope: string, accountXid: string, xid: string): string => `${scope} ${accountXid} ${xid}`;
/** Within the deployment's escrow. */
export const leasePaymentXid = (id: BidId): string => `${id.gseq}/${id.oseq}/${id.provider}`;
