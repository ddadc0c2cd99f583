import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

/** The house's rules that a machine can check: who imports whom, what pure files may use, how long files are. */

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FILES = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => ({ path, text: readFileSync(join(ROOT, 'src', path), 'utf8') }));

const BASE = ['errors', 'units', 'clock', 'random'];
/** An area may import itself and what is listed; whatever is not listed is an error. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  errors: [],
  units: [],
  clock: ['units'],
  random: [],
  spec: ['errors', 'units'],
  store: ['errors', 'units', 'clock'],
  ledger: ['store', 'spec', ...BASE],
  deposits: ['ledger', 'store', 'spec', ...BASE],
  leases: ['leases/market', 'ledger', 'store', 'spec', ...BASE],
  'leases/market': ['spec', 'errors', 'units'],
  scheduler: ['scheduler/pool', 'leases/market', 'ledger', 'store', 'spec', ...BASE],
  'scheduler/pool': ['spec', ...BASE],
  gateway: ['scheduler/pool', 'ledger', 'spec', ...BASE],
  config: ['spec', ...BASE],
  entry: [
    'config',
    'gateway',
    'scheduler',
    'scheduler/pool',
    'leases',
    'leases/market',
    'ledger',
    'store',
    'spec',
    ...BASE,
  ],
};

/** Entries: what runs, and what they are made of. Nothing imports them. */
const ENTRIES = /^(node|worker|cli)(\.ts|\/)/;

function areaOf(path: string): string {
  if (ENTRIES.test(path)) return 'entry';
  if (path === 'leases/market.ts') return 'leases/market';
  if (path.startsWith('scheduler/pool/')) return 'scheduler/pool';
  return path.split('/')[0]?.replace(/\.ts$/, '') ?? '';
}

interface Import {
  readonly from: string;
  readonly specifier: string;
  readonly target: string | null;
}

function importsOf({ path, text }: { path: string; text: string }): Import[] {
  const found = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^'";]*?from\s+'([^']+)'|import\(\s*'([^']+)'\s*\)|(?:^|\n)import\s+'([^']+)'/g,
  );
  return [...found].map((match) => {
    const specifier = match[1] ?? match[2] ?? match[3] ?? '';
    const target = specifier.startsWith('.')
      ? relative(join(ROOT, 'src'), resolve(ROOT, 'src', dirname(path), specifier))
      : null;
    return { from: path, specifier, target };
  });
}

const IMPORTS = FILES.flatMap(importsOf);

test('every file imports only what the table of the house allows its folder', () => {
  assert.ok(IMPORTS.length > 200, 'the imports were read');
  const wrong = IMPORTS.filter(({ from, target }) => {
    if (target === null) return false;
    const [area, wanted] = [areaOf(from), areaOf(target)];
    return area !== wanted && !MAY_IMPORT[area]?.includes(wanted);
  });
  assert.deepEqual(
    wrong.map(({ from, target }) => `${from} -> ${target}`),
    [],
  );
});

test('every relative import names a file that exists', () => {
  const known = new Set(FILES.map(({ path }) => path));
  const missing = IMPORTS.filter(({ target }) => target !== null && !known.has(target));
  assert.deepEqual(missing, []);
});

test('there is no cycle between files, type imports included', () => {
  const edges = new Map<string, string[]>();
  for (const { from, target } of IMPORTS) if (target !== null) edges.set(from, [...(edges.get(from) ?? []), target]);
  const state = new Map<string, 'open' | 'done'>();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === 'done') return;
    if (state.get(path) === 'open') {
      cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '));
      return;
    }
    state.set(path, 'open');
    for (const next of edges.get(path) ?? []) visit(next, [...trail, path]);
    state.set(path, 'done');
  };
  for (const { path } of FILES) visit(path, []);
  assert.deepEqual(cycles, []);
});

/** The chain's libraries stay behind these files: the network plans to leave its chain. */
const CHAIN_CODE = /^(leases\/akash\/chain[a-z-]*\.ts|leases\/akash\/devnet\/|deposits\/cosmos\.ts)/;

test('only the files of the chain import its libraries', () => {
  const wrong = IMPORTS.filter(
    ({ from, specifier }) => /^(@cosmjs\/|cosmjs-types|@akashnetwork\/)/.test(specifier) && !CHAIN_CODE.test(from),
  );
  assert.deepEqual(
    wrong.map(({ from, specifier }) => `${from} -> ${specifier}`),
    [],
  );
  assert.ok(IMPORTS.some(({ specifier }) => specifier.startsWith('@cosmjs/')));
});

test('the worker pulls in no Node module, no undici and no chain code', () => {
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    for (const { from, target, specifier } of IMPORTS) {
      if (from !== path) continue;
      if (target !== null) visit(target);
      else assert.doesNotMatch(specifier, /^(node:|undici|libsql|@libsql|@cosmjs|@hono\/node-server)/, path);
    }
  };
  visit('worker.ts');
  assert.ok(reached.has('gateway/relay.ts'));
});

/** Decisions: data in, data with its reason out. */
const PURE = [
  'scheduler/demand.ts',
  'scheduler/lateness.ts',
  'scheduler/scale.ts',
  'scheduler/place.ts',
  'scheduler/ceiling.ts',
  'scheduler/choice.ts',
  'scheduler/life.ts',
  'scheduler/moving.ts',
  'scheduler/pool-plan.ts',
  'scheduler/prices.ts',
  'scheduler/turnover.ts',
  'scheduler/window.ts',
  'scheduler/plan.ts',
  'scheduler/reputation.ts',
  'scheduler/track-record.ts',
  'scheduler/pool-record.ts',
  'scheduler/work-sample.ts',
  'scheduler/holding.ts',
  'spec/gpu-table.ts',
  'scheduler/simulation/bound.ts',
  'scheduler/simulation/fleet.ts',
  'scheduler/simulation/load.ts',
  'scheduler/simulation/market.ts',
  'scheduler/simulation/requests.ts',
  'scheduler/simulation/seeded.ts',
  'scheduler/simulation/server.ts',
  'scheduler/simulation/speeds.ts',
  'scheduler/simulation/simulation.ts',
  'scheduler/simulation/synthetic.ts',
  'scheduler/simulation/traces.ts',
  'scheduler/simulation/underbid.ts',
  'leases/dispute.ts',
  'scheduler/canary/sequential-test.ts',
  'scheduler/canary/distance.ts',
  'scheduler/canary/honest.ts',
  'scheduler/canary/questions.ts',
  'leases/machine.ts',
  'leases/rent.ts',
  'leases/withholding.ts',
  'leases/akash/amounts.ts',
  'leases/akash/bids.ts',
  'leases/akash/jwt.ts',
  'leases/akash/lease-rows.ts',
  'leases/akash/names.ts',
  'leases/akash/sdl.ts',
  'leases/akash/workload.ts',
  'leases/local/auction.ts',
  'spec/dispute.ts',
  'scheduler/sla/credit-plan.ts',
  'ledger/pricing.ts',
  'ledger/accounts.ts',
  'leases/akash/devnet/akt-fallback.ts',
  'leases/akash/devnet/bank-rules.ts',
  'leases/akash/devnet/bme-rules.ts',
  'leases/akash/devnet/context.ts',
  'leases/akash/devnet/decimal.ts',
  'leases/akash/devnet/denials.ts',
  'leases/akash/devnet/deployment-rules.ts',
  'leases/akash/devnet/deposit-rules.ts',
  'leases/akash/devnet/escrow-rules.ts',
  'leases/akash/devnet/fee-rules.ts',
  'leases/akash/devnet/group-checks.ts',
  'leases/akash/devnet/market-rules.ts',
  'leases/akash/devnet/order-rules.ts',
  'leases/akash/devnet/provider-spec.ts',
  'leases/akash/devnet/protobuf.ts',
  'leases/akash/devnet/state.ts',
  'leases/akash/devnet/tx.ts',
  'units.ts',
  'spec.ts',
];

test('pure files have no async, no clock, no randomness and no I/O', () => {
  for (const path of PURE) {
    const file = FILES.find((one) => one.path === path);
    assert.ok(file, path);
    const code = file.text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
    assert.doesNotMatch(code, /\basync\b|\bawait\b|\bPromise\b|\bDate\b|Math\.random|\bclock\b|node:|console\./, path);
  }
});

/** What may touch time or randomness besides clock.ts and random.ts, and why. */
const TIME_EXCEPTIONS: Record<string, string> = {
  'ledger/thread.ts': 'a thread of its own, which no test drives by hand',
  'ledger/client.ts': 'setImmediate gathers the messages of one turn of the event loop',
  'gateway/node-transport.ts': "a socket's own limit on how long nothing is taken from it",
};

test('only clock.ts and random.ts touch time and randomness', () => {
  for (const { path, text } of FILES) {
    if (path === 'clock.ts' || path === 'random.ts' || path in TIME_EXCEPTIONS) continue;
    const code = text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
    assert.doesNotMatch(
      code,
      /Date\.now|new Date\(\)|\bset(Timeout|Interval|Immediate)\(|Math\.random|performance\.now/,
      path,
    );
  }
});

test('no file of the sources is longer than 300 lines', () => {
  const long = FILES.filter(({ text }) => text.split('\n').length > 301).map(({ path }) => path);
  assert.deepEqual(long, []);
});

test('files are named in kebab-case after a noun of the domain', () => {
  for (const { path } of FILES) {
    for (const part of path.split('/')) {
      assert.match(part, /^[a-z][a-z0-9]*(-[a-z0-9]+)*(\.ts)?$/, path);
      assert.doesNotMatch(part, /^(utils?|helpers?|managers?|services?|common)(\.ts)?$/, path);
    }
  }
});

test('nothing in the repository names a path of a machine', () => {
  const places = ['src', 'test', 'bench', 'bin', '.ci'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  for (const place of [...places, join(ROOT, 'README.md'), join(ROOT, 'package.json')]) {
    assert.doesNotMatch(readFileSync(place, 'utf8'), /\/(root|work|mnt|opt\/wheels)\/[a-z]/, relative(ROOT, place));
  }
});
