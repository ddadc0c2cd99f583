import type { RandomBytes } from '../../random.ts';
import type { PoolSpec } from '../../spec.ts';
import type { Target } from '../pool/slot.ts';
import type { CanaryRows } from './canary-rows.ts';
import type { Position } from './distance.ts';
import type { Question } from './questions.ts';

/** Where a question goes. */
export type Asked = Pick<Target, 'url' | 'apiKey' | 'engine' | 'model'>;

/** What canaries need besides; absent where none are sent. */
export interface CanaryMeans {
  readonly rows: CanaryRows;
  readonly random: RandomBytes;
  readonly ask: (
    target: Asked,
    spec: PoolSpec,
    question: Question,
    signal: AbortSignal,
  ) => Promise<readonly Position[]>;
  /** What a reference to a key stands for. */
  readonly keyOf: (reference: string) => string | null;
}
