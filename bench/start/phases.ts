import { formatTable, median } from '../benchmark.ts';

/** `GET /admin/leases/{id}`, as much of it as is read here. */
export interface LeaseSteps {
  readonly steps: readonly {
    readonly step: string;
    readonly at: string | null;
    readonly running_at?: string | null;
    readonly ready_at?: string | null;
  }[];
}

/** Milliseconds of each part of a cold start, in the order in which they come; they add up to the first token. */
export interface Phases {
  /** From the question to the order that it made the scheduler place. */
  readonly order_ms: number;
  /** To the bid that won. */
  readonly bid_ms: number;
  /** To the lease: the choice, the deposit, and the block that has them. */
  readonly lease_ms: number;
  /** To a model server that listens: its process, and the model read from disk. */
  readonly load_ms: number;
  /** To its first answer, the scheduler's probe. */
  readonly probe_ms: number;
  /** To the first token at the client. */
  readonly first_token_ms: number;
}

const PARTS = ['order_ms', 'bid_ms', 'lease_ms', 'load_ms', 'probe_ms', 'first_token_ms'] as const;

export interface Question {
  readonly askedMs: number;
  readonly firstTokenMs: number;
}

/** @throws Error when the lease lacks a time, or has them in another order: then it is not this question's */
export function phasesOf(lease: LeaseSteps, { askedMs, firstTokenMs }: Question): Phases {
  const step = (name: string): LeaseSteps['steps'][number] | undefined => lease.steps.find(({ step }) => step === name);
  const delivery = step('delivery');
  const told = [
    step('order')?.at,
    step('bids')?.at,
    step('deposit and lease')?.at,
    delivery?.running_at,
    delivery?.ready_at,
  ];
  const times = [askedMs, ...told.map((at) => Date.parse(at ?? '')), firstTokenMs];
  const parts = times.slice(1).map((at, index) => at - (times[index] ?? Number.NaN));
  const [order_ms = 0, bid_ms = 0, lease_ms = 0, load_ms = 0, probe_ms = 0, first_token_ms = 0] = parts;
  const wrong = parts.findIndex((part) => !(part >= -CLOCK_MS));
  if (wrong >= 0) throw new Error(`the lease's ${PARTS[wrong]} makes no sense: ${told.join(', ')}`);
  return { order_ms, bid_ms, lease_ms, load_ms, probe_ms, first_token_ms };
}

/** Times are whole milliseconds of one machine's clock, which may be set while we run. */
const CLOCK_MS = 5;

export function totalOf(phases: Phases): number {
  return PARTS.reduce((sum, part) => sum + phases[part], 0);
}

export function reportOf(starts: readonly Phases[]): string {
  const line = (name: string, values: readonly number[]): string[] => [
    ...[name, ''],
    ...[median(values), Math.min(...values), Math.max(...values)].map((ms) => ms.toFixed(0)),
  ];
  const parts = PARTS.map((part) =>
    line(
      part.slice(0, -'_ms'.length).replace('_', ' '),
      starts.map((start) => start[part]),
    ),
  );
  return formatTable(['up to', '', 'median ms', 'least ms', 'most ms'], [...parts, line('all', starts.map(totalOf))]);
}
