import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newDispute, nextDispute, WINDOWS, type Dispute } from '../../../src/leases/dispute.ts';
import { JoinedDisputes } from '../../../src/leases/local/joined-disputes.ts';
import { breachOf } from '../../../src/spec/dispute.ts';

test('a provider is told of what it may answer, however much of its waits for a judgement', () => {
  const disputes = new JoinedDisputes();
  for (let at = 0; at < 200; at += 1) tell(disputes, answered(filed(`lease-${at}`)));
  const late = filed('lease-late');
  tell(disputes, late);
  const told = disputes.messages();
  assert.equal(told.length, 64);
  assert.ok(told.some(({ id, state }) => id === late.id && state === 'open'));
});

function tell(disputes: JoinedDisputes, dispute: Dispute): void {
  disputes.set(dispute, { health: null, answer: () => Promise.resolve() });
}

function filed(id: string): Dispute {
  const breach = breachOf({ kind: 'slow', reason: 'x', fromMs: 0, toMs: 1000 });
  const lease = { id, pool: 'tiny', provider: 'rack-7' };
  return newDispute({ market: 'local', lease, breach, atMs: 1000, local: false, withheld: null, windows: WINDOWS });
}

function answered(dispute: Dispute): Dispute {
  const answer = { accepts: false, text: 'it was not', measured: [], atMs: 2000 };
  const step = nextDispute(dispute, { type: 'answered', answer }, { atMs: 2000, windows: WINDOWS });
  assert.ok('dispute' in step);
  return step.dispute;
}
