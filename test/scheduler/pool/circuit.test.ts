import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Circuit } from '../../../src/scheduler/pool/circuit.ts';

test('three failures in a row open it, an answer between them does not let it come to that', () => {
  const circuit = new Circuit();
  circuit.failed(0);
  circuit.failed(0);
  circuit.served();
  circuit.failed(0);
  circuit.failed(0);
  assert.equal(circuit.admits(0), true);
  circuit.failed(0);
  assert.equal(circuit.admits(0), false);
  assert.equal(circuit.admitsAtMs(0), 1000);
});

test('after a while one request at a time may try, and each failure doubles the while up to 30 s', () => {
  const circuit = new Circuit();
  let now = 0;
  for (let count = 0; count < 3; count += 1) circuit.failed(now);
  for (const waitMs of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    assert.equal(circuit.admits(now + waitMs - 1), false);
    now += waitMs;
    assert.equal(circuit.admits(now), true);
    circuit.taken();
    assert.equal(circuit.admits(now), false, 'one at a time');
    assert.equal(circuit.admitsAtMs(now), null);
    circuit.failed(now);
  }
  circuit.verified(now);
  assert.equal(circuit.admits(now), true);
});

test('a trial that the client gave up is none', () => {
  const circuit = new Circuit();
  for (let count = 0; count < 3; count += 1) circuit.failed(0);
  circuit.taken();
  circuit.cancelled();
  assert.equal(circuit.admits(1000), true);
});

test('one that is busy is left alone for as long as it asked, and is under no suspicion', () => {
  const circuit = new Circuit();
  circuit.busy(0, 5000);
  assert.deepEqual([circuit.admits(4999), circuit.admits(5000), circuit.suspectMs], [false, true, null]);
  assert.equal(circuit.admitsAtMs(0), 5000);
});

test('a request that failed there may come back only after a probe that was answered later', () => {
  const circuit = new Circuit();
  assert.equal(circuit.readmits(0), false);
  circuit.verified(10);
  assert.deepEqual([circuit.readmits(9), circuit.readmits(10), circuit.readmits(11)], [true, false, false]);
});

test('whatever happens, it is never closed for good: after half a minute it admits a request or one is trying', () => {
  const step = fc.oneof(
    fc.constantFrom('served', 'failed', 'cancelled', 'taken', 'verified').map((what) => ({ what, ms: 0 })),
    fc.nat(60_000).map((ms) => ({ what: 'busy', ms })),
    fc.nat(5000).map((ms) => ({ what: 'pass', ms })),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const circuit = new Circuit();
      let now = 0;
      let trying = false;
      for (const { what, ms } of steps) {
        if (what === 'served') circuit.served();
        else if (what === 'failed') circuit.failed(now);
        else if (what === 'cancelled') circuit.cancelled();
        else if (what === 'verified') circuit.verified(now);
        else if (what === 'busy') circuit.busy(now, ms);
        else if (what === 'taken') circuit.taken();
        else now += ms;
        trying = what === 'taken' || (what === 'pass' && trying);
        const at = circuit.admitsAtMs(now);
        assert.ok(circuit.admits(now) || trying || (at !== null && at <= now + 60_000), `${what} at ${now}`);
        if (at !== null) assert.equal(circuit.admits(at) || trying, true);
      }
    }),
  );
});
