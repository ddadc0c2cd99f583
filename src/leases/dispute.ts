import type { MarketName } from '../spec.ts';
import { disputeIdOf, type Breach, type DisputeNote, type DisputeState, type Measurement } from '../spec/dispute.ts';
import type { Blocks, EpochMs, Ms, NanoUsd } from '../units.ts';

/**
 * Pure: a dispute's life. Open, its provider may answer: one that owns up or stays silent has lost. Answered, the operator
 * judges: who does not within the window lets the answer stand. Upheld and rejected are for good.
 */

/** Rent and fees of disputed blocks: neither paid nor given back until the dispute is decided. */
export interface Withheld {
  readonly blocks: Blocks;
  readonly fromBlock: Blocks;
  readonly toBlock: Blocks;
  readonly rentNanoUsd: NanoUsd;
  readonly takeFeeNanoUsd: NanoUsd;
  readonly makeFeeNanoUsd: NanoUsd;
}

export interface DisputeAnswer {
  readonly accepts: boolean;
  readonly text: string;
  readonly measured: readonly Measurement[];
  readonly atMs: EpochMs;
}

export type Judge = 'operator' | 'rule' | 'provider' | 'silence';

export interface Verdict {
  readonly upheld: boolean;
  readonly by: Judge;
  readonly reason: string;
  readonly atMs: EpochMs;
}

export interface Dispute {
  readonly id: string;
  readonly market: MarketName;
  readonly lease: string;
  readonly pool: string;
  readonly provider: string;
  readonly breach: Breach;
  readonly state: DisputeState;
  readonly filedMs: EpochMs;
  /** Until then what is awaited may come: an answer, then a judgement. Null: nothing is. */
  readonly dueMs: EpochMs | null;
  readonly answer: DisputeAnswer | null;
  readonly verdict: Verdict | null;
  /** Counts on our own record of the provider only; nobody there is asked. */
  readonly local: boolean;
  readonly withheld: Withheld | null;
  /** What was withheld has gone where the verdict says. */
  readonly paidOut: boolean;
}

export interface Windows {
  /** For an answer, from the filing. */
  readonly answerMs: Ms;
  /** For a judgement, from the answer. */
  readonly judgeMs: Ms;
}

export const WINDOWS: Windows = { answerMs: 86_400_000, judgeMs: 14 * 86_400_000 };

export type DisputeEvent =
  | { readonly type: 'answered'; readonly answer: DisputeAnswer }
  | { readonly type: 'judged'; readonly upheld: boolean; readonly by: 'operator' | 'rule'; readonly reason: string }
  | { readonly type: 'time' };

/** An operator's. */
export interface Judgement {
  readonly upheld: boolean;
  readonly reason: string;
}

export type DisputeStep = { readonly dispute: Dispute } | { readonly refused: string };

/** One that is certain is upheld at once; one of our own record only, when nobody of ours objects in time. */
export function newDispute(from: {
  readonly market: MarketName;
  readonly lease: { readonly id: string; readonly pool: string; readonly provider: string };
  readonly breach: Breach;
  readonly atMs: EpochMs;
  readonly local: boolean;
  readonly withheld: Withheld | null;
  readonly windows: Windows;
}): Dispute {
  const { market, lease, breach, atMs, local, withheld, windows } = from;
  const filed: Dispute = {
    id: disputeIdOf(lease.id, breach.kind),
    ...{ market, lease: lease.id, pool: lease.pool, provider: lease.provider, breach, filedMs: atMs, local, withheld },
    state: 'open',
    dueMs: atMs + (local ? windows.judgeMs : windows.answerMs),
    answer: null,
    verdict: null,
    paidOut: withheld === null,
  };
  return breach.certain ? decided(filed, { upheld: true, by: 'rule', reason: 'we saw it ourselves', atMs }) : filed;
}

/** The dispute after an event, or why it cannot happen now. The same again changes nothing. */
export function nextDispute(
  dispute: Dispute,
  event: DisputeEvent,
  { atMs, windows }: { readonly atMs: EpochMs; readonly windows: Windows },
): DisputeStep {
  const { state, verdict, dueMs } = dispute;
  if (event.type === 'time') return { dispute: dueMs === null || atMs < dueMs ? dispute : expired(dispute, atMs) };
  if (event.type === 'judged') {
    const { upheld, by, reason } = event;
    if (verdict !== null) return verdict.upheld === upheld ? { dispute } : { refused: `it was ${state} already` };
    return { dispute: decided(dispute, { upheld, by, reason, atMs }) };
  }
  const { answer } = event;
  if (dispute.local) return { refused: 'nobody was asked' };
  if (dispute.answer !== null) {
    const same = dispute.answer.text === answer.text && dispute.answer.accepts === answer.accepts;
    return same ? { dispute } : { refused: 'it was answered already' };
  }
  if (state !== 'open') return { refused: `it was ${state} already` };
  const answered: Dispute = { ...dispute, state: 'answered', answer, dueMs: atMs + windows.judgeMs };
  if (!answer.accepts) return { dispute: answered };
  return { dispute: decided(answered, { upheld: true, by: 'provider', reason: 'its provider owned up to it', atMs }) };
}

function expired(dispute: Dispute, atMs: EpochMs): Dispute {
  const upheld = dispute.state === 'open';
  const silent = dispute.local ? 'nobody of ours objected in time' : 'its provider gave no answer in time';
  const reason = upheld ? silent : 'nobody judged the answer in time';
  return decided(dispute, { upheld, by: 'silence', reason, atMs });
}

function decided(dispute: Dispute, verdict: Verdict): Dispute {
  return { ...dispute, state: verdict.upheld ? 'upheld' : 'rejected', verdict, dueMs: null };
}

/**
 * Whether an upheld dispute says more of its provider than we noted when it was filed: that a machine was gone we saw
 * ourselves, and an admission or silence adds nothing to that.
 */
export function saysMore({ breach, verdict }: Dispute): boolean {
  return breach.kind !== 'down' || verdict?.by === 'operator' || verdict?.by === 'rule';
}

export function noteOf({ id, breach, state, filedMs, local }: Dispute): DisputeNote {
  return { id, kind: breach.kind, state, reason: breach.reason, atMs: filedMs, local };
}
