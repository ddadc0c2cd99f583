/** Latencies in tenths of a microsecond below 205 us, above that to a thousandth of their value; up to 214 s. */
export class Histogram {
  readonly #counts = new Uint32Array(2 * HALF + EXPONENTS * HALF);
  #total = 0;

  record(us: number): void {
    const value = Math.min(Math.max(Math.round(us * 10), 0), VALUE_MAX);
    const index = indexOf(value);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#total += 1;
  }

  clear(): void {
    this.#counts.fill(0);
    this.#total = 0;
  }

  get total(): number {
    return this.#total;
  }

  /** The value in us that `share` of all values do not exceed; NaN when there are none. */
  quantile(share: number): number {
    if (this.#total === 0) return Number.NaN;
    const rank = Math.max(Math.ceil(this.#total * share), 1);
    let seen = 0;
    for (const [index, count] of this.#counts.entries()) {
      seen += count;
      if (seen >= rank) return valueAt(index) / 10;
    }
    return VALUE_MAX / 10;
  }
}

const HALF = 1024;
const EXPONENTS = 20;
const VALUE_MAX = 2 ** 31 - 1;

function indexOf(value: number): number {
  if (value < 2 * HALF) return value;
  const exponent = 21 - Math.clz32(value);
  return exponent * HALF + (value >> exponent);
}

function valueAt(index: number): number {
  if (index < 2 * HALF) return index;
  const exponent = Math.floor(index / HALF) - 1;
  return (index - exponent * HALF) * 2 ** exponent;
}
