import type { NanoUsd } from '../../units.ts';

/** Pure: the chain's amounts. One micro-unit of the settlement denom (uact) is 1e-6 USD, that is 1,000 nano-USD. */
export type Micro = bigint;

export const NANO_PER_MICRO = 1000n;
const DEC_PLACES = 18;

/** Deposits are rounded up: they never fall short. */
export function microUp(amount: NanoUsd): Micro {
  return (amount + NANO_PER_MICRO - 1n) / NANO_PER_MICRO;
}

/** Ceilings are rounded down: they stay ceilings. */
export function microDown(amount: NanoUsd): Micro {
  return amount / NANO_PER_MICRO;
}

export function nanoOf(amount: Micro): NanoUsd {
  return amount * NANO_PER_MICRO;
}

/** A Cosmos decimal ("12.5", at most 18 places) in 1e-18 units. Throws RangeError on anything else. */
export function parseDec(text: string): bigint {
  const match = /^(\d{1,60})(?:\.(\d{1,18}))?$/.exec(text);
  if (!match) throw new RangeError(`not a decimal of the chain: ${text.slice(0, 80)}`);
  return BigInt(`${match[1] ?? '0'}${(match[2] ?? '').padEnd(DEC_PLACES, '0')}`);
}

const DEC_ONE = 10n ** BigInt(DEC_PLACES);

/** A price per block ("12.5" micro-units) in nano-USD, rounded up: a cost is never shown too low. */
export function nanoOfDecUp(text: string): NanoUsd {
  return (parseDec(text) * NANO_PER_MICRO + DEC_ONE - 1n) / DEC_ONE;
}

/** A sum of the chain in whole micro-units, the rest cut off as the chain does when it pays out. */
export function microOfDecDown(text: string): Micro {
  return parseDec(text) / DEC_ONE;
}

/** As the chain does: rate times blocks, cut off to whole micro-units. */
export function rentMicro(ratePerBlock: string, blocks: number): Micro {
  return (parseDec(ratePerBlock) * BigInt(Math.max(0, blocks))) / DEC_ONE;
}
