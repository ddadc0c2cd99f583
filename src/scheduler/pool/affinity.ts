import type { EpochMs, Tokens } from '../../units.ts';
import { BLOCK_CHARS, CHARS_PER_TOKEN, type Opening } from './opening.ts';
import { isExcluded, meets, type Replica, type Wish } from './slot.ts';

/** What one more request at work weighs, in blocks of a prompt that has to be read. */
const REQUEST_BLOCKS = 4;
/** What a session on its own replica is worth, likewise. */
const SESSION_BLOCKS = 8;
/** Above its share of the requests at work by this factor, and this part of its slots, nothing counts that a replica has read. */
const SHARE_MOST = { times: 1.25, slots: 0.25 };

/** A measurement gone wrong takes no replica out of use. */
const PACE = { least: 0.1, most: 10 };

/** How fast it was measured to be, to the pool's others: what it takes is counted by that. */
export function setPace(replica: Replica, pace: number): void {
  replica.pace = Math.min(PACE.most, Math.max(PACE.least, pace));
}

/** Blocks of an opening that a replica has not read before. */
export function unreadOf({ remembered }: Replica, opening: Opening): number {
  return opening.size - remembered.matched(opening);
}

/**
 * A replica with a free slot for the request, or undefined: the one that has least to do until its first token. That is what
 * those before it still have read, what of its own opening is not read there yet, and the requests at work, all by the
 * replica's pace. A replica that carries clearly more than its share gets nothing for having read the opening.
 * @param unreadMost tokens of prompts: one with more to read, by its pace, has no room
 */
export function chooseReplica(
  replicas: Iterable<Replica>,
  wish: Wish,
  nowMs: EpochMs,
  unreadMost: Tokens = Infinity,
): Replica | undefined {
  const { exclude, needs, opening } = wish;
  const fit: Replica[] = [];
  let [atWork, capacity] = [1, 0];
  for (const replica of replicas) {
    const { target, inFlight, draining, circuit } = replica;
    if (draining || !circuit.admits(nowMs)) continue;
    if ((exclude && isExcluded(replica, exclude)) || !meets(replica, needs)) continue;
    atWork += inFlight;
    capacity += capacityOf(replica);
    if (inFlight < target.slots && hasReadEnough(replica, unreadMost)) fit.push(replica);
  }
  if (fit.length < 2) return fit[0];
  const slots = capacity / fit.length;
  let best: Replica | undefined;
  let least = Infinity;
  for (const replica of fit) {
    const { inFlight, unread, pace, target } = replica;
    const most = (SHARE_MOST.times * atWork * capacityOf(replica)) / capacity + SHARE_MOST.slots * target.slots;
    const own =
      opening === undefined ? 0 : inFlight + 1 <= Math.ceil(most) ? readingOf(replica, opening) : opening.size;
    const work = (unread + own) / pace + (REQUEST_BLOCKS * inFlight * slots) / capacityOf(replica);
    if (work < least) [best, least] = [replica, work];
  }
  return best;
}

/** Whoever is paid by the token has machines that nobody here knows of. */
function hasReadEnough({ target, unread, pace }: Replica, unreadMost: Tokens): boolean {
  return (target.tokenPrice ?? null) !== null || (unread * BLOCK_CHARS) / CHARS_PER_TOKEN <= unreadMost * pace;
}

function readingOf(replica: Replica, opening: Opening): number {
  return unreadOf(replica, opening) - (replica.remembered.hasSession(opening) ? SESSION_BLOCKS : 0);
}

/** Requests that it works on at a time, at the pace of the pool's others. */
const capacityOf = ({ target, pace }: Replica): number => target.slots * pace;
