import type { EpochMs } from '../units.ts';

/**
 * Pure: a breach of what a pool was promised of its machine, and the dispute that it becomes. Evidence is what was measured,
 * when, and in which requests it shows; never what was asked or answered.
 */

export const BREACH_KINDS = ['down', 'slow', 'wrong_hardware', 'wrong_weights', 'other'] as const;
/** `down`: it does not answer, or never began to. `other`: an operator's own words. */
export type BreachKind = (typeof BREACH_KINDS)[number];

/** One thing that was measured, in words with its unit: `{ what: 'decode tokens/s', value: 11, promised: 40 }`. */
export interface Measurement {
  readonly what: string;
  readonly value: string | number;
  readonly promised?: string | number;
  readonly atMs: EpochMs;
}

export interface Breach {
  readonly kind: BreachKind;
  readonly reason: string;
  /** The bad interval: what rent is withheld for. `toMs` is now, or when it ended. */
  readonly fromMs: EpochMs;
  readonly toMs: EpochMs;
  readonly measured: readonly Measurement[];
  /** Ids of requests that it shows in. */
  readonly requests: readonly string[];
  /** We saw it ourselves and it cannot be otherwise (the process is gone): upheld without asking. */
  readonly certain: boolean;
}

/** What evidence is cut off to. */
export const EVIDENCE_MAX = { reason: 1000, text: 200, measured: 40, requests: 100 } as const;

const clip = (text: string, most: number): string => text.replaceAll(/\p{Cc}+/gu, ' ').slice(0, most);
const clipValue = (value: string | number): string | number =>
  typeof value === 'number' ? value : clip(value, EVIDENCE_MAX.text);

/** A breach within bounds, whatever it was made from. */
export function breachOf(from: Pick<Breach, 'kind' | 'reason' | 'fromMs' | 'toMs'> & Partial<Breach>): Breach {
  const { kind, reason, fromMs, toMs, measured = [], requests = [], certain = false } = from;
  return {
    kind,
    reason: clip(reason, EVIDENCE_MAX.reason),
    fromMs: Math.min(fromMs, toMs),
    toMs,
    measured: measured.slice(0, EVIDENCE_MAX.measured).map(({ what, value, promised, atMs }) => ({
      what: clip(what, EVIDENCE_MAX.text),
      value: clipValue(value),
      ...(promised === undefined ? {} : { promised: clipValue(promised) }),
      atMs,
    })),
    requests: requests.slice(0, EVIDENCE_MAX.requests).map((id) => clip(id, EVIDENCE_MAX.text)),
    certain,
  };
}

/** `open`: its provider may answer. `answered`: somebody has to judge. The other two are for good. */
export type DisputeState = 'open' | 'answered' | 'upheld' | 'rejected';

/** As a lease shows it. */
export interface DisputeNote {
  readonly id: string;
  readonly kind: BreachKind;
  readonly state: DisputeState;
  readonly reason: string;
  readonly atMs: EpochMs;
  /** The market knows nothing of it: it counts on our own record of the provider only. */
  readonly local: boolean;
}

export function noteOfBreach(
  lease: string,
  { kind, reason }: Breach,
  { atMs, local }: Pick<DisputeNote, 'atMs' | 'local'>,
): DisputeNote {
  return { id: disputeIdOf(lease, kind), kind, state: 'open', reason, atMs, local };
}

/** One dispute of a lease for a kind of breach: filing it again finds it. */
export function disputeIdOf(lease: string, kind: BreachKind): string {
  return `dispute-${lease}-${kind}`;
}

export function leaseOfDispute(id: string): string {
  const kind = BREACH_KINDS.find((one) => id.endsWith(`-${one}`)) ?? '';
  return id.slice('dispute-'.length, id.length - kind.length - 1);
}
