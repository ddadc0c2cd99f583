import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextLeaseState, type LeaseEvent } from '../../src/leases/machine.ts';
import type { LeaseState } from '../../src/leases/market.ts';

const EVENTS: Record<LeaseEvent['type'], LeaseEvent> = {
  deposited: { type: 'deposited' },
  deposit_refused: { type: 'deposit_refused' },
  closed: { type: 'closed', reason: 'tenant' },
};

/** Every state with every event: where it leads, or null where it cannot happen. */
const TABLE: Record<LeaseState, Record<LeaseEvent['type'], LeaseState | null>> = {
  opening: { deposited: 'active', deposit_refused: 'closed', closed: 'closed' },
  active: { deposited: null, deposit_refused: null, closed: 'closed' },
  closed: { deposited: null, deposit_refused: null, closed: null },
};

for (const state of Object.keys(TABLE) as LeaseState[]) {
  for (const type of Object.keys(EVENTS) as LeaseEvent['type'][]) {
    const expected = TABLE[state][type];
    test(`a lease that is ${state} ${expected ? `becomes ${expected} when` : 'refuses to be'} ${type}`, () => {
      const step = nextLeaseState(state, EVENTS[type]);
      if (expected) assert.deepEqual(step, { state: expected });
      else assert.deepEqual(step, { refused: `a lease that is ${state} cannot be ${type}` });
    });
  }
}
