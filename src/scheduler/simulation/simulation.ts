import type { Offer } from '../choice.ts';
import type { Action } from '../plan.ts';
import { isForThoseInTime, isInTime, unreadMost } from '../pool/turns.ts';
import { summarise, type Figures } from './figures.ts';
import { SimulatedFleet, type SimulatedReplica } from './fleet.ts';
import type { Load } from './load.ts';
import { SimulatedMarket, type Trouble } from './market.ts';
import type { Policy, PolicyView } from './policy.ts';
import { Heap } from './queue.ts';
import { Requests } from './requests.ts';
import type { Scenario } from './scenario.ts';
import { seeded } from './seeded.ts';
import { Server } from './server.ts';
import { rateOn } from './speeds.ts';

/** An order that nobody bid for falls after so long, whoever placed it. */
const NO_BID_MS = 30_000;

/**
 * One run: a load, a market, a policy, and a clock that jumps from event to event. The same arguments give the same run.
 * The pool's minimum is warm at the beginning and paid from then on.
 */
export function simulate(scenario: Scenario, load: Load, policy: Policy, seed: number): Figures {
  return new Run(scenario, load, policy, seed).run();
}

class Run {
  readonly #scenario: Scenario;
  readonly #policy: Policy;
  readonly #requests: Requests;
  readonly #market: SimulatedMarket;
  readonly #fleet: SimulatedFleet;
  readonly #timers = new Heap<() => void>();
  #nowMs = 0;
  #tickMs = 0;
  #turns = 0;

  constructor(scenario: Scenario, load: Load, policy: Policy, seed: number) {
    this.#scenario = scenario;
    this.#policy = policy;
    this.#requests = new Requests(load, scenario);
    this.#market = new SimulatedMarket(scenario, seeded(seed, 'market'));
    this.#fleet = new SimulatedFleet(this.#market);
  }

  run(): Figures {
    const { spanMs } = this.#requests.load;
    this.#warm();
    for (const trouble of this.#scenario.troubles) this.#at(trouble.atMs, () => this.#strike(trouble));
    while (this.#nowMs < spanMs || this.#requests.open > 0) this.#next();
    for (const replica of [...this.#fleet.live]) this.#fleet.close(replica, this.#nowMs, false);
    return summarise(this.#requests, this.#fleet);
  }

  #warm(): void {
    for (let count = 0; count < this.#scenario.spec.replicasMin; count += 1) {
      const replica = this.#fleet.add(0, this.#scenario.spec.ceilingNanoUsdPerHour);
      const offers = this.#market.providers
        .map(({ id }) => this.#market.offer(replica.id, id, 0))
        .filter((offer) => offer !== null);
      const offer = this.#policy.choose(offers, this.#view());
      if (offer) this.#lease(replica, offer, 0);
      else this.#fleet.close(replica, 0, false);
    }
  }

  /** Goes to the next event and lets it happen. */
  #next(): void {
    const { arrivals, line } = this.#requests;
    let server: SimulatedReplica | null = null;
    let atMs = Math.min(this.#requests.nextArrivalMs, this.#timers.least, this.#tickMs);
    const oldest = line.first;
    const leaveMs = oldest === undefined ? Infinity : this.#requests.arrivedMs(oldest) + this.#scenario.patienceMs;
    atMs = Math.min(atMs, leaveMs);
    for (const replica of this.#fleet.live) {
      if (replica.dark || replica.server === null) continue;
      const { nextMs } = replica.server;
      if (nextMs < atMs) [atMs, server] = [nextMs, replica];
    }
    this.#nowMs = Math.max(this.#nowMs, atMs);
    if (server) return this.#progress(server);
    if (this.#timers.least <= atMs) return this.#timers.pop()?.();
    if (this.#requests.nextArrivalMs <= atMs && arrivals < this.#requests.load.atMs.length) return this.#arrive();
    if (leaveMs <= atMs && oldest !== undefined) {
      line.shift();
      return this.#requests.fail(oldest, this.#nowMs);
    }
    this.#tickMs = this.#nowMs + this.#policy.tickMs;
    this.#decide();
  }

  #at(atMs: number, call: () => void): void {
    this.#timers.push(Math.max(atMs, this.#nowMs), call);
  }

  #arrive(): void {
    const cold = !this.#fleet.live.some(({ state }) => state === 'ready');
    const request = this.#requests.arrive(this.#nowMs, cold);
    if (cold && !this.#policy.traits.holdsAtZero) this.#requests.fail(request, this.#nowMs);
    else {
      this.#requests.line.push(request);
      this.#serveLine();
    }
    if (cold && this.#policy.wakes && !this.#fleet.live.some(({ state }) => state !== 'draining')) this.#decide();
  }

  #serveLine(): void {
    const { line, promisedMs } = this.#requests;
    const most = unreadMost(this.#policy.traits.prefillTokensPerS, promisedMs);
    while (line.size > 0) {
      const replica = this.#fleet.leastLoaded(this.#scenario.model.slots, most);
      if (!replica?.server) return;
      const next = this.#nextInLine();
      if (next === undefined) return;
      replica.lastUsedMs = this.#nowMs;
      replica.server.accept(this.#requests.job(next), this.#nowMs);
    }
  }

  #nextInLine(): number | undefined {
    const { line } = this.#requests;
    if (!this.#policy.traits.lateYields || line.first === undefined) return line.shift();
    this.#turns += 1;
    if (!isForThoseInTime(this.#turns, this.#requests.inLine(line.first), this.#nowMs)) return line.shift();
    return line.take((request) => isInTime(this.#requests.inLine(request), this.#nowMs));
  }

  #progress(replica: SimulatedReplica): void {
    const { first, ended } = replica.server?.step(this.#nowMs) ?? { first: [], ended: [] };
    for (const request of first) this.#requests.first(request, this.#nowMs);
    for (const request of ended) this.#requests.end(request, this.#nowMs);
    replica.lastUsedMs = this.#nowMs;
    if (first.length + ended.length > 0) this.#serveLine();
    if (replica.state === 'draining' && replica.server?.inFlight === 0) this.#drained(replica);
  }

  #view(): PolicyView {
    const { arrivals, askedTokens, line, open, inputTokens, outputTokens, ended, late, begun } = this.#requests;
    const oldest = line.first;
    const { spec } = this.#scenario;
    return {
      nowMs: this.#nowMs,
      spec,
      replicas: this.#fleet.see(this.#nowMs),
      waiting: line.size,
      inFlight: open - line.size,
      arrivals,
      requestMs: this.#requests.requestMsAt(this.#nowMs),
      oldestWaitMs: oldest === undefined ? 0 : this.#nowMs - this.#requests.arrivedMs(oldest),
      askedTokens,
      inputTokens,
      outputTokens,
      ended,
      late,
      begun,
      spentTodayNanoUsd: spec.budget.dayNanoUsd === null ? 0n : this.#fleet.spentToday(this.#nowMs),
    };
  }

  #decide(): void {
    for (const action of this.#policy.decide(this.#view())) this.#act(action);
  }

  #act(action: Action): void {
    if (action.type === 'order') return this.#order();
    if (!('replica' in action)) return;
    const replica = this.#fleet.find(action.replica);
    if (!replica) return;
    if (action.type === 'drain' && replica.state === 'ready') this.#drain(replica);
    else if (action.type === 'close' && replica.state === 'draining') this.#lose(replica, false);
    else if (action.type === 'withdraw' && replica.readyMs === null) this.#fleet.close(replica, this.#nowMs, false);
  }

  #order(): void {
    const replica = this.#fleet.add(this.#nowMs, this.#scenario.spec.ceilingNanoUsdPerHour);
    const bids = this.#market.tender(this.#nowMs);
    const firstMs = Math.min(...bids.map(({ afterMs }) => afterMs));
    if (firstMs > NO_BID_MS) return this.#at(this.#nowMs + NO_BID_MS, () => this.#fell(replica));
    const windowMs = firstMs + this.#scenario.spec.bidWindowMs;
    const inTime = bids.filter(({ afterMs }) => afterMs <= windowMs);
    this.#at(this.#nowMs + windowMs, () => {
      if (replica.state !== 'ordering') return;
      const offers = inTime
        .map(({ provider }) => this.#market.offer(replica.id, provider, this.#nowMs))
        .filter((offer) => offer !== null);
      const offer = this.#policy.choose(offers, this.#view());
      if (offer) this.#take(replica, offer);
      else this.#fell(replica);
    });
  }

  #fell(replica: SimulatedReplica): void {
    if (replica.state === 'ordering') this.#fleet.close(replica, this.#nowMs, false);
  }

  /** The bid is taken in the next block; rent runs from then on. */
  #take(replica: SimulatedReplica, offer: Offer): void {
    this.#reserve(replica, offer);
    replica.state = 'accepting';
    this.#at(this.#nowMs + this.#market.terms.blockMs, () => {
      if (replica.state !== 'accepting') return;
      const { model, spec } = this.#scenario;
      this.#fleet.leased(replica, this.#nowMs);
      replica.state = 'starting';
      const startMs = this.#market.drawStartMs(offer.bid.provider, model);
      if (startMs <= spec.limits.startMs) this.#at(this.#nowMs + startMs, () => this.#ready(replica));
      else this.#at(this.#nowMs + spec.limits.startMs, () => this.#lose(replica, true));
    });
  }

  #reserve(replica: SimulatedReplica, { bid }: Offer): void {
    replica.provider = bid.provider;
    replica.priceNanoUsdPerHour = (bid.priceNanoUsdPerBlock * 3_600_000n) / BigInt(this.#market.terms.blockMs);
    this.#market.take(bid.provider);
  }

  #lease(replica: SimulatedReplica, offer: Offer, nowMs: number): void {
    this.#reserve(replica, offer);
    this.#fleet.leased(replica, nowMs);
    replica.state = 'starting';
    this.#ready(replica);
  }

  #ready(replica: SimulatedReplica): void {
    const { provider, state } = replica;
    if (state !== 'starting' || provider === null) return;
    replica.state = 'ready';
    replica.readyMs = this.#nowMs;
    replica.lastUsedMs = this.#nowMs;
    replica.server = new Server(rateOn(this.#scenario.model, this.#market.provider(provider).gpu), this.#nowMs);
    this.#policy.told?.({ provider, ok: true, nowMs: this.#nowMs });
    this.#serveLine();
  }

  #drain(replica: SimulatedReplica): void {
    const { drainMs, drainLeastMs } = this.#policy.traits;
    replica.state = 'draining';
    replica.drainMs = this.#nowMs;
    this.#at(this.#nowMs + drainLeastMs, () => this.#drained(replica));
    this.#at(this.#nowMs + Math.max(drainMs, drainLeastMs), () => {
      if (replica.state === 'draining') this.#lose(replica, false);
    });
  }

  #drained(replica: SimulatedReplica): void {
    if (replica.state !== 'draining' || (replica.server?.inFlight ?? 0) > 0) return;
    if (this.#nowMs - (replica.drainMs ?? 0) < this.#policy.traits.drainLeastMs) return;
    this.#fleet.close(replica, this.#nowMs, false);
  }

  /** It is gone, and what it was at work on with it, unless the gateway takes that elsewhere. */
  #lose(replica: SimulatedReplica, failed: boolean): void {
    const { retriesUnbegun, resumes } = this.#policy.traits;
    const left = replica.server?.left() ?? [];
    this.#fleet.close(replica, this.#nowMs, failed);
    if (failed && replica.provider !== null) {
      this.#policy.told?.({ provider: replica.provider, ok: false, nowMs: this.#nowMs });
    }
    const again: number[] = [];
    for (const { request, tokensLeft } of left) {
      if (this.#requests.hasBegun(request) ? !resumes : !retriesUnbegun) this.#requests.fail(request, this.#nowMs);
      else {
        this.#requests.cutTo(request, tokensLeft);
        again.push(request);
      }
    }
    this.#requests.line.unshift(again.toSorted((a, b) => a - b));
    this.#serveLine();
  }

  #strike(trouble: Trouble): void {
    if (trouble.kind === 'replica_dies') {
      const oldest = this.#fleet.live.find(({ state }) => state === 'ready');
      if (oldest) this.#lose(oldest, true);
      return;
    }
    if (trouble.kind !== 'provider_dies' && trouble.kind !== 'provider_dark') return;
    this.#market.gone(trouble.provider);
    const hit = this.#fleet.live.filter(({ provider }) => provider === trouble.provider);
    for (const replica of hit) {
      if (trouble.kind === 'provider_dies' || replica.state !== 'ready') this.#lose(replica, true);
      else {
        replica.dark = true;
        const { darkMs } = this.#policy.traits;
        this.#at(this.#nowMs + Math.min(darkMs, this.#scenario.patienceMs), () => {
          if (replica.closedMs === null) this.#lose(replica, true);
        });
      }
    }
  }
}
