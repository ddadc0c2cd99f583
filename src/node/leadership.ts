import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { describeError } from '../errors.ts';
import { isFenced } from '../store/fence.ts';
import { beat, leads, type LeaderNote } from '../store/leader-record.ts';
import type { Store } from '../store/open.ts';
import type { EpochMs, Ms } from '../units.ts';
import { iso } from './views.ts';

/** How often a leader gives a sign of life, and finds out that it is none any more. */
const BEAT_MS: Ms = 2000;

const pathOf = (dataDir: string): string => join(dataDir, 'leader.json');

const leaderFile = z.object({
  epoch: z.number(),
  pid: z.number(),
  host: z.string(),
  url: z.string().nullable(),
  since: z.string(),
  beat: z.string(),
});

/** Who leads, in the shape that is shown. */
export type LeaderView = z.output<typeof leaderFile>;

export interface LeadershipOptions {
  readonly store: Store;
  readonly dataDir: string;
  readonly clock: Clock;
  readonly log: (line: string) => void;
  /** Another gateway has opened the data since: nothing may be done any more. */
  readonly onLost: () => void;
}

/**
 * What the gateway that leads says of itself: in its row, which is fenced like all others, and in a file that a standby may
 * read, since that opens nothing.
 */
export class Leadership {
  readonly #options: LeadershipOptions;
  readonly #sinceMs: EpochMs;
  #url: string | null = null;
  #beatMs: EpochMs;
  #cancel: () => void = () => undefined;
  #beating: Promise<void> = Promise.resolve();
  #ended = false;
  #told = false;

  constructor(options: LeadershipOptions) {
    this.#options = options;
    this.#sinceMs = options.clock.now();
    this.#beatMs = this.#sinceMs;
  }

  get epoch(): number {
    return this.#options.store.epoch;
  }

  view(): LeaderView {
    const { pid, host, url, sinceMs } = this.#note();
    return { epoch: this.epoch, pid, host, url, since: iso(sinceMs) ?? '', beat: iso(this.#beatMs) ?? '' };
  }

  /** Whether it still does; false also where that cannot be read. */
  async leads(): Promise<boolean> {
    const { store, log } = this.#options;
    try {
      return await leads(store);
    } catch (error) {
      log(`who leads cannot be read: ${describeError(error)}`);
      return false;
    }
  }

  /** Beats from now on. */
  start(): Promise<void> {
    this.#beating = this.#beat();
    return this.#beating;
  }

  /** From now on it serves. */
  serves(url: string): Promise<void> {
    this.#url = url;
    this.#cancel();
    this.#beating = this.#beating.then(() => this.#beat());
    return this.#beating;
  }

  async stop(): Promise<void> {
    this.#ended = true;
    this.#cancel();
    await this.#beating;
    rmSync(pathOf(this.#options.dataDir), { force: true });
  }

  #note(): LeaderNote {
    return { pid: process.pid, host: hostname(), url: this.#url, sinceMs: this.#sinceMs };
  }

  async #beat(): Promise<void> {
    if (this.#ended) return;
    const { store, dataDir, clock, log, onLost } = this.#options;
    this.#beatMs = clock.now();
    try {
      await beat(store, this.#note(), this.#beatMs);
      const path = pathOf(dataDir);
      writeFileSync(`${path}.new`, `${JSON.stringify(this.view())}\n`);
      renameSync(`${path}.new`, path);
      this.#told = false;
    } catch (error) {
      if (isFenced(error)) return onLost();
      if (!this.#told) log(`the sign of life could not be written: ${describeError(error)}`);
      this.#told = true;
    }
    this.#cancel();
    if (!this.#ended) this.#cancel = clock.timer(BEAT_MS, () => void (this.#beating = this.#beat()));
  }
}

/** Who led last, as far as the folder tells; null when it does not. */
export function readLeader(dataDir: string): LeaderView | null {
  try {
    const parsed = leaderFile.safeParse(JSON.parse(readFileSync(pathOf(dataDir), 'utf8')));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
