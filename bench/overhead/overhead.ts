import type { BenchContext, BenchResult, Benchmark } from '../benchmark.ts';
import { choosePlacement, pinSelf, type Child } from '../child.ts';
import { describeNoise, watchNoise } from '../noise.ts';
import { checkAccounting, readCommitWaitUs } from './gateway.ts';
import {
  SETTINGS_USAGE,
  checkAnswers,
  describeFailures,
  describeSettings,
  isWarmUp,
  measureAll,
  parseSettings,
} from './measuring.ts';
import { formatReport, summarise } from './summary.ts';
import { countAnswers, startSystems } from './systems.ts';

/** What a request costs more when it goes through the gateway, next to the least that a proxy on Node can cost. */
export const benchmark: Benchmark = {
  usage: `npm run bench -- overhead [--json FILE] [--seconds N] [--rounds N] [--systems LIST] [--quick]
${SETTINGS_USAGE}
  --systems LIST  any of dispatch,underbid; direct is always among them (direct,dispatch,underbid)
  --quick         one round of one second: to see that it works, not to quote`,
  run,
};

const SYSTEMS = ['direct', 'dispatch', 'underbid'] as const;

async function run(context: BenchContext): Promise<BenchResult> {
  const settings = parseSettings(context.argv, SYSTEMS);
  const placement = choosePlacement();
  if (placement !== undefined) pinSelf(placement);
  const children: Child[] = [];
  try {
    const { systems, mock, gateway } = await startSystems({ context, settings, placement, children });
    const problems = await checkAnswers(systems, context.signal);
    const readNoise = watchNoise([process.pid, ...children.map((child) => child.pid)]);
    const measures = await measureAll({ context, settings, placement, systems, mockPid: mock.pid });
    const noise = readNoise();
    const rows = summarise(measures.filter(({ round }) => !isWarmUp(round)));
    problems.push(...describeFailures(measures));
    let gatewaySettings = {};
    let commitWaitUs: number | undefined;
    if (gateway !== undefined) {
      const accounting = await checkAccounting(gateway, countAnswers(gateway, measures));
      problems.push(...accounting.problems);
      commitWaitUs = await readCommitWaitUs(gateway);
      gatewaySettings = { accounting, commit_wait_mean_us: commitWaitUs ?? null };
    }
    return {
      settings: { ...describeSettings(settings, placement), noise, ...gatewaySettings },
      rows,
      report: `${formatReport(rows, commitWaitUs)}\n\n${describeNoise(noise)}`,
      problems,
    };
  } finally {
    await Promise.all(children.map((child) => child.stop()));
  }
}
