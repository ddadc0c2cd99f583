import { chooseReplica, unreadOf } from '../../src/scheduler/pool/affinity.ts';
import { BLOCK_CHARS, CHARS_PER_TOKEN, type Opening } from '../../src/scheduler/pool/opening.ts';
import type { Seeded } from '../../src/scheduler/simulation/seeded.ts';
import { BLOCK_TOKENS, type Ask } from './loads.ts';
import type { Machine } from './machines.ts';

/** Where a request goes. Null: it waits in the gateway's own line until a slot is free. */
export type Policy = (ask: Ask, machines: readonly Machine[]) => Machine | null;

/** A block of these loads in blocks of the gateway's. */
const OWN_BLOCKS = (BLOCK_TOKENS * CHARS_PER_TOKEN) / BLOCK_CHARS;

export interface Router {
  readonly system: string;
  readonly policy: (random: Seeded) => Policy;
}

/** The rules as the projects' documentation and code have them (read to learn, written anew). */
export const ROUTERS: readonly Router[] = [
  { system: 'underbid', policy: () => underbid },
  { system: 'underbid-least-load', policy: () => (_ask, machines) => ours({ opening: undefined }, machines) },
  {
    system: 'random',
    policy: (random) => (_ask, machines) => machines[Math.floor(random() * machines.length)] ?? null,
  },
  { system: 'least-outstanding', policy: () => (_ask, machines) => leastLoaded(machines) },
  { system: 'power-of-two', policy: powerOfTwo },
  { system: 'kubeai-chwbl', policy: () => boundedHash() },
  { system: 'sglang-cache-aware', policy: () => cacheAware() },
  { system: 'aibrix-prefix', policy: () => aibrix() },
];

/** An opening ends there. */
const OPENING_BLOCKS = 128 / OWN_BLOCKS;

/** In the gateway's own blocks, which are smaller. */
export function openingOfAsk({ blocks }: Ask): Opening {
  const own = blocks.slice(0, OPENING_BLOCKS).flatMap((block) => {
    return Array.from({ length: OWN_BLOCKS }, (_, part) => block * OWN_BLOCKS + part);
  });
  return { session: null, blocks: own, size: blocks.length * OWN_BLOCKS };
}

function underbid(ask: Ask, machines: readonly Machine[]): Machine | null {
  const opening = openingOfAsk(ask);
  const chosen = ours({ opening }, machines);
  if (!chosen) return null;
  chosen.takes(ask, unreadOf(chosen.replica, opening));
  chosen.replica.remembered.note(opening);
  return chosen;
}

function ours(wish: Parameters<typeof chooseReplica>[1], machines: readonly Machine[]): Machine | null {
  const replicas = machines.map(({ replica }) => replica);
  const chosen = chooseReplica(replicas, wish, 0);
  return machines.find(({ replica }) => replica === chosen) ?? null;
}

function leastLoaded(machines: readonly Machine[]): Machine | null {
  return machines.reduce<Machine | null>((best, one) => (best === null || one.load < best.load ? one : best), null);
}

function powerOfTwo(random: Seeded): Policy {
  return (_ask, machines) => {
    const draw = (): Machine | undefined => machines[Math.floor(random() * machines.length)];
    return leastLoaded([draw(), draw()].filter((one) => one !== undefined));
  };
}

const mix = (value: number): number => Math.imul(value ^ (value >>> 15), 0x2c1b3c6d) >>> 0;

/** KubeAI: consistent hashing of the first 100 letters, 256 points a replica, none above 125 % of the mean load. */
function boundedHash(): Policy {
  let ring: ReturnType<typeof ringOf> | null = null;
  return ({ blocks }, machines) => {
    ring ??= ringOf(machines);
    const key = mix(blocks[0] ?? 0);
    const start = Math.max(
      0,
      ring.findIndex(({ at }) => at >= key),
    );
    const most = Math.ceil((1.25 * (machines.reduce((sum, { load }) => sum + load, 0) + 1)) / machines.length);
    for (let step = 0; step < ring.length; step += 1) {
      const machine = ring[(start + step) % ring.length]?.machine;
      if (machine && machine.load + 1 <= most) return machine;
    }
    return leastLoaded(machines);
  };
}

function ringOf(machines: readonly Machine[]): { machine: Machine; at: number }[] {
  const points = machines.flatMap((machine, at) =>
    Array.from({ length: 256 }, (_, point) => ({ machine, at: mix(mix(at + 1) + Math.imul(point + 1, 0x9e3779b9)) })),
  );
  return points.toSorted((a, b) => a.at - b.at);
}

/** What a router believes its machines have read; without a limit, which favours it. */
class Beliefs {
  readonly #known = new Map<Machine, Set<number>>();

  matched(machine: Machine, { blocks }: Ask): number {
    const known = this.#known.get(machine);
    const miss = blocks.findIndex((block) => !known?.has(block));
    return miss < 0 ? blocks.length : miss;
  }

  size(machine: Machine): number {
    return this.#known.get(machine)?.size ?? 0;
  }

  note(machine: Machine | null, { blocks }: Ask): Machine | null {
    if (!machine) return null;
    const known = this.#known.get(machine) ?? new Set();
    for (const block of blocks) known.add(block);
    this.#known.set(machine, known);
    return machine;
  }
}

/** SGLang: out of balance (more than 64 apart and 1.5 times) to the shortest line; else a match above 0.3; else the least load. */
function cacheAware(): Policy {
  const beliefs = new Beliefs();
  return (ask, machines) => {
    const loads = machines.map(({ load }) => load);
    const [least, most] = [Math.min(...loads), Math.max(...loads)];
    if (most - least > 64 && most > 1.5 * least) return beliefs.note(leastLoaded(machines), ask);
    const best = machines.reduce((a, b) => (beliefs.matched(b, ask) > beliefs.matched(a, ask) ? b : a));
    const share = beliefs.matched(best, ask) / Math.max(1, ask.blocks.length);
    return beliefs.note(share > 0.3 ? best : leastLoaded(machines), ask);
  };
}

/** AIBrix: more than 8 requests apart to the least loaded; else the best match at no more than mean plus one deviation. */
function aibrix(): Policy {
  const beliefs = new Beliefs();
  return (ask, machines) => {
    const loads = machines.map(({ load }) => load);
    if (Math.max(...loads) - Math.min(...loads) > 8) return beliefs.note(leastLoaded(machines), ask);
    const mean = loads.reduce((sum, load) => sum + load, 0) / loads.length;
    const deviation = Math.sqrt(loads.reduce((sum, load) => sum + (load - mean) ** 2, 0) / loads.length);
    const fit = machines.filter(({ load }) => load <= mean + deviation);
    const ranked = fit.toSorted((a, b) => beliefs.matched(b, ask) - beliefs.matched(a, ask) || a.load - b.load);
    return beliefs.note(ranked[0] ?? leastLoaded(machines), ask);
  };
}
