import type { Clock } from '../clock.ts';
import type { ReplicaState } from './records.ts';

/** So long between two looks at a replica whose market reports nothing: many requests that wait make many ticks. */
export const LOOK_MS: Record<ReplicaState, number> = {
  ordering: 100,
  accepting: 2000,
  starting: 250,
  ready: 2000,
  draining: 2000,
  closing: 2000,
  closed: 0,
};
export const SUSPECT_LOOK_MS = 500;
/** What a plan may have seen of a replica that it gives up; when it moved on meanwhile, the next plan decides. */
export const PLANNED: Record<'withdraw' | 'drain' | 'close', readonly ReplicaState[]> = {
  withdraw: ['ordering', 'starting'],
  drain: ['ready'],
  close: ['draining'],
};

/** So long a stop waits for steps that are under way. */
const STOP_MS = 20_000;

/** Resolves when nothing is under way; a market that does not answer is not waited for without end. */
export async function allEnded(
  busy: ReadonlyMap<string, Promise<void>>,
  { clock, log }: { readonly clock: Clock; readonly log: (line: string) => void },
): Promise<void> {
  let late = false;
  const cut = new AbortController();
  const limit = clock.sleep(STOP_MS, cut.signal).then(
    () => (late = true),
    () => undefined,
  );
  while (busy.size > 0 && !late) await Promise.race([limit, Promise.all(busy.values())]);
  cut.abort();
  if (late) log(`left under way: ${[...busy.keys()].join(', ')}`);
}
