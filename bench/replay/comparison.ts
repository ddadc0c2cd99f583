import { formatTable } from '../benchmark.ts';

/** What a setting cost and how soon it answered, on real model servers or in the simulation. */
export interface Outcome {
  readonly cost_usd: number;
  readonly within_share: number;
  readonly ttft_p50_s: number;
  readonly ttft_p99_s: number;
  readonly failed_requests: number;
}

export interface Answered {
  /** null: it failed. */
  readonly ttftMs: number | null;
}

export function outcomeOf(answers: readonly Answered[], cost_usd: number, limitMs: number): Outcome {
  const times = answers.flatMap(({ ttftMs }) => ttftMs ?? []).toSorted((a, b) => a - b);
  const at = (share: number): number => (times[Math.max(0, Math.ceil(times.length * share) - 1)] ?? 0) / 1000;
  return {
    cost_usd,
    within_share: answers.length === 0 ? 0 : times.filter((ms) => ms <= limitMs).length / answers.length,
    ttft_p50_s: at(0.5),
    ttft_p99_s: at(0.99),
    failed_requests: answers.length - times.length,
  };
}

export interface Pair {
  readonly figure: 'cost_usd' | 'within_share';
  readonly one: string;
  readonly other: string;
  /** Of the first less the second; 0: too close to tell apart. */
  readonly real: number;
  readonly simulated: number;
}

export type Outcomes = ReadonlyMap<string, Outcome>;

/** Nearer than this is called equal: of costs a part of the dearer one, of shares what is less than a request in ten. */
const EQUAL = { cost_usd: 0.05, within_share: 0.1 };

/** Which of two settings is dearer, and which is late less often: on real servers and in the simulation. */
export function comparePairs(real: Outcomes, simulated: Outcomes): Pair[] {
  const names = [...real.keys()];
  return (['cost_usd', 'within_share'] as const).flatMap((figure) =>
    names.flatMap((one, at) =>
      names.slice(at + 1).map((other) => {
        const signIn = (outcomes: Outcomes): number => sign(figure, outcomes.get(one), outcomes.get(other));
        return { figure, one, other, real: signIn(real), simulated: signIn(simulated) };
      }),
    ),
  );
}

function sign(figure: Pair['figure'], one: Outcome | undefined, other: Outcome | undefined): number {
  if (!one || !other) return Number.NaN;
  const [a, b] = [one[figure], other[figure]];
  const equal = EQUAL[figure] * (figure === 'cost_usd' ? Math.max(a, b) : 1);
  return Math.abs(a - b) < equal ? 0 : Math.sign(a - b);
}

const NAMES = { cost_usd: 'rent', within_share: 'share within the limit' };

/** A line for each pair that is in another order here than there; NaN, what was not measured, agrees with nothing. */
export function disagreements(pairs: readonly Pair[]): string[] {
  return pairs
    .filter(({ real, simulated }) => real !== simulated)
    .map(({ figure, one, other, real, simulated }) => {
      const told = (sign: number): string =>
        Number.isNaN(sign) ? 'was not measured' : sign === 0 ? 'is the same' : sign > 0 ? 'is higher' : 'is lower';
      return `${NAMES[figure]} of ${one} beside ${other} ${told(real)} on real servers, ${told(simulated)} in the simulation`;
    });
}

export function reportOf(rows: readonly ({ system: string; scenario: string } & Outcome)[], limitMs: number): string {
  const head = [
    ...['setting', 'where', 'rent, millionths of a USD', `within ${(limitMs / 1000).toFixed(1)} s %`],
    ...['p50 s', 'p99 s', 'failed'],
  ];
  const lines = rows.map(({ system, scenario, ...row }) => [
    ...[system, scenario, (row.cost_usd * 1e6).toFixed(0), (row.within_share * 100).toFixed(1)],
    ...[row.ttft_p50_s.toFixed(2), row.ttft_p99_s.toFixed(2), String(row.failed_requests)],
  ]);
  return formatTable(head, lines);
}
