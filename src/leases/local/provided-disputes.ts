import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { BreachKind } from '../../spec/dispute.ts';
import type { DisputeAnswerMessage, DisputeMessage } from '../../spec/provider-wire.ts';
import { MarketFailure } from './market-connection.ts';
import { answerByLog, type DeliveryHealth } from './own-answer.ts';

export interface ProvidedDisputesOptions {
  readonly clock: Clock;
  /** Null: this process knows nothing of that lease. */
  readonly health: (lease: string) => DeliveryHealth | null;
  /** False: a person answers, with `underbid disputes answer`. */
  readonly byLog: boolean;
  readonly answer: (id: string, answer: DisputeAnswerMessage) => Promise<void>;
  readonly log: (line: string) => void;
}

const SEEN_MAX = 1000;

/** A provider's own part in disputes: each change is logged, and what its log can answer is answered by it. */
export class ProvidedDisputes {
  readonly #options: ProvidedDisputesOptions;
  readonly #seen = new Map<string, string>();
  readonly #answering = new Set<string>();

  constructor(options: ProvidedDisputesOptions) {
    this.#options = options;
  }

  hear(disputes: readonly DisputeMessage[]): void {
    const { log } = this.#options;
    for (const dispute of disputes) {
      const { id, lease, kind, state, reason, verdict, answer_by_ms: byMs, withheld_usd: withheld } = dispute;
      if (this.#seen.get(id) !== state) {
        this.#seen.set(id, state);
        const by = byMs === null ? '' : `, answer by ${new Date(byMs).toISOString()}`;
        const held = `${withheld} USD of rent ${verdict === null ? 'withheld' : 'were withheld'}`;
        log(
          `dispute ${id} of lease ${lease}: ${kind}: ${reason}: ${state}${verdict === null ? '' : ` (${verdict})`}, ${held}${by}`,
        );
      }
      if (state === 'open') void this.#answer(dispute);
    }
    for (const id of this.#seen.keys()) {
      if (this.#seen.size <= SEEN_MAX) break;
      this.#seen.delete(id);
    }
  }

  /** One that did not arrive is sent again when the market tells of the dispute again. */
  async #answer({ id, lease, kind, from_ms: fromMs, to_ms: toMs }: DisputeMessage): Promise<void> {
    const { clock, health, byLog, answer, log } = this.#options;
    const known = health(lease);
    if (!byLog || known === null || this.#answering.has(id)) return;
    this.#answering.add(id);
    const nowMs = clock.now();
    const breach = { kind: kind as BreachKind, reason: '', fromMs, toMs, measured: [], requests: [], certain: false };
    const { accepts, text, measured } = answerByLog(breach, known, nowMs);
    try {
      const told = measured.map(({ what, value, atMs }) => ({ what, value, at_ms: atMs }));
      await answer(id, { accept: accepts, text: text.replaceAll(/\p{Cc}+/gu, ' '), measured: told });
      log(`dispute ${id}: answered: ${text}`);
    } catch (error) {
      log(`dispute ${id}: the answer did not arrive: ${describeError(error)}`);
      const status = error instanceof MarketFailure ? error.status : null;
      if (status === null || status >= 500 || status === 429) this.#answering.delete(id);
    }
  }
}
