/**
 * Who waits for a slot: bounded, and fair between accounts. Each account has its own queue and the accounts take turns,
 * so a thousand requests of one do not hold up the first of another.
 */
export class Line<T> {
  readonly #queues = new Map<string, T[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(account: string, item: T): void {
    const queue = this.#queues.get(account);
    if (queue) queue.push(item);
    else this.#queues.set(account, [item]);
    this.#size += 1;
  }

  /**
   * The next one in turn that fits; its account goes to the end of the round.
   * @param first those like this go before all others
   */
  shift(fits: (item: T) => boolean = () => true, first?: (item: T) => boolean): T | undefined {
    const favoured = first && this.#next((item) => first(item) && fits(item));
    return favoured ?? this.#next(fits);
  }

  remove(account: string, item: T): boolean {
    const queue = this.#queues.get(account);
    const at = queue ? queue.indexOf(item) : -1;
    if (!queue || at < 0) return false;
    queue.splice(at, 1);
    this.#size -= 1;
    if (queue.length === 0) this.#queues.delete(account);
    return true;
  }

  /** Everybody, in no order: for the end of a pool. */
  drain(): T[] {
    const all = [...this.#queues.values()].flat();
    this.#queues.clear();
    this.#size = 0;
    return all;
  }

  #next(fits: (item: T) => boolean): T | undefined {
    for (const [account, queue] of this.#queues) {
      const at = queue.findIndex(fits);
      if (at < 0) continue;
      const [item] = queue.splice(at, 1);
      this.#size -= 1;
      this.#queues.delete(account);
      if (queue.length > 0) this.#queues.set(account, queue);
      return item;
    }
    return undefined;
  }
}
