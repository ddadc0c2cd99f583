import { newReplica, type Replica } from '../../src/scheduler/pool/slot.ts';
import { BLOCK_TOKENS, type Ask } from './loads.ts';

/** A made-up model server: prompts are read one after the other, answers are written side by side. */
export const SERVER = { slots: 16, prefillTokensPerS: 8000, msPerToken: 30, cacheTokens: 131_072 };

/** What a server has read lately: whole blocks, those that were used longest ago go first. */
class Cache {
  readonly #blocks = new Set<number>();

  matched(blocks: readonly number[]): number {
    const miss = blocks.findIndex((block) => !this.#blocks.has(block));
    return miss < 0 ? blocks.length : miss;
  }

  read(blocks: readonly number[]): void {
    for (const block of blocks.toReversed()) {
      this.#blocks.delete(block);
      this.#blocks.add(block);
    }
    for (const oldest of this.#blocks) {
      if (this.#blocks.size <= SERVER.cacheTokens / BLOCK_TOKENS) break;
      this.#blocks.delete(oldest);
    }
  }
}

export interface Served {
  readonly firstTokenMs: number;
  readonly endMs: number;
  readonly hitTokens: number;
}

export class Machine {
  /** As the gateway's router knows it; its counts are kept up for every policy. */
  readonly replica: Replica;
  readonly queue: Ask[] = [];
  readonly #cache = new Cache();
  readonly #unread = new Map<Ask, number>();
  #readUntilMs = 0;

  constructor(at: number, remembered: number) {
    const id = `r${at}`;
    const where = { market: 'local', provider: id, leaseId: id, apiKey: null, url: 'http://127.0.0.1:1' };
    this.replica = newReplica({ id, engine: 'vllm', slots: SERVER.slots, ...where }, 0, remembered);
  }

  /** At work and in its own line. */
  get load(): number {
    return this.replica.inFlight + this.queue.length;
  }

  /** What the gateway counts of a request until its first token. */
  takes(ask: Ask, unread: number): void {
    this.#unread.set(ask, unread);
    this.replica.unread += unread;
  }

  begins(ask: Ask): void {
    this.replica.unread -= this.#unread.get(ask) ?? 0;
    this.#unread.delete(ask);
  }

  get free(): boolean {
    return this.replica.inFlight < SERVER.slots;
  }

  /** Takes a request into a slot, until `endMs`. */
  serve(ask: Ask, nowMs: number): Served {
    this.replica.inFlight += 1;
    const hit = Math.min(this.#cache.matched(ask.blocks) * BLOCK_TOKENS, ask.inputTokens);
    const startMs = Math.max(nowMs, this.#readUntilMs);
    this.#readUntilMs = startMs + ((ask.inputTokens - hit) * 1000) / SERVER.prefillTokensPerS;
    this.#cache.read(ask.blocks);
    const endMs = this.#readUntilMs + ask.outputTokens * SERVER.msPerToken;
    return { firstTokenMs: this.#readUntilMs, endMs, hitTokens: hit };
  }
}
