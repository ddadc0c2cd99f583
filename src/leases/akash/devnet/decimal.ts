/** Cosmos' decimals: 18 places, in a bigint. `50.5` is 50500000000000000000n. */
export type Dec = bigint;

export const DEC_ONE = 10n ** 18n;

export interface Coin {
  readonly denom: string;
  readonly amount: bigint;
}

/** A price or a balance that may hold parts of the smallest unit. */
export interface DecCoin {
  readonly denom: string;
  readonly amount: Dec;
}

/** Throws RangeError on what is no plain decimal of at most 18 places. */
export function parseDec(text: string): Dec {
  const match = /^(-?)(\d{1,60})(?:\.(\d{1,18}))?$/.exec(text);
  if (!match) throw new RangeError(`not a decimal: ${text.slice(0, 80)}`);
  const value = BigInt(match[2] ?? '0') * DEC_ONE + BigInt((match[3] ?? '').padEnd(18, '0'));
  return match[1] === '-' ? -value : value;
}

/** All 18 places, as the chain's own JSON has them. */
export function formatDec(value: Dec): string {
  const digits = (value < 0n ? -value : value).toString().padStart(19, '0');
  return `${value < 0n ? '-' : ''}${digits.slice(0, -18)}.${digits.slice(-18)}`;
}

export const decFromInt = (amount: bigint): Dec => amount * DEC_ONE;

/** Towards zero, to whole units. */
export const truncateDec = (value: Dec): bigint => value / DEC_ONE;

/** Half to even at the 18th place, as LegacyDec.Mul does. */
export function mulDec(a: Dec, b: Dec): Dec {
  return roundHalfEven(a * b, DEC_ONE);
}

/** Half to even at the 18th place, as LegacyDec.Quo does. */
export function quoDec(a: Dec, b: Dec): Dec {
  return roundHalfEven(a * DEC_ONE, b);
}

function roundHalfEven(numerator: bigint, denominator: bigint): bigint {
  const whole = numerator / denominator;
  const twice = 2n * (numerator - whole * denominator);
  const [rest, unit] = [twice < 0n ? -twice : twice, denominator < 0n ? -denominator : denominator];
  const up = rest > unit || (rest === unit && whole % 2n !== 0n);
  if (!up) return whole;
  return numerator < 0n === denominator < 0n ? whole + 1n : whole - 1n;
}

/** "12uakt,5uact": how the chain writes a list of coins. */
export function formatCoins(coins: readonly Coin[]): string {
  return coins.map(({ denom, amount }) => `${amount}${denom}`).join(',');
}

export const formatDecCoin = ({ denom, amount }: DecCoin): string => `${formatDec(amount)}${denom}`;
