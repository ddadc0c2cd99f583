import type { Clock } from '../../clock.ts';
import type { Ledger } from '../../ledger/operations.ts';
import type { Ms } from '../../units.ts';
import type { DisputeRecords } from '../dispute-records.ts';
import type { MarketTerms } from '../market.ts';
import type { MarketRecords } from '../records.ts';
import type { Resolve } from './address.ts';
import type { Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { Keyring, Wallet } from './chain-wallet.ts';
import type { GrantRules } from './grants.ts';
import type { SecretOf } from './manifest-secrets.ts';
import type { MintRules } from './mint-plan.ts';
import type { AkashOrders } from './orders.ts';
import type { AkashProviders } from './providers.ts';
import type { AkashRecords } from './records.ts';
import type { TreasuryRecords } from './treasury-records.ts';

/** What an operator sets of the market. */
export interface AkashRules {
  readonly denom: string;
  /** Paid into an order's escrow when it is posted; null: the chain's least. */
  readonly orderDeposit: Micro | null;
  /** The most that goes into escrows within an hour, and within a day; null: no limit. */
  readonly depositsPerHour: Micro | null;
  readonly depositsPerDay?: Micro | null;
  /** The same of network fees, in uakt, and of mints, in uact. */
  readonly feesPerDayUakt?: bigint | null;
  readonly mintsPerDay?: Micro | null;
  /** Absent: the stock of ACT is not looked after. */
  readonly mint?: MintRules | null;
  /** Between two looks at the money; default 30 s. */
  readonly moneyMs?: Ms;
  /** How long a transaction may be on its way; default 30 s. */
  readonly sendingMs?: Ms;
  readonly expose: 'port' | 'ingress' | 'ip';
  readonly ingressTls: boolean;
  readonly auditors: readonly string[];
  readonly defaultImage: string | null;
  readonly allowPrivate: boolean;
  /** Each pool pays from a derived wallet that holds nothing: the treasury's grants pay its deposits and fees. */
  readonly walletPerPool: boolean;
}

/** What every part of the market needs. */
export interface AkashParts {
  readonly chain: Chain;
  readonly orders: AkashOrders;
  readonly providers: AkashProviders;
  readonly rules: AkashRules;
  readonly clock: Clock;
  readonly resolve: Resolve;
  readonly wallet: (index: number) => Wallet;
  /** Pools whose wallets have grants; any other pays from the treasury's own. */
  readonly pools: ReadonlySet<string>;
  readonly leaseKey: (leaseId: string) => string;
  readonly secretOf: SecretOf;
  readonly terms: () => MarketTerms;
  readonly orderDeposit: () => Micro;
  /** Why an amount cannot be paid from a wallet now; null: it can. */
  readonly insolvent: (walletIndex: number, amount: Micro) => Promise<string | null>;
  readonly signal: AbortSignal;
  readonly onChange: () => void;
  /** Why nothing can be posted on the chain now; null: it can. */
  readonly problem: () => string | null;
  readonly log: (line: string) => void;
}

/** What the market is made of. */
export interface AkashMarketOptions {
  /** The chain, which ends with the signal. */
  readonly newChain: (signal: AbortSignal) => Chain;
  /** Between two looks at it. */
  readonly pollMs: Ms;
  readonly rules: AkashRules;
  readonly grants: GrantRules;
  readonly keyring: Keyring;
  /** Whose wallets are looked through for what is ours. */
  readonly pools: readonly string[];
  readonly records: AkashRecords;
  readonly treasuryRecords: TreasuryRecords;
  readonly disputes: DisputeRecords;
  readonly marketRecords: MarketRecords;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly resolve: Resolve;
  readonly leaseKey: (leaseId: string) => string;
  /** Secrets that pools name; read anew for each order. */
  readonly secretOf?: SecretOf;
  readonly log: (line: string) => void;
}
