import type { EpochMs } from '../../units.ts';
import { isExcluded, meets, type Replica, type Wish } from './slot.ts';

/** Where an opening is known, a replica may have so much more than its share of the requests at work. */
const SHARE_MOST = 1.25;

/**
 * A replica with a free slot for the request, or undefined. The one that has worked on its opening before, as long as that
 * one does not carry clearly more than its share; on a miss, load decides.
 */
export function chooseReplica(replicas: Iterable<Replica>, wish: Wish, nowMs: EpochMs): Replica | undefined {
  const { exclude, needs, opening } = wish;
  let least: Replica | undefined;
  let known: Replica | undefined;
  let best = { session: false, matched: 0 };
  let [atWork, capacity] = [1, 0];
  const fit: Replica[] = [];
  for (const replica of replicas) {
    const { target, inFlight, draining, circuit } = replica;
    if (draining || !circuit.admits(nowMs)) continue;
    if ((exclude && isExcluded(replica, exclude)) || !meets(replica, needs)) continue;
    atWork += inFlight;
    capacity += capacityOf(replica);
    if (inFlight >= target.slots) continue;
    if (!least || loadOf(replica) < loadOf(least)) least = replica;
    if (opening) fit.push(replica);
  }
  if (!opening || fit.length < 2) return least;
  for (const replica of fit) {
    const session = replica.remembered.hasSession(opening);
    const matched = replica.remembered.matched(opening);
    if (!session && matched === 0) continue;
    if (replica.inFlight + 1 > Math.ceil((SHARE_MOST * atWork * capacityOf(replica)) / capacity)) continue;
    const lead = Number(session) - Number(best.session) || matched - best.matched;
    if (known && (lead < 0 || (lead === 0 && loadOf(replica) >= loadOf(known)))) continue;
    [known, best] = [replica, { session, matched }];
  }
  return known ?? least;
}

/** Requests that it works on at a time, at the pace of the pool's others. */
const capacityOf = ({ target, pace }: Replica): number => target.slots * pace;
const loadOf = (replica: Replica): number => replica.inFlight / capacityOf(replica);
