import { eq } from 'drizzle-orm';
import type { EpochMs } from '../units.ts';
import type { Store } from './open.ts';
import { leader } from './schema.ts';

/** What the leader says of itself, to be found by people. */
export interface LeaderNote {
  readonly pid: number;
  readonly host: string;
  /** Null until it serves. */
  readonly url: string | null;
  readonly sinceMs: EpochMs;
}

/** A sign of life. Fails when another gateway has opened the file since: `isFenced`. */
export async function beat({ db }: Store, note: LeaderNote, atMs: EpochMs): Promise<void> {
  await db.update(leader).set({ body: note, beatMs: atMs }).where(eq(leader.one, 1));
}

/** Whether whoever opened this store is still the last to have done so. */
export async function leads({ db, epoch }: Store): Promise<boolean> {
  const [row] = await db.select({ epoch: leader.epoch }).from(leader).limit(1);
  return row?.epoch === epoch;
}
