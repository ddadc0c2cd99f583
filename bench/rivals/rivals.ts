import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchContext, BenchResult, Benchmark } from '../benchmark.ts';
import { cacheFolder } from '../cache-folder.ts';
import { choosePlacement, freePort, pinSelf, startChild, type Child } from '../child.ts';
import { describeNoise, watchNoise } from '../noise.ts';
import { checkChat } from '../overhead/chat.ts';
import { checkAccounting } from '../overhead/gateway.ts';
import {
  SETTINGS_USAGE,
  checkAnswers,
  describeFailures,
  describeSettings,
  isWarmUp,
  measureAll,
  parseSettings,
  type Stage,
  type System,
} from '../overhead/measuring.ts';
import { summarise } from '../overhead/summary.ts';
import { countAnswers, startSystems, type Started } from '../overhead/systems.ts';
import { OURS, RIVALS, type Rival } from './catalogue.ts';
import { LeftOut, installRival, whyNotStarted } from './installation.ts';
import { formatRivals, ratiosToOurs, type Absent } from './report.ts';

/**
 * Other open gateways beside ours, in one run: the mock, the load and the placement are those of `overhead`. Each is
 * fetched once from its package registry into the cache, exact versions all the way down (`pins/`), and configured as
 * its own documentation has it for production, as far as that goes without a database (`catalogue.ts`). One that cannot
 * be had, does not start or answers wrongly is left out, and the report says why.
 *
 * Not among them, since they come as containers or from a host that is no package registry:
 * - Bifrost: its npm package downloads the program from the maker's host, and no version of its Go module is served.
 * - TensorZero: PyPI has its client only. Its gateway, Envoy AI Gateway and Helicone's are container images.
 */
export const benchmark: Benchmark = {
  usage: `npm run bench -- rivals [--json FILE] [--seconds N] [--rounds N] [--systems LIST] [--quick]
${SETTINGS_USAGE}
  --systems LIST  any of dispatch,underbid,${RIVALS.map(({ name }) => name).join(',')}; direct is always among them (all)
  --quick         one round of one second: to see that it works, not to quote
The rivals are fetched on first use, about ${RIVALS.reduce((sum, { megabytes }) => sum + megabytes, 0)} MB`,
  run,
};

const NAMES: readonly string[] = ['direct', ...OURS.map(({ name }) => name), ...RIVALS.map(({ name }) => name)];

/** LiteLLM imports for seconds, for half a minute on a busy machine. */
const READY_MS = 120_000;

async function run(context: BenchContext): Promise<BenchResult> {
  const settings = parseSettings(context.argv, NAMES);
  const asked = RIVALS.filter(({ name }) => settings.systems.includes(name));
  // Before anything is pinned or started: fetching takes its time.
  const { found: installed, absent } = await sift(asked, (rival) => install(rival, context));
  const placement = choosePlacement();
  if (placement !== undefined) pinSelf(placement);
  const children: Child[] = [];
  const stage = { context, settings, placement, children };
  try {
    const { systems, mock, gateway } = await startSystems(stage);
    const problems = await checkAnswers(systems, context.signal);
    const key = systems[0]?.key ?? '';
    const started = await sift(installed, ({ rival, folder }) => startRival({ ...stage, rival, folder, mock, key }));
    absent.push(...started.absent);
    systems.push(...started.found);
    const readNoise = watchNoise([process.pid, ...children.map((child) => child.pid)]);
    const measures = await measureAll({ ...stage, systems, mockPid: mock.pid });
    const noise = readNoise();
    const rows = summarise(
      measures.filter(({ round }) => !isWarmUp(round)),
      NAMES,
    );
    problems.push(...describeFailures(measures));
    const accounting = gateway && (await checkAccounting(gateway, countAnswers(gateway, measures)));
    problems.push(...(accounting?.problems ?? []));
    const present = [...OURS, ...RIVALS].filter(({ name }) => systems.some((system) => system.name === name));
    return {
      settings: {
        ...describeSettings(settings, placement),
        noise,
        accounting: accounting ?? null,
        present: present.map(({ name, version, checks, accounts }) => ({ name, version, checks, accounts })),
        left_out: absent,
        ratios_to_underbid: ratiosToOurs(rows),
      },
      rows,
      report: `${formatRivals(rows, present, absent)}\n\n${describeNoise(noise)}`,
      problems,
    };
  } finally {
    await Promise.all(children.map((child) => child.stop()));
  }
}

interface Installed {
  readonly rival: Rival;
  readonly folder: string;
}

/** One by one, what works and what does not; only a `LeftOut` is a reason to go on without one. */
async function sift<From extends Rival | Installed, To>(
  all: readonly From[],
  step: (one: From) => Promise<To>,
): Promise<{ found: To[]; absent: Absent[] }> {
  const found: To[] = [];
  const absent: Absent[] = [];
  for (const one of all) {
    try {
      found.push(await step(one));
    } catch (error) {
      if (!(error instanceof LeftOut)) throw error;
      const { name, version } = 'rival' in one ? one.rival : one;
      absent.push({ name, version, why: error.message });
    }
  }
  return { found, absent };
}

async function install(rival: Rival, context: BenchContext): Promise<Installed> {
  const say = (line: string): void => context.say(line);
  const options = { cache: cacheFolder(), env: process.env, signal: context.signal, say };
  return { rival, folder: await installRival(rival, options) };
}

interface Start extends Stage, Installed {
  readonly children: Child[];
  readonly mock: Started['mock'];
  readonly key: string;
}

async function startRival(start: Start): Promise<System> {
  const { context, placement, rival, folder, mock, key } = start;
  const { signal } = context;
  const port = await freePort();
  const configPath = join(context.folder, `${rival.name}.yaml`);
  const launch = rival.launch({
    installed: folder,
    port,
    sidePort: await freePort(),
    mockPort: mock.port,
    key,
    configPath,
    loopback: new URL('./loopback.ts', import.meta.url).href,
  });
  if (launch.config !== undefined) writeFileSync(configPath, launch.config);
  const { headers = {} } = launch;
  const ready = async (): Promise<boolean> => {
    const problem = await checkChat({ port, key, headers, stream: false, signal });
    // Whatever else is wrong with an answer does not get better by waiting.
    return problem?.startsWith('status 5') !== true;
  };
  context.say(`starting ${rival.name} ${rival.version}`);
  const child = await startChild({
    ...launch,
    folder: context.folder,
    ready,
    readyMs: READY_MS,
    cores: placement?.all,
    signal,
  }).catch((error: unknown) => {
    signal.throwIfAborted();
    throw new LeftOut(whyNotStarted(error instanceof Error ? error.message : String(error)));
  });
  const system = { name: rival.name, port, key, headers, pid: child.pid, threaded: true };
  const [problem] = await checkAnswers([system], signal).catch((error: unknown) => [String(error)]);
  if (problem !== undefined) {
    await child.stop();
    signal.throwIfAborted();
    throw new LeftOut(`it does not answer as it should: ${problem}`);
  }
  start.children.push(child);
  return system;
}
