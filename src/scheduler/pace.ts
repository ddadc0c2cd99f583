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
