/** Where a bag keeps one of its values. */
interface Place<T> {
  readonly value: T;
  at: number;
}

/**
 * Values that come and go with every request, in no order. A Map or Set would do, but V8 keeps the tables that it outgrows
 * linked to those that replace them: once one of them is old, all that any later one held stays until the next full
 * collection. With requests in them that was nearly all that a request had: 9 KB of each.
 */
export class Bag<T> {
  readonly #places: Place<T>[] = [];

  get size(): number {
    return this.#places.length;
  }

  /** The returned function takes the value out again; a second time it does nothing. */
  add(value: T): () => void {
    const place: Place<T> = { value, at: this.#places.length };
    this.#places.push(place);
    return () => this.#remove(place);
  }

  /**
   * Each value once; `visit` may take out any and add others, which are not visited then. One that is taken out before its
   * turn has none.
   */
  each(visit: (value: T) => void): void {
    for (const place of [...this.#places]) if (place.at >= 0) visit(place.value);
  }

  #remove(place: Place<T>): void {
    if (place.at < 0) return;
    const last = this.#places.pop();
    if (last && last !== place) {
      this.#places[place.at] = last;
      last.at = place.at;
    }
    place.at = -1;
  }
}
