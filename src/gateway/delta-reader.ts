import { AlikeEvents } from './alike-events.ts';
import { finishReasonOf, onlyChoice, readDelta, type DeltaChoice } from './choice.ts';
import type { Tally } from './tally.ts';

/** Reads the events of one attempt's stream: what they say of tokens goes to the tally, what they say of the answer is returned. */
export class DeltaReader {
  readonly #tally: Tally;
  readonly #alike = new AlikeEvents();

  constructor(tally: Tally) {
    this.#tally = tally;
  }

  /**
   * @param ended the answer has had its finish_reason: what a server adds after it, or a second one, is no part of it
   * @throws Error for an error event, RangeError or SyntaxError for what is no event of this answer
   */
  read(data: string, ended: boolean): DeltaChoice | null {
    const alike = ended ? null : this.#alike.read(data);
    if (alike !== null) {
      const { text, counts } = alike;
      if (counts !== null) this.#tally.report(counts);
      const hasContent = text !== '';
      return { text, delta: { content: text }, logprobs: null, finishReason: null, hasContent };
    }
    const chunk = JSON.parse(data) as Record<string, unknown>;
    if (chunk['error'] !== undefined && chunk['error'] !== null) {
      throw new Error('the model server sent an error event');
    }
    this.#tally.report(chunk);
    const raw = onlyChoice(chunk);
    if (!raw || ended) return null;
    const delta = (raw['delta'] ?? {}) as Record<string, unknown>;
    const choice = readDelta(delta, raw['logprobs'] ?? null, finishReasonOf(raw['finish_reason']));
    if (choice.text !== null && choice.hasContent && choice.finishReason === null) this.#alike.learn(data, chunk);
    return choice;
  }
}
