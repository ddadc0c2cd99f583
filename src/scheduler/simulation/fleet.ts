import type { NanoUsd } from '../../units.ts';
import type { ReplicaState } from '../records.ts';
import type { SimulatedMarket } from './market.ts';
import type { SeenReplica } from './policy.ts';
import type { Server } from './server.ts';

/** A replica of a run; times are of the simulated clock. */
export interface SimulatedReplica {
  readonly id: string;
  state: ReplicaState;
  readonly orderedMs: number;
  provider: string | null;
  priceNanoUsdPerHour: NanoUsd;
  leasedMs: number | null;
  readyMs: number | null;
  drainMs: number | null;
  closedMs: number | null;
  lastUsedMs: number;
  server: Server | null;
  /** It takes requests and answers none. */
  dark: boolean;
  failed: boolean;
}

/** All replicas of a run: those that live, and what the closed ones cost. */
export class SimulatedFleet {
  readonly market: SimulatedMarket;
  live: SimulatedReplica[] = [];
  leases = 0;
  busyMs = 0;
  paidMs = 0;
  startingMs = 0;
  peak = 0;
  /** Sum of price times milliseconds paid: nano-USD hours in thousandths of a second, divided once at the end. */
  #priceMs = 0n;
  #today = { day: 0, priceMs: 0n };
  #count = 0;

  constructor(market: SimulatedMarket) {
    this.market = market;
  }

  get costNanoUsd(): NanoUsd {
    return this.#priceMs / 3_600_000n;
  }

  add(nowMs: number, ceilingNanoUsdPerHour: NanoUsd): SimulatedReplica {
    this.#count += 1;
    const replica: SimulatedReplica = {
      id: `r${this.#count}`,
      state: 'ordering',
      orderedMs: nowMs,
      provider: null,
      priceNanoUsdPerHour: ceilingNanoUsdPerHour,
      leasedMs: null,
      readyMs: null,
      drainMs: null,
      closedMs: null,
      lastUsedMs: nowMs,
      server: null,
      dark: false,
      failed: false,
    };
    this.live.push(replica);
    return replica;
  }

  find(id: string): SimulatedReplica | undefined {
    return this.live.find((replica) => replica.id === id);
  }

  /** The one with the fewest requests at work, of those that have a slot free and no more prompts than this still to read. */
  leastLoaded(slots: number, unreadMost: number): SimulatedReplica | null {
    let best: SimulatedReplica | null = null;
    let least = slots;
    for (const replica of this.live) {
      const { inFlight, unreadTokens } = replica.server ?? { inFlight: Infinity, unreadTokens: 0 };
      if (replica.state !== 'ready' || inFlight >= least || unreadTokens > unreadMost) continue;
      [best, least] = [replica, inFlight];
    }
    return best;
  }

  leased(replica: SimulatedReplica, nowMs: number): void {
    replica.leasedMs = nowMs;
    this.leases += 1;
    const leased = this.live.filter(({ leasedMs }) => leasedMs !== null).length;
    this.peak = Math.max(this.peak, leased);
  }

  /** Nothing of it is left or paid for any more. */
  close(replica: SimulatedReplica, nowMs: number, failed: boolean): void {
    if (replica.closedMs !== null) return;
    replica.state = 'closed';
    replica.closedMs = nowMs;
    this.live = this.live.filter((one) => one !== replica);
    if (replica.provider !== null) this.market.giveBack(replica.provider, failed);
    this.#account(replica, nowMs);
  }

  /** Since midnight of the simulated clock, for the budget of the day. */
  spentToday(nowMs: number): NanoUsd {
    const day = Math.floor(nowMs / DAY_MS);
    let priceMs = this.#today.day === day ? this.#today.priceMs : 0n;
    for (const { leasedMs, priceNanoUsdPerHour } of this.live) {
      if (leasedMs !== null) priceMs += priceNanoUsdPerHour * whole(nowMs - Math.max(leasedMs, day * DAY_MS));
    }
    return priceMs / 3_600_000n;
  }

  see(nowMs: number): SeenReplica[] {
    return this.live.map((replica) => {
      const { id, state, server, lastUsedMs, drainMs, priceNanoUsdPerHour, provider } = replica;
      const inFlight = server?.inFlight ?? 0;
      return {
        id,
        state,
        inFlight,
        idleMs: inFlight === 0 && replica.readyMs !== null ? nowMs - lastUsedMs : 0,
        drainSinceMs: drainMs,
        costNanoUsdPerHour: priceNanoUsdPerHour,
        provider,
        orderedMs: replica.orderedMs,
        leasedMs: replica.leasedMs,
        readyMs: replica.readyMs,
      };
    });
  }

  #account({ leasedMs, readyMs, priceNanoUsdPerHour, server }: SimulatedReplica, nowMs: number): void {
    if (leasedMs === null) return;
    const paidMs = Math.max(0, nowMs - leasedMs);
    this.#priceMs += priceNanoUsdPerHour * whole(paidMs);
    this.paidMs += paidMs;
    this.startingMs += Math.max(0, Math.min(readyMs ?? nowMs, nowMs) - leasedMs);
    this.busyMs += Math.min(server?.busyMs ?? 0, paidMs);
    const day = Math.floor(nowMs / DAY_MS);
    if (this.#today.day !== day) this.#today = { day, priceMs: 0n };
    this.#today.priceMs += priceNanoUsdPerHour * whole(nowMs - Math.max(leasedMs, day * DAY_MS));
  }
}

const DAY_MS = 86_400_000;
const whole = (ms: number): bigint => BigInt(Math.max(0, Math.round(ms)));
