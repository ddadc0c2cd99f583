import { calibrate, type Calibration } from './sequential-test.ts';

/** Pure: which distances show what honest answers are like, on one GPU and engine. */

export interface HonestDistance {
  readonly provider: string;
  readonly distance: number;
}

/** Medians of two honest providers differ by no more than this factor, and this much. */
const AGREE_FACTOR = 3;
const AGREE_NATS = 0.1;

/**
 * The calibration once there are enough. Of strangers no one gives more than half, and all have to agree: who would teach
 * it his own weights needs the majority.
 */
export function calibrationOf(
  samples: readonly HonestDistance[],
  rules: { readonly calibrate: 'trusted' | 'first'; readonly distances: number; readonly falseAlarm: number },
): Calibration | 'too few' | 'they disagree' {
  const byProvider = new Map<string, number[]>();
  for (const { provider, distance } of samples)
    byProvider.set(provider, [...(byProvider.get(provider) ?? []), distance]);
  const most = rules.calibrate === 'trusted' ? rules.distances : Math.ceil(rules.distances / 2);
  const used = [...byProvider.values()].map((distances) => distances.slice(0, most));
  if (used.reduce((sum, { length }) => sum + length, 0) < rules.distances) return 'too few';
  const medians = used.filter(({ length }) => length >= 10).map(medianOf);
  const [least, largest] = [Math.min(...medians), Math.max(...medians)];
  if (rules.calibrate === 'first' && largest > least * AGREE_FACTOR + AGREE_NATS) return 'they disagree';
  return calibrate(used.flat(), rules.falseAlarm) ?? 'too few';
}

/** Whether another distance of this provider is wanted. */
export function isWanted(
  samples: readonly HonestDistance[],
  provider: string,
  rules: { readonly calibrate: 'trusted' | 'first'; readonly distances: number },
): boolean {
  const most = rules.calibrate === 'trusted' ? rules.distances : Math.ceil(rules.distances / 2);
  return samples.filter((sample) => sample.provider === provider).length < most;
}

function medianOf(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
