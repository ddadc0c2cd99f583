import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createIds, systemRandom } from '../../src/random.ts';
import { openLedger, runCheck } from '../../src/ledger/client.ts';
import type { Ledger } from '../../src/ledger/operations.ts';
import { formatTable, median, UsageError, type BenchContext, type Benchmark, type BenchResult } from '../benchmark.ts';
import { describeMachine } from '../machine.ts';
import { openNaive } from './two-commits.ts';

/** How many requests a second can be held and charged durably: our one writer with group commit, and two commits each. */
export const benchmark: Benchmark = {
  usage: `npm run bench -- ledger [--json FILE] [--seconds N] [--rounds N]
  --seconds N  measured time of each system and round, 1 to 60 (4)
  --rounds N   of each figure the median is taken, 1 to 9 (3)`,
  run,
};

/** Requests under way at once. */
const CONCURRENCY = [1, 32, 256, 1024];
const CREDIT = 9_000_000_000_000n;
const PRICE = { inputPico: 20_000n, cachedInputPico: 10_000n, outputPico: 50_000n };
const HELD = 100_000n;

type Pair = (id: string) => Promise<void> | void;

type Measured = {
  readonly system: string;
  readonly scenario: string;
  readonly pairs_per_s: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly fsync_p50_us: number;
};

async function run(context: BenchContext): Promise<BenchResult> {
  const { seconds, rounds } = parseSettings(context.argv);
  const raw: Measured[] = [];
  const problems: string[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    context.say(`round ${round} of ${rounds}`);
    const folder = join(context.folder, `round-${round}`);
    mkdirSync(folder);
    const fsync = describeMachine(folder).fsync_p50_us;
    raw.push(...(await measureNaive(folder, seconds, fsync, context.signal)));
    const ours = await measureOurs(folder, seconds, fsync, context.signal);
    raw.push(...ours.rows);
    if (!ours.ok) problems.push('the ledger check failed after the run');
  }
  const rows = summarise(raw);
  return { settings: { seconds, rounds, held_nano_usd: String(HELD) }, rows, report: report(rows), problems };
}

async function measureOurs(
  folder: string,
  seconds: number,
  fsync: number,
  signal: AbortSignal,
): Promise<{ rows: Measured[]; ok: boolean }> {
  const dataDir = join(folder, 'ours');
  mkdirSync(dataDir);
  const ledger = await openLedger({
    dataDir,
    onFatal: (error) => {
      throw error;
    },
  });
  try {
    const pair = await openAccount(ledger);
    const rows: Measured[] = [];
    for (const concurrency of CONCURRENCY) {
      const figures = await load({ pair, concurrency, seconds, signal });
      rows.push({ system: 'group-commit', scenario: `c${concurrency}`, ...figures, fsync_p50_us: fsync });
    }
    await ledger.close();
    return { rows, ok: (await runCheck(dataDir)).ok };
  } finally {
    await ledger.close();
  }
}

async function openAccount(ledger: Ledger): Promise<Pair> {
  const atMs = Date.now();
  await ledger.ask({ op: 'customer', id: 'bench', name: 'bench', atMs });
  const grant = { op: 'grant', id: 'g', customer: 'bench', kind: 'paid', amount: CREDIT, expiresMs: null } as const;
  await ledger.ask({ ...grant, actor: 'bench', reason: 'bench', atMs });
  const priceVersion = await ledger.ask({ op: 'price', model: 'm', price: PRICE, atMs });
  const tokens = { inputTokens: 148, cachedTokens: 0, outputTokens: 20 };
  return async (request) => {
    const now = Date.now();
    const hold = { op: 'hold', request, customer: 'bench', key: null, model: 'm', priceVersion, amount: HELD } as const;
    const held = await ledger.ask({ ...hold, atMs: now, deadlineMs: now + 600_000 });
    if (!held.ok) throw new Error(`a hold was refused: ${held.why}`);
    const detail = { stream: true, provider: 'bench', finish: 'stop' };
    await ledger.ask({ op: 'settle', request, tokens, status: 'done', detail, atMs: now });
  };
}

async function measureNaive(folder: string, seconds: number, fsync: number, signal: AbortSignal): Promise<Measured[]> {
  const naive = openNaive(join(folder, 'naive.db'), CREDIT);
  try {
    // Synchronous: more callers at once would only wait for one another.
    const figures = await load({ pair: (id) => naive.pair(id, HELD), concurrency: 1, seconds, signal });
    return [{ system: 'two-commits', scenario: 'c1', ...figures, fsync_p50_us: fsync }];
  } finally {
    naive.close();
  }
}

async function load(options: {
  readonly pair: Pair;
  readonly concurrency: number;
  readonly seconds: number;
  readonly signal: AbortSignal;
}): Promise<{ pairs_per_s: number; p50_us: number; p99_us: number }> {
  const { pair, concurrency, seconds, signal } = options;
  // As the gateway makes them: rising, so that an index on them grows at its end.
  const ids = createIds(systemRandom);
  const start = performance.now();
  const end = start + seconds * 1000;
  const took: number[] = [];
  const worker = async (): Promise<void> => {
    while (performance.now() < end) {
      signal.throwIfAborted();
      const from = performance.now();
      await pair(ids('gen-'));
      took.push((performance.now() - from) * 1000);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, () => worker()));
  const passed = (performance.now() - start) / 1000;
  took.sort((a, b) => a - b);
  const at = (share: number): number => Math.round(took[Math.floor((took.length - 1) * share)] ?? Number.NaN);
  return { pairs_per_s: Math.round(took.length / passed), p50_us: at(0.5), p99_us: at(0.99) };
}

function summarise(raw: readonly Measured[]): Measured[] {
  const names = [...new Set(raw.map(({ system, scenario }) => `${system} ${scenario}`))];
  return names.map((name) => {
    const own = raw.filter(({ system, scenario }) => `${system} ${scenario}` === name);
    const middle = (pick: (row: Measured) => number): number => Math.round(median(own.map(pick)));
    const [system = '', scenario = ''] = name.split(' ');
    return {
      system,
      scenario,
      pairs_per_s: middle((row) => row.pairs_per_s),
      p50_us: middle((row) => row.p50_us),
      p99_us: middle((row) => row.p99_us),
      fsync_p50_us: middle((row) => row.fsync_p50_us),
    };
  });
}

function report(rows: readonly Measured[]): string {
  const base = rows.find(({ system }) => system === 'two-commits')?.pairs_per_s ?? Number.NaN;
  const table = formatTable(
    ['system', 'at once', 'pairs/s', 'to two commits', 'p50 us', 'p99 us', 'fsync p50 us'],
    rows.map(({ system, scenario, pairs_per_s: pairs, p50_us: p50, p99_us: p99, fsync_p50_us: fsync }) => {
      return [
        system,
        scenario,
        String(pairs),
        `${(pairs / base).toFixed(1)}x`,
        String(p50),
        String(p99),
        String(fsync),
      ];
    }),
  );
  return `${table}\n\nA pair is a hold and its settlement, on disk (synchronous=FULL) when it is acknowledged.`;
}

function parseSettings(argv: readonly string[]): { seconds: number; rounds: number } {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { seconds: { type: 'string' }, rounds: { type: 'string' } },
    });
    const [seconds, rounds] = [Number(values.seconds ?? 4), Number(values.rounds ?? 3)];
    if (!(seconds >= 1 && seconds <= 60)) throw new UsageError('--seconds is 1 to 60');
    if (!Number.isInteger(rounds) || rounds < 1 || rounds > 9) throw new UsageError('--rounds is 1 to 9');
    return { seconds, rounds };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
