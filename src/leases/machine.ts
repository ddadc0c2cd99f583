import type { CloseReason, LeaseState } from './market.ts';

/**
 * A lease's life as a table: opening (its deposit is on the way), active (rent is drawn), closed. Everything else about a
 * lease is amounts; this says which event may follow which.
 */
export type LeaseEvent =
  | { readonly type: 'deposited' }
  | { readonly type: 'deposit_refused' }
  | { readonly type: 'closed'; readonly reason: CloseReason };

export type Step = { readonly state: LeaseState } | { readonly refused: string };

const TABLE: Record<LeaseState, Partial<Record<LeaseEvent['type'], LeaseState>>> = {
  opening: { deposited: 'active', deposit_refused: 'closed', closed: 'closed' },
  active: { closed: 'closed' },
  closed: {},
};

/** The state after an event, or why the event cannot happen now. */
export function nextLeaseState(state: LeaseState, event: LeaseEvent): Step {
  const next = TABLE[state][event.type];
  return next ? { state: next } : { refused: `a lease that is ${state} cannot be ${event.type}` };
}
