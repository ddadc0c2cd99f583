/**
 * Money, tokens and time as types. A flavour (an optional phantom field) keeps units apart without a cast at every
 * literal: a plain bigint may become a NanoUsd, a PicoUsd may not.
 */
type Flavour<T, U extends string> = T & { readonly __unit?: U };

/** 1e-9 USD. Signed 64 bit on disk: at most 9.22 billion USD. */
export type NanoUsd = Flavour<bigint, 'nano-usd'>;
/** 1e-12 USD. Prices are whole pico-USD per token, so a sum over meters is exact until its one rounding. */
export type PicoUsd = Flavour<bigint, 'pico-usd'>;
export type Tokens = Flavour<number, 'tokens'>;
export type Blocks = Flavour<number, 'blocks'>;
export type Ms = Flavour<number, 'ms'>;
/** Milliseconds since 1970. */
export type EpochMs = Flavour<number, 'epoch-ms'>;

export const NANO_PER_USD = 1_000_000_000n;
export const PICO_PER_NANO = 1_000n;
const INT64_MAX = 9_223_372_036_854_775_807n;

function parseDecimal(text: string, decimals: number, what: string): bigint {
  const match = /^(\d{1,12})(?:\.(\d+))?$/.exec(text.trim());
  if (!match) throw new RangeError(`${what} must be a plain decimal such as "5.00", not ${JSON.stringify(text)}`);
  const fraction = match[2] ?? '';
  const kept = fraction.slice(0, decimals).padEnd(decimals, '0');
  if (/[1-9]/.test(fraction.slice(decimals))) {
    throw new RangeError(`${what} has more than ${decimals} decimals: ${text}`);
  }
  const value = BigInt(match[1] ?? '0') * 10n ** BigInt(decimals) + BigInt(kept === '' ? '0' : kept);
  if (value > INT64_MAX) throw new RangeError(`${what} is too large: ${text}`);
  return value;
}

function formatDecimal(value: bigint, decimals: number, least: number): string {
  const sign = value < 0n ? '-' : '';
  const digits = (value < 0n ? -value : value).toString().padStart(decimals + 1, '0');
  const fraction = digits.slice(-decimals).replace(/0+$/, '').padEnd(least, '0');
  return `${sign}${digits.slice(0, -decimals)}${fraction === '' ? '' : `.${fraction}`}`;
}

/** "5.00" to nano-USD. Throws RangeError on a sign, an exponent or more than nine decimals: nothing is rounded away. */
export function parseUsd(text: string): NanoUsd {
  return parseDecimal(text, 9, 'an amount in USD');
}

/** Exact, with at least two decimals: 5000000000n is "5.00". */
export function formatUsd(amount: NanoUsd): string {
  return formatDecimal(amount, 9, 2);
}

/** For the shapes of OpenAI and OpenRouter that ask for a JSON number. */
export function usdNumber(amount: NanoUsd): number {
  return Number(amount) / 1e9;
}

/**
 * 4,000 USD per million tokens. The exact cost of a request is kept in pico-USD in 64 bits: with input and output at this
 * price it fits up to a thousand million tokens of each, beyond any context times choices.
 */
export const PRICE_MAX: PicoUsd = 4_000_000_000n;

/** "0.02" USD per million tokens to pico-USD per token. Throws RangeError on a step finer than 1e-6 and above 4,000 USD. */
export function parsePricePerMillion(text: string): PicoUsd {
  const price = parseDecimal(text, 6, 'a price in USD per million tokens');
  if (price > PRICE_MAX) throw new RangeError(`a price in USD per million tokens is at most 4000, not ${text}`);
  return price;
}

/** Pico-USD per token as USD per million tokens. */
export function formatPricePerMillion(price: PicoUsd): string {
  return formatDecimal(price, 6, 2);
}

/** Pico-USD per token as USD per token, the string that OpenRouter's `pricing` has. */
export function formatPricePerToken(price: PicoUsd): string {
  return formatDecimal(price, 12, 0);
}

/** The one rounding of a charge: up, to the next nano-USD. */
export function nanoFromPicoUp(amount: PicoUsd): NanoUsd {
  return (amount + (PICO_PER_NANO - 1n)) / PICO_PER_NANO;
}

/** What an hourly price is per block, rounded down: a ceiling stays a ceiling. */
export function perBlockFromPerHour(perHour: NanoUsd, blockMs: Ms): NanoUsd {
  return (perHour * BigInt(blockMs)) / 3_600_000n;
}

/** What a price per block comes to in an hour, rounded up: a cost is never shown too low. */
export function perHourFromPerBlock(perBlock: NanoUsd, blockMs: Ms): NanoUsd {
  return (perBlock * 3_600_000n + BigInt(blockMs) - 1n) / BigInt(blockMs);
}

/** A share of an amount in basis points, rounded up. */
export function shareUp(amount: NanoUsd, basisPoints: number): NanoUsd {
  return (amount * BigInt(basisPoints) + 9_999n) / 10_000n;
}

export function minBig(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

export function maxBig(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** "1 request", "2 requests". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
