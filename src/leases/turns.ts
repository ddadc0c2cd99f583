/** One thing at a time for each id: rows and transfers of two calls on one lease never mix. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Does the work when everything before it under this id has ended, well or not. */
  run<T>(id: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#last.get(id) ?? Promise.resolve()).then(work, work);
    const settled = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(id, settled);
    void settled.then(() => {
      if (this.#last.get(id) === settled) this.#last.delete(id);
    });
    return turn;
  }

  /** Resolves when nothing is under way, nor was begun meanwhile. */
  async idle(): Promise<void> {
    while (this.#last.size > 0) await Promise.all(this.#last.values());
  }
}
