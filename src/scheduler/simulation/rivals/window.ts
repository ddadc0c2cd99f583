/** A sum that grows, sampled at decisions, so that its rate over a window that ends now can be read. */
export class RateWindow {
  readonly #times: number[] = [];
  readonly #sums: number[] = [];
  readonly #longestMs: number;

  constructor(longestMs: number) {
    this.#longestMs = longestMs;
  }

  add(atMs: number, sum: number): void {
    this.#times.push(atMs);
    this.#sums.push(sum);
    // One sample older than the window stays: the window begins between two.
    while ((this.#times[1] ?? Infinity) <= atMs - this.#longestMs) {
      this.#times.shift();
      this.#sums.shift();
    }
  }

  /** The sum's growth per millisecond over the window, or since the beginning. */
  perMs(windowMs: number): number {
    const last = this.#times.length - 1;
    const endMs = this.#times[last] ?? 0;
    let from = last;
    while (from > 0 && (this.#times[from] ?? 0) > endMs - windowMs) from -= 1;
    const tookMs = endMs - (this.#times[from] ?? 0);
    return tookMs <= 0 ? 0 : ((this.#sums[last] ?? 0) - (this.#sums[from] ?? 0)) / tookMs;
  }
}
