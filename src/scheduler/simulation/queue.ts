/** A binary heap: the least key first, and of equal keys the one that was put in first. */
export class Heap<T> {
  readonly #keys: number[] = [];
  readonly #orders: number[] = [];
  readonly #values: T[] = [];
  #count = 0;

  get size(): number {
    return this.#keys.length;
  }

  /** The least key; Infinity when there is none. */
  get least(): number {
    return this.#keys[0] ?? Infinity;
  }

  push(key: number, value: T): void {
    let at = this.#keys.length;
    const order = this.#count;
    this.#count += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((this.#keys[parent] ?? 0) <= key) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#set(at, key, order, value);
  }

  pop(): T | undefined {
    const top = this.#values[0];
    const key = this.#keys.pop();
    const order = this.#orders.pop();
    const value = this.#values.pop();
    const size = this.#keys.length;
    if (size === 0 || key === undefined || order === undefined || value === undefined) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#before(child + 1, this.#keys[child] ?? 0, this.#orders[child] ?? 0)) child += 1;
      if (!this.#before(child, key, order)) break;
      this.#move(child, at);
      at = child;
    }
    this.#set(at, key, order, value);
    return top;
  }

  clear(): T[] {
    const left = [...this.#values];
    this.#keys.length = 0;
    this.#orders.length = 0;
    this.#values.length = 0;
    return left;
  }

  #before(at: number, key: number, order: number): boolean {
    const own = this.#keys[at] ?? 0;
    return own < key || (own === key && (this.#orders[at] ?? 0) < order);
  }

  #move(from: number, to: number): void {
    this.#set(to, this.#keys[from] ?? 0, this.#orders[from] ?? 0, this.#values[from] as T);
  }

  #set(at: number, key: number, order: number, value: T): void {
    this.#keys[at] = key;
    this.#orders[at] = order;
    this.#values[at] = value;
  }
}

/** First in, first out, without moving what is in it. */
export class Fifo {
  #items: number[] = [];
  #head = 0;

  get size(): number {
    return this.#items.length - this.#head;
  }

  get first(): number | undefined {
    return this.#items[this.#head];
  }

  push(item: number): void {
    this.#items.push(item);
  }

  /** Those that were here before go first. */
  unshift(items: readonly number[]): void {
    this.#items = [...items, ...this.#items.slice(this.#head)];
    this.#head = 0;
  }

  /** The first that is like this, else the first of all. */
  take(wanted: (item: number) => boolean): number | undefined {
    for (let at = this.#head; at < this.#items.length; at += 1) {
      const item = this.#items[at];
      if (item === undefined || !wanted(item)) continue;
      if (at === this.#head) break;
      this.#items.splice(at, 1);
      return item;
    }
    return this.shift();
  }

  shift(): number | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#head += 1;
    if (this.#head > 4096 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}
