import type { Clock } from '../clock.ts';
import type { TokenCounts } from '../ledger/pricing.ts';
import type { PoolRouter } from '../scheduler/pool/router.ts';
import type { Target, Wish } from '../scheduler/pool/slot.ts';
import type { EpochMs, Ms, NanoUsd, Tokens } from '../units.ts';
import type { Reservation } from './admission.ts';
import type { Continuation } from './leg.ts';
import type { ReplySink, WholeReply } from './transport.ts';
import type { Upstream } from './upstream.ts';
import type { Watch } from './watch.ts';

export interface RelayDeps {
  readonly clock: Clock;
  readonly upstream: Upstream;
  readonly watch: () => Watch;
  readonly limits: { readonly replyBytes: number; readonly eventBytes: number };
  readonly log: (line: string) => void;
}

/** Called before the settlement, with what makes the reply once its cost is known. */
export type KeepReply = (tokens: TokenCounts, compose: (cost: NanoUsd) => WholeReply) => Promise<void>;

/** One request, admitted and paid for, on its way to replicas. */
export interface RelayJob {
  readonly id: string;
  /** Of every reply: request id and rate limits. */
  readonly headers: Readonly<Record<string, string>>;
  readonly createdMs: EpochMs;
  /** The public model id. */
  readonly model: string;
  readonly router: PoolRouter;
  readonly account: string;
  /** What it asks of its machine. */
  readonly wish: Pick<Wish, 'needs' | 'opening' | 'request'>;
  readonly path: string;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Ask the model server for a stream, whatever the client gets. */
  readonly streamUpstream: boolean;
  readonly choices: number;
  readonly inputBound: Tokens;
  /** What the prompt is at least: charged where something was delivered and the server never said. */
  readonly inputLeast: Tokens;
  /** Per choice: the maximum that the model server is given. */
  readonly outputMax: Tokens;
  readonly maxWaitMs: Ms;
  /** The request as the model server of this choice gets it, from the start or to go on with what was delivered. */
  readonly bodyOf: (choice: number, from: Continuation | null, target: Target) => string;
  /** Plain text in one choice: another machine can go on with it, where the pool can. */
  readonly resumable: boolean;
  readonly reservation: Reservation;
  /** Keeps the reply of an answer in one piece for a repeat of its request; null without an Idempotency-Key. */
  readonly keep: KeepReply | null;
  readonly sink: ReplySink;
}
