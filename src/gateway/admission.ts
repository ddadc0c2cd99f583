import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type {
  EarlierRequest,
  HoldRefusal,
  Idempotency,
  Ledger,
  LimitSource,
  Purchase,
  SettleOp,
  SettleResult,
  UsageDetail,
  UsageStatus,
} from '../ledger/operations.ts';
import { affordableOutput, chargeFor, chargeWithin, holdFor, type TokenCounts } from '../ledger/pricing.ts';
import { WakeOffer } from '../scheduler/pool/wake-offer.ts';
import type { Worths } from '../scheduler/pool/worth.ts';
import type { Price } from '../spec.ts';
import { formatUsd, type EpochMs, type NanoUsd, type Tokens } from '../units.ts';
import { BAD_KEY, type Caller } from './auth.ts';

/** Below this, an answer is not worth starting. */
const SHORTEST_ANSWER: Tokens = 16;

/** Of what was asked, as its model server says: a machine that was woken for it is woken all the same. */
const CLIENTS_FAULT: ReadonlySet<string> = new Set(['invalid_request', 'context_length_exceeded']);

export interface HoldRequest {
  readonly request: string;
  readonly caller: Caller;
  readonly model: string;
  readonly price: Price;
  readonly priceVersion: number;
  /** The most the prompt can be. */
  readonly inputBound: Tokens;
  /** What it is at least: where that does not fit either, nobody needs to count. */
  readonly inputLeast: Tokens;
  /** Output tokens to reserve, over all choices. */
  readonly outputTokens: Tokens;
  /** The client named no maximum: a small balance gets a shorter answer instead of a refusal. */
  readonly mayShorten: boolean;
  /** What it pays to have its pool woken; 0: nothing. */
  readonly wakeFee: NanoUsd;
  /** What accounts' requests come to of their holds: what this one may wake its pool for. */
  readonly worths: Worths;
  readonly deadlineMs: number;
  /** The prompt's tokens by the model's own tokenizer, null where it cannot be asked: only when the bound does not fit. */
  readonly countPrompt: () => Promise<Tokens | null>;
  /** Of a request with an Idempotency-Key. */
  readonly idempotency: Idempotency | null;
}

/** Money reserved for one request: what its tokens may come to, raised while it streams, settled once. */
export class Reservation {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  #ask: HoldRequest;
  #outputTokens: Tokens;
  #settled = false;
  #tokensUsed: Tokens = 0;
  #replay: SettleOp['replay'] | null = null;
  #wakeFee: NanoUsd | null = null;
  /** For its tokens, before it grew. */
  readonly #holdNanoUsd: NanoUsd;
  #offer: WakeOffer | null = null;

  private constructor(ledger: Ledger, clock: Clock, ask: HoldRequest, outputTokens: Tokens) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#ask = ask;
    this.#outputTokens = outputTokens;
    this.#holdNanoUsd = holdFor(ask.price, ask.inputBound, outputTokens);
  }

  /**
   * Holds the worst case before anything is sent; nothing when the same Idempotency-Key has had its request.
   * @throws AppError `insufficient_credits` with what is needed and what could be afforded
   */
  static async open(ledger: Ledger, clock: Clock, ask: HoldRequest): Promise<Reservation | EarlierRequest> {
    const { request, caller, model, price, priceVersion, deadlineMs, mayShorten, idempotency, wakeFee } = ask;
    let { outputTokens, inputBound } = ask;
    let counted = false;
    for (let tries = 0; ; tries += 1) {
      const amount = holdFor(price, inputBound, outputTokens) + wakeFee;
      const result = await ledger.ask({
        op: 'hold',
        request,
        customer: caller.customer,
        key: caller.key,
        model,
        priceVersion,
        amount,
        ...(wakeFee > 0n ? { wakeFee } : {}),
        atMs: clock.now(),
        deadlineMs,
        ...(idempotency ? { idempotency } : {}),
      });
      if (result.ok) return new Reservation(ledger, clock, { ...ask, inputBound }, outputTokens);
      if (result.earlier) return result.earlier;
      if (result.why !== 'insufficient') throw refusal(result.why);
      const shortest = mayShorten ? Math.min(SHORTEST_ANSWER, outputTokens) : outputTokens;
      const free = result.available - wakeFee;
      if (!counted && holdFor(price, ask.inputLeast, shortest) <= free) {
        counted = true;
        const exact = await ask.countPrompt();
        if (exact !== null && exact < inputBound) {
          inputBound = exact;
          continue;
        }
      }
      const affordable = affordableOutput(price, free, inputBound);
      const shorter = Math.min(affordable, outputTokens - 1);
      if (mayShorten && tries < 4 && shorter >= SHORTEST_ANSWER) {
        outputTokens = shorter;
        continue;
      }
      throw insufficient({ ...result, affordable, wakeFee });
    }
  }

  /** What its pool may be woken for; most requests find a machine and are never asked. */
  get offer(): WakeOffer {
    if (this.#offer) return this.#offer;
    const { request, caller, worths, wakeFee: feeNanoUsd } = this.#ask;
    const valueNanoUsd = worths.of(caller.customer, this.#holdNanoUsd, this.#clock.now());
    this.#offer = new WakeOffer({ request, valueNanoUsd, feeNanoUsd });
    return this.#offer;
  }

  /** The most the prompt can be: its bytes, or its tokens where those were counted. */
  get inputBound(): Tokens {
    return this.#ask.inputBound;
  }

  /** Output tokens that are paid for. */
  get outputTokens(): Tokens {
    return this.#outputTokens;
  }

  /** Input and output together, once settled. */
  get tokensUsed(): Tokens {
    return this.#tokensUsed;
  }

  /** Reserves more output, or as much of it as the money reaches for; false when that is nothing. */
  async extend(tokens: Tokens): Promise<boolean> {
    const { price, request, inputBound } = this.#ask;
    const before = holdFor(price, inputBound, this.#outputTokens);
    let wanted = tokens;
    for (let tries = 0; tries < 2 && wanted > 0; tries += 1) {
      const amount = holdFor(price, inputBound, this.#outputTokens + wanted) - before;
      const result = await this.#ledger.ask({ op: 'extend', request, amount });
      if (result.ok) {
        this.#outputTokens += wanted;
        return true;
      }
      wanted = Math.min(affordableOutput(price, result.available, 0), wanted - 1);
    }
    return false;
  }

  /** Once the prompt is known to be shorter than its bound: turns what is held for the rest into output; false when none. */
  spareInput(input: Tokens): boolean {
    const { price, inputBound } = this.#ask;
    if (input <= 0 || input >= inputBound) return false;
    const output = affordableOutput(price, holdFor(price, inputBound, this.#outputTokens), input);
    const more = output > this.#outputTokens;
    this.#outputTokens = Math.max(output, this.#outputTokens);
    this.#ask = { ...this.#ask, inputBound: input };
    return more;
  }

  /** A checkpoint for recovery: nothing above it is charged if we die now, and this is what is known of the answer then. */
  progress(tokens: TokenCounts, detail: UsageDetail): void {
    // A ledger that has closed takes no checkpoints; what matters is told by the settlement.
    const due = this.#feeDue;
    const wakeFee = due > 0n ? { wakeFee: due } : {};
    const { request } = this.#ask;
    this.#ledger.ask({ op: 'progress', request, tokens, ...wakeFee, detail }).catch(() => undefined);
  }

  /** What is charged for a wake, as of the first time that it is asked: its cost is told before it is settled. */
  get wakeFee(): NanoUsd {
    return (this.#wakeFee ??= this.#feeDue);
  }

  get #feeDue(): NanoUsd {
    return this.#offer?.feeDueNanoUsd ?? 0n;
  }

  /** What a settlement of these tokens will charge. */
  costOf(tokens: TokenCounts): NanoUsd {
    const { price, inputBound } = this.#ask;
    return chargeWithin(price, tokens, holdFor(price, inputBound, this.#outputTokens)) + this.wakeFee;
  }

  /** The encrypted reply that is to be stored with the charge, if that is the cost which it names. */
  keepReply(sealed: Uint8Array, cost: NanoUsd): void {
    this.#replay = { sealed, cost };
  }

  /** Charges what was used and gives the rest back; resolves when that is on disk. Once: later calls charge nothing. */
  async settle(
    tokens: TokenCounts,
    status: UsageStatus,
    detail: UsageDetail,
    purchases: readonly Purchase[] = [],
  ): Promise<NanoUsd> {
    if (this.#settled) return 0n;
    this.#settled = true;
    this.#tokensUsed = tokens.inputTokens + tokens.outputTokens;
    const { request, price, worths, caller } = this.#ask;
    const ours = status === 'failed' && !CLIENTS_FAULT.has(detail.error ?? '');
    // Who got no answer pays for no wake; who left while the machine came, or asked what it refuses, does.
    const wakeFee = ours ? 0n : this.wakeFee;
    const result: SettleResult = await this.#ledger.ask({
      op: 'settle',
      request,
      tokens,
      ...(wakeFee > 0n ? { wakeFee } : {}),
      status,
      detail,
      atMs: this.#clock.now(),
      ...(purchases.length > 0 ? { purchases } : {}),
      ...(this.#replay ? { replay: this.#replay } : {}),
    });
    if (!result.ok)
      throw new Error(`the request ${request} had no hold to settle (${chargeFor(price, tokens)} nano-USD)`);
    const chargedNanoUsd = result.charged - wakeFee;
    // What we failed says nothing of what its account asks for.
    if (!ours) worths.note(caller.customer, { holdNanoUsd: this.#holdNanoUsd, chargedNanoUsd }, this.#clock.now());
    return result.charged;
  }
}

/** None may be forgotten before its day is over: its request could be charged twice. */
function tooManyKeys(): AppError {
  const message = 'this account has used too many Idempotency-Keys within 24 hours';
  return new AppError('rate_limit_exceeded', message, { retryAfterS: 3600, shouldRetry: false });
}

function refusal(why: HoldRefusal): Error {
  if (why === 'frozen') return new AppError('permission_denied', 'this account is frozen');
  // The key ended, or is gone, between its look-up and the hold.
  if (why === 'key_ended' || why === 'unknown_customer') return new AppError('invalid_api_key', BAD_KEY);
  if (why === 'too_many_keys') return tooManyKeys();
  return new Error(`the hold was refused: ${why}`);
}

/** Whose limit it is, for people. */
const LIMITS: Record<LimitSource, string> = {
  account: 'the credit of this account',
  project: "the spend limit of this API key's project",
  key: "this API key's spend limit",
};

function insufficient(short: {
  readonly needed: NanoUsd;
  readonly available: NanoUsd;
  readonly limitSource: LimitSource;
  readonly transient: boolean;
  readonly resetsMs?: EpochMs;
  readonly affordable: Tokens;
  readonly wakeFee: NanoUsd;
}): AppError {
  const { needed, available, limitSource, transient, resetsMs, affordable, wakeFee } = short;
  const free = available > 0n ? available : 0n;
  return new AppError(
    'insufficient_credits',
    `this request may cost up to ${formatUsd(needed)} USD, ${LIMITS[limitSource]} has ${formatUsd(free)} USD free`,
    {
      metadata: {
        needed_usd: formatUsd(needed),
        available_usd: formatUsd(free),
        max_affordable_tokens: affordable,
        limit_source: limitSource,
        ...(wakeFee > 0n ? { wake_fee_usd: formatUsd(wakeFee) } : {}),
        transient,
        ...(resetsMs === undefined ? {} : { resets_at: new Date(resetsMs).toISOString() }),
      },
      ...(transient ? { retryAfterS: 1, shouldRetry: true } : {}),
    },
  );
}
