import { AppError } from '../../errors.ts';
import type { DisputeAnswerMessage, DisputeMessage } from '../../spec/provider-wire.ts';
import { formatUsd } from '../../units.ts';
import type { Dispute } from '../dispute.ts';
import type { DisputeMeans } from './bidder.ts';

/** Told at a time; the oldest decided ones make room. */
const TOLD_MAX = 64;

/** Disputes with a provider elsewhere: what it is told with every reply to its question for tasks, and its answers. */
export class JoinedDisputes {
  readonly #disputes = new Map<string, { readonly dispute: Dispute; readonly means: DisputeMeans }>();

  /** Something that it was not told yet. */
  news = false;

  set(dispute: Dispute, means: DisputeMeans): void {
    this.news = true;
    this.#disputes.delete(dispute.id);
    this.#disputes.set(dispute.id, { dispute, means });
    for (const [id, known] of this.#disputes) {
      if (this.#disputes.size <= TOLD_MAX) break;
      if (known.dispute.verdict !== null) this.#disputes.delete(id);
    }
  }

  messages(): DisputeMessage[] {
    this.news = false;
    const all = [...this.#disputes.values()].map(({ dispute }) => dispute);
    // Silence loses an open one: those that wait for a judgement must not stand before it.
    const open = all.filter(({ state }) => state === 'open');
    const others = all.filter(({ state }) => state !== 'open');
    return [...open, ...others].slice(0, TOLD_MAX).map(messageOf);
  }

  /** @throws AppError `not_found`, or `conflict` when it is too late */
  async answer(id: string, { accept, text, measured }: DisputeAnswerMessage): Promise<void> {
    const known = this.#disputes.get(id);
    if (!known) throw new AppError('not_found', 'there is no such dispute with you');
    await known.means.answer({
      accepts: accept,
      text,
      measured: measured.map(({ what, value, at_ms: atMs }) => ({ what, value, atMs })),
    });
  }
}

function messageOf({ id, lease, breach, state, withheld, dueMs, verdict }: Dispute): DisputeMessage {
  const { kind, reason, fromMs, toMs, measured } = breach;
  const rent = withheld === null ? 0n : withheld.rentNanoUsd - withheld.makeFeeNanoUsd;
  return {
    ...{ id, lease, kind, state, reason, from_ms: fromMs, to_ms: toMs },
    measured: measured.map(({ atMs, ...rest }) => ({ ...rest, at_ms: atMs })),
    withheld_usd: formatUsd(rent),
    answer_by_ms: state === 'open' ? dueMs : null,
    verdict: verdict?.reason ?? null,
  };
}
