import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { rememberedMax } from '../../src/scheduler/pool/opening.ts';
import { seeded } from '../../src/scheduler/simulation/seeded.ts';
import { formatTable, UsageError, type Benchmark, type BenchRow } from '../benchmark.ts';
import { BLOCK_TOKENS, drawConversations, readMooncake, type Ask } from './loads.ts';
import { Machine, SERVER } from './machines.ts';
import { ROUTERS, type Router } from './policies.ts';

const MACHINES = 8;
const SEEDS = 3;
const USAGE = `usage: npm run bench -- routing [--trace FILE|FOLDER] [--json FILE]
Simulated: which of ${MACHINES} replicas a request goes to, by the gateway's own rule and by others', on made-up conversations and on
Mooncake's trace (JSON lines with hash_ids; in a folder: mooncake-conversation.jsonl).`;

export const benchmark: Benchmark = {
  usage: USAGE,
  run: async (context) => {
    const { argv, signal } = context;
    const cases = [{ scenario: 'conversations', load: drawConversations, seeds: SEEDS }, ...traceCases(argv)];
    const rows: BenchRow[] = [];
    for (const { scenario, load, seeds } of cases) {
      for (let seed = 1; seed <= seeds; seed += 1) {
        const asks = load(seed);
        context.say(`${scenario}, seed ${seed}: ${asks.length} requests`);
        for (const router of ROUTERS) {
          signal.throwIfAborted();
          rows.push({ system: router.system, scenario, seed, ...simulate(asks, router, seed) });
        }
        rows.push({ system: 'shared-cache-without-end', scenario, seed, prefix_hit_share: ceiling(asks) });
      }
    }
    return {
      settings: { machines: MACHINES, ...SERVER, block_tokens: BLOCK_TOKENS },
      rows,
      report: report(rows),
      problems: [],
    };
  },
};

function traceCases(argv: readonly string[]): { scenario: string; load: () => Ask[]; seeds: number }[] {
  const [flag, path, ...rest] = argv;
  if (flag === undefined) return [];
  if (flag !== '--trace' || path === undefined || rest.length > 0) throw new UsageError(`unknown: ${argv.join(' ')}`);
  if (!existsSync(path)) throw new UsageError(`there is no ${path}`);
  const file = statSync(path).isDirectory() ? join(path, 'mooncake-conversation.jsonl') : path;
  if (!existsSync(file)) throw new UsageError(`there is no ${file}`);
  try {
    const asks = readMooncake(readFileSync(file, 'utf8'));
    return [{ scenario: basename(file, '.jsonl'), load: () => asks, seeds: 1 }];
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Blocks that the gateway remembers of a replica. */
const REMEMBERED = rememberedMax(1, SERVER.cacheTokens);

function simulate(asks: readonly Ask[], router: Router, seed: number): Record<string, number> {
  const machines = Array.from({ length: MACHINES }, (_, at) => new Machine(at, REMEMBERED));
  const policy = router.policy(seeded(seed, router.system));
  const line: Ask[] = [];
  const events: Event[] = [];
  const waits: number[] = [];
  const totals = { hit: 0, input: 0 };
  const serve = (ask: Ask, machine: Machine, nowMs: number): void => {
    const { firstTokenMs, endMs, hitTokens } = machine.serve(ask, nowMs);
    insert(events, { atMs: firstTokenMs, machine, begun: ask });
    insert(events, { atMs: endMs, machine, begun: null });
    waits.push(firstTokenMs - ask.atMs);
    totals.hit += hitTokens;
    totals.input += ask.inputTokens;
  };
  const place = (ask: Ask, nowMs: number): boolean => {
    const machine = policy(ask, machines);
    if (!machine) return false;
    if (machine.free) serve(ask, machine, nowMs);
    else machine.queue.push(ask);
    return true;
  };
  const goOnUntil = (untilMs: number): void => {
    for (let event = events[0]; event && event.atMs <= untilMs; event = events[0]) {
      events.shift();
      const { machine, begun, atMs } = event;
      if (begun) {
        machine.begins(begun);
        continue;
      }
      machine.replica.inFlight -= 1;
      const next = machine.queue.shift();
      if (next) serve(next, machine, atMs);
      else if (line[0] && place(line[0], atMs)) line.shift();
    }
  };
  for (const ask of asks) {
    goOnUntil(ask.atMs);
    if (line.length > 0 || !place(ask, ask.atMs)) line.push(ask);
  }
  goOnUntil(Infinity);
  const sorted = waits.toSorted((a, b) => a - b);
  const at = (share: number): number => Math.round(sorted[Math.floor(share * (sorted.length - 1))] ?? 0) / 1000;
  const prefix_hit_share = round(totals.hit / totals.input);
  return { prefix_hit_share, ttft_p50_s: at(0.5), ttft_p90_s: at(0.9), ttft_p99_s: at(0.99), served: waits.length };
}

interface Event {
  readonly atMs: number;
  readonly machine: Machine;
  /** Whose first token this is; null: an answer has ended. */
  readonly begun: Ask | null;
}

function insert(events: Event[], event: Event): void {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((events[middle]?.atMs ?? 0) <= event.atMs) low = middle + 1;
    else high = middle;
  }
  events.splice(low, 0, event);
}

/** What no router can pass: one cache for all, without end. */
function ceiling(asks: readonly Ask[]): number {
  const seen = new Set<number>();
  let [hit, input] = [0, 0];
  for (const { blocks, inputTokens } of asks) {
    const miss = blocks.findIndex((block) => !seen.has(block));
    hit += Math.min(inputTokens, (miss < 0 ? blocks.length : miss) * BLOCK_TOKENS);
    input += inputTokens;
    for (const block of blocks) seen.add(block);
  }
  return round(hit / input);
}

const round = (value: number): number => Math.round(value * 10_000) / 10_000;

function report(rows: readonly BenchRow[]): string {
  const keys = [...new Set(rows.map(({ scenario, system }) => `${scenario}\n${system}`))];
  const lines = keys.map((key) => {
    const [scenario = '', system = ''] = key.split('\n');
    const own = rows.filter((row) => row.scenario === scenario && row.system === system);
    const mean = (name: string, digits: number, factor = 1): string => {
      const values = own.map((row) => row[name]).filter((value) => typeof value === 'number');
      if (values.length === 0) return '-';
      return ((factor * values.reduce((sum, value) => sum + value, 0)) / values.length).toFixed(digits);
    };
    const times = ['ttft_p50_s', 'ttft_p90_s', 'ttft_p99_s'].map((name) => mean(name, 2));
    return [scenario, system, mean('prefix_hit_share', 1, 100), ...times];
  });
  return formatTable(['scenario', 'system', 'prefix hits %', 'TTFT p50 s', 'p90 s', 'p99 s'], lines);
}
