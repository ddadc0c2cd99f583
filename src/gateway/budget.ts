import { AppError } from '../errors.ts';
import type { Tokens } from '../units.ts';
import type { Reservation } from './admission.ts';

/** Thrown within: the answer ends where the money does. */
export const MONEY_ENDED = new AppError('insufficient_credits', 'the credit was used up in the middle of the answer');
export const MONEY_TOLD = 'the credit is used up: the answer ends here';

export interface BudgetOptions {
  readonly reservation: Reservation;
  /** Output tokens that the answer may have; nothing is extended beyond them. */
  readonly outputMax: Tokens;
  readonly sliceTokens: Tokens;
  readonly used: () => Tokens;
  /** The prompt as the model server has counted it; 0 while it has not. */
  readonly input: () => Tokens;
  /** `blocked` has changed: what is held is used up and more is on its way, or it has come. */
  readonly onBlocked: () => void;
  readonly onExhausted: () => void;
  readonly onError: (error: unknown) => void;
}

/** Reserves the next slice of an answer before the last one is used up, and says when there is no more money. */
export class Budget {
  readonly #options: BudgetOptions;
  #extension: Promise<void> | null = null;
  #exhausted = false;
  #blocked = false;

  constructor(options: BudgetOptions) {
    this.#options = options;
  }

  /** The model server is held back until its next tokens are paid for. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** After tokens were counted. */
  check(): void {
    const { reservation, outputMax, sliceTokens, used, onBlocked, onExhausted } = this.#options;
    const held = reservation.outputTokens;
    if (held >= outputMax) return;
    const left = held - used();
    if (left <= 0 && this.#exhausted) {
      onExhausted();
      return;
    }
    if (left <= 0 && !this.#blocked) {
      this.#blocked = true;
      onBlocked();
    }
    if (this.#extension || this.#exhausted || left > sliceTokens / 4) return;
    this.#extension = this.#extend(Math.min(sliceTokens, outputMax - held));
  }

  /** What came faster than its hold grew is paid for by the hold that is on its way. */
  settled(): Promise<void> | null {
    return this.#extension && this.#grown();
  }

  async #grown(): Promise<void> {
    while (this.#extension) await this.#extension;
  }

  async #extend(tokens: Tokens): Promise<void> {
    const { reservation, input, onBlocked, onError } = this.#options;
    try {
      const more = await reservation.extend(tokens);
      // The prompt was held for by its bytes: what it turned out not to need pays for more of the answer.
      this.#exhausted = !more && !reservation.spareInput(input());
    } catch (error) {
      this.#exhausted = true;
      this.#extension = null;
      onError(error);
      return;
    }
    this.#extension = null;
    this.#blocked = false;
    onBlocked();
    this.check();
  }
}
