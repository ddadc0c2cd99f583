import type { Price } from '../spec.ts';
import { minBig, nanoFromPicoUp, type NanoUsd, type PicoUsd, type Tokens } from '../units.ts';

/** What a request used. `inputTokens` includes the cached ones. */
export interface TokenCounts {
  readonly inputTokens: Tokens;
  readonly cachedTokens: Tokens;
  readonly outputTokens: Tokens;
}

/** Beyond any context times choices; with it a cost stays within 64 bits at any price up to `PRICE_MAX`. */
const TOKENS_MAX = 1_000_000_000;

/**
 * Counts come from model servers of strangers: one that is no count must not end the writer. What is unclear counts as
 * zero, so the mistake is never the customer's.
 */
export function soundCounts({ inputTokens, cachedTokens, outputTokens }: TokenCounts): TokenCounts {
  const input = sound(inputTokens);
  return { inputTokens: input, cachedTokens: Math.min(sound(cachedTokens), input), outputTokens: sound(outputTokens) };
}

function sound(count: Tokens): Tokens {
  return count > 0 && count <= TOKENS_MAX ? Math.floor(count) : 0;
}

/** The exact cost: a sum over meters, no rounding. */
export function costPico(price: Price, tokens: TokenCounts): PicoUsd {
  return (
    BigInt(tokens.inputTokens - tokens.cachedTokens) * price.inputPico +
    BigInt(tokens.cachedTokens) * price.cachedInputPico +
    BigInt(tokens.outputTokens) * price.outputPico
  );
}

/** What a request is charged: its exact cost, rounded up once to a nano-USD. */
export function chargeFor(price: Price, tokens: TokenCounts): NanoUsd {
  return nanoFromPicoUp(costPico(price, tokens));
}

/** What a settlement charges: never more than is held. */
export function chargeWithin(price: Price, tokens: TokenCounts, held: NanoUsd): NanoUsd {
  return minBig(chargeFor(price, soundCounts(tokens)), held);
}

/** The most that so many tokens can cost: nothing cached, or cached ones if those should be dearer. */
export function holdFor(price: Price, inputTokens: Tokens, outputTokens: Tokens): NanoUsd {
  const input = price.inputPico > price.cachedInputPico ? price.inputPico : price.cachedInputPico;
  return nanoFromPicoUp(BigInt(inputTokens) * input + BigInt(outputTokens) * price.outputPico);
}

/** How many output tokens an amount pays for besides the given input; negative amounts pay for none. */
export function affordableOutput(price: Price, availableNanoUsd: NanoUsd, inputTokens: Tokens): Tokens {
  const input = price.inputPico > price.cachedInputPico ? price.inputPico : price.cachedInputPico;
  const left = availableNanoUsd * 1000n - BigInt(inputTokens) * input;
  if (left < 0n) return 0;
  if (price.outputPico === 0n) return Number.MAX_SAFE_INTEGER;
  const tokens = left / price.outputPico;
  return tokens > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(tokens);
}
