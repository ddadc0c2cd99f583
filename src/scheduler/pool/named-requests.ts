import { Bag } from './bag.ts';

/** Failed ones that are remembered. */
const FAILED_MAX = 100;

/** Ids of the requests that a replica has at work, and of those that it failed lately: a breach shows in them. */
export class NamedRequests {
  readonly #atWork = new Bag<string>();
  readonly #failed = new Set<string>();

  /** The returned function says that it is at work no more. */
  taken(request: string): () => void {
    return this.#atWork.add(request);
  }

  /** @param first the replica was not under suspicion: what it failed before was made good */
  failed(request: string, first: boolean): void {
    if (first) this.#failed.clear();
    if (this.#failed.size < FAILED_MAX) this.#failed.add(request);
  }

  /** Each once. */
  hit(suspect: boolean): string[] {
    const ids = new Set(suspect ? this.#failed : []);
    this.#atWork.each((id) => ids.add(id));
    return [...ids];
  }
}
