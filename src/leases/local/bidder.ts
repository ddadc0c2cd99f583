import type { Clock } from '../../clock.ts';
import type { LocalProvider } from '../../spec.ts';
import type { Ms, NanoUsd } from '../../units.ts';
import type { OrderRequest } from '../market.ts';
import type { Dispute } from '../dispute.ts';
import { answerByLog, type DeliveryHealth, type OwnAnswer } from './own-answer.ts';
import { askingPrice, decideBid, LOCAL_REGION, usedBp, type BidDecision, type Fitness } from './auction.ts';
import type { RunningServer, StartRequest, StartServer } from './delivery.ts';

/** What is known of a bidder's machines. */
export interface BidderFacts extends Fitness {
  /** How it makes its price, in a word. */
  readonly policy: string;
}

/** `startMs`: the bidder's own guess from lease to running. */
export type BidAnswer = BidDecision & { readonly startMs?: Ms | null };

/** A provider as the market deals with it, wherever it runs. */
export interface Bidder {
  readonly id: string;
  /** As they stand now: a provider that is away has no slots. */
  readonly facts: BidderFacts;
  /**
   * Its answer to an order, after its own time. `leases` tells how many it has when it is asked; the signal says that no
   * answer is wanted any more.
   */
  answer(order: OrderRequest, leases: () => number, signal: AbortSignal): Promise<BidAnswer>;
  /** What it would ask a block for one more lease beside so many; null, or left out: it does not publish that. */
  asks?(leases: number): NanoUsd | null;
  /** Starts the model server of a lease; rejects when it cannot, leaving nothing behind. */
  start(request: StartRequest): Promise<RunningServer>;
  /** A dispute with it was filed, or is decided. It may answer one that is open, now or later. */
  disputed?(dispute: Dispute, from: DisputeMeans): void;
}

export interface DisputeMeans {
  /** What the market knows of the lease's model server, where the provider is on this machine; else null. */
  readonly health: DeliveryHealth | null;
  /** @throws AppError `conflict` when it is too late or was answered */
  readonly answer: (answer: OwnAnswer) => Promise<void>;
}

/** A provider on this machine: it bids by its policy and starts model servers as our children. */
export class EmbeddedBidder implements Bidder {
  readonly id: string;
  readonly facts: BidderFacts;
  readonly #provider: LocalProvider;
  readonly #means: EmbeddedMeans;

  constructor(provider: LocalProvider, means: EmbeddedMeans) {
    const { id, slots, cpu, memoryBytes, gpus, audited, policy } = provider;
    this.id = id;
    this.facts = { slots, cpu, memoryBytes, gpus, audited, region: LOCAL_REGION, policy: policy.kind };
    this.#provider = provider;
    this.#means = means;
  }

  async answer(order: OrderRequest, leases: () => number, signal: AbortSignal): Promise<BidAnswer> {
    const { clock, blockMs } = this.#means;
    await clock.sleep(this.#provider.replyMs, signal);
    return decideBid(this.#provider, leases(), order, blockMs);
  }

  asks(leases: number): NanoUsd {
    return askingPrice(this.#provider, usedBp(this.#provider, leases), this.#means.blockMs).price;
  }

  start({ workload, apiKey, signal }: StartRequest): Promise<RunningServer> {
    return this.#means.startServer(workload, apiKey, signal);
  }

  /** By its log, at once; without one (it is of an earlier run) it has nothing to say. */
  disputed({ state, breach }: Dispute, { health, answer }: DisputeMeans): void {
    if (state !== 'open' || health === null) return;
    // One that was judged meanwhile needs no answer.
    answer(answerByLog(breach, health, this.#means.clock.now())).catch(() => undefined);
  }
}

export interface EmbeddedMeans {
  readonly clock: Clock;
  readonly blockMs: Ms;
  readonly startServer: StartServer;
}

/** The same for all providers of a list, which does not change. */
export function embeddedBidders(providers: readonly LocalProvider[], means: EmbeddedMeans): () => readonly Bidder[] {
  const bidders = providers.map((provider) => new EmbeddedBidder(provider, means));
  return () => bidders;
}
