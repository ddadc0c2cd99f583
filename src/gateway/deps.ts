import type { Clock } from '../clock.ts';
import type { Admin } from '../ledger/access.ts';
import type { Ledger } from '../ledger/operations.ts';
import type { RandomBytes } from '../random.ts';
import type { Pools } from '../scheduler/pool/pools.ts';
import type { Keys } from './auth.ts';
import type { BodyRoom } from './body-room.ts';
import type { Subtle } from './idempotency.ts';
import type { Limiter } from './limits.ts';
import type { Reach } from './needs.ts';
import type { ProviderDoor } from './provider-door.ts';
import type { PromptCounter } from './tokenizer.ts';
import type { Transport } from './transport.ts';
import type { Upstream } from './upstream.ts';
import type { Watch } from './watch.ts';

export interface GatewayLimits {
  readonly bodyBytes: number;
  readonly requestsMax: number;
  /** A model server's whole reply, and one event of its stream. */
  readonly replyBytes: number;
  readonly eventBytes: number;
  /** A reply that is kept for a repeat under its Idempotency-Key. */
  readonly replayBytes: number;
  /** Of keys that set none of their own. */
  readonly keyRequestsPerMinute: number;
  readonly keyTokensPerMinute: number;
  readonly keyConcurrency: number;
}

export interface AppDeps {
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly subtle: Subtle;
  readonly newId: (prefix: string) => string;
  readonly ledger: Ledger;
  readonly keys: Keys;
  readonly pools: Pools;
  readonly upstream: Upstream;
  /** On Node one for all requests, on workerd one for each. */
  readonly watch: () => Watch;
  readonly transport: Transport;
  /** Null on the edge, where nothing is rented. */
  readonly fleet: FleetOperations | null;
  /** Providers who may join from elsewhere; null where there is no market for them. */
  readonly joining?: ProviderDoor | null;
  /** Which gateway leads, ready to be shown; left out where there is one alone. */
  readonly leader?: () => { readonly epoch: number };
  readonly adminKeyHash: string | null;
  readonly limiter: Limiter;
  readonly bodyRoom: BodyRoom;
  readonly promptCounter: PromptCounter;
  readonly limits: GatewayLimits;
  /** Left out: what the markets have is not known, so nothing is refused for it. */
  readonly reach?: Reach | undefined;
  /** Credit that an account got for breaches of a pool's promise, the latest first. */
  readonly slaCredits?: (account: string) => Promise<readonly Record<string, unknown>[]>;
  /** Why requests cannot be taken now, or null. */
  readonly notReady: () => string | null;
  /** Names of markets that take no orders now; requests are served all the same. */
  readonly degraded?: () => readonly string[];
  readonly log: (line: string) => void;
}

export interface AppEnv {
  Variables: {
    requestId: string;
    /** Who calls an admin route. */
    admin: Admin;
    /** `x-ratelimit-*` as they stand when the reply is made. */
    rateHeaders: (() => Readonly<Record<string, string>>) | undefined;
  };
}

/** What is asked of a lease's log. */
export interface LeaseLogs {
  readonly what: 'logs' | 'events';
  readonly follow: boolean;
  readonly tail: number;
  readonly service: string | null;
}

export interface LogLine {
  readonly source: string;
  readonly text: string;
}

/**
 * What the admin routes ask of the parts that the gateway does not know (scheduler, leases). The entry passes it in, so
 * that no chain code comes with the gateway. Everything returned is ready to be shown: decimal strings, no secrets.
 */
export interface FleetOperations {
  pools(): unknown[];
  pool(id: string): unknown;
  /** What a pool, or each of them, brings in and costs, and which prices would carry it. */
  advice(id: string | null): unknown[];
  putPool(id: string, input: unknown): Promise<{ readonly created: boolean; readonly pool: unknown }>;
  deletePool(id: string): Promise<void>;
  /** Orders nothing more for a pool, gives back what it has, refuses its requests, until it is resumed. Idempotent. */
  pausePool(id: string, reason: string): Promise<unknown>;
  resumePool(id: string): Promise<unknown>;
  /** How often an account may wake pools without paying, and has today. */
  wakeAllowance(account: string): unknown;
  /** @param perDay null: as each pool says */
  setWakeAllowance(account: string, perDay: number | null): Promise<unknown>;
  replicas(): unknown[];
  orders(options: { readonly limit: number }): Promise<unknown[]>;
  leases(): Promise<unknown[]>;
  lease(id: string): Promise<unknown>;
  /** @throws AppError `not_found`; what the lines throw is the provider's */
  leaseLogs(id: string, request: LeaseLogs, signal: AbortSignal): Promise<AsyncIterable<LogLine>>;
  closeLease(id: string): Promise<unknown>;
  /** Closes it, too. */
  disputeLease(id: string, reason: string): Promise<unknown>;
  disputes(): Promise<unknown[]>;
  dispute(id: string): Promise<unknown>;
  judgeDispute(id: string, verdict: { readonly upheld: boolean; readonly reason: string }): Promise<unknown>;
  /** Each market, and why it takes no orders now, if it does not. */
  markets(): unknown[];
  providers(): Promise<unknown[]>;
  /** What came in and went out, by pool, account or provider. */
  margin(asked: {
    readonly fromMs: number;
    readonly toMs: number;
    readonly groupBy: 'pool' | 'account' | 'provider';
  }): Promise<{ readonly data: readonly Record<string, string>[]; readonly total: Record<string, string> }>;
  /** What leases are paid from, market by market. */
  treasury(): Promise<unknown>;
  /** Whether everything is stopped, and what is still open. */
  panic(): Promise<unknown>;
  /** Closes every lease everywhere and places no order any more, until it is taken back. Idempotent. */
  startPanic(reason: string): Promise<unknown>;
  endPanic(): Promise<unknown>;
  decisions(options: { readonly pool?: string | undefined; readonly limit: number }): Promise<unknown[]>;
}
