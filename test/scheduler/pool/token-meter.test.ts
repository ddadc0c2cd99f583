import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TokenMeter } from '../../../src/scheduler/pool/token-meter.ts';

const MINUTE = 60_000;
const START = 1_700_000_000_000 - (1_700_000_000_000 % MINUTE);

test('nothing was asked: no rate, and no usual request', () => {
  const meter = new TokenMeter();
  assert.deepEqual(meter.rate(START), { input: 0, output: 0 });
  assert.equal(meter.average(START), null);
});

test('a rate is taken over the time that is known, at least ten minutes, at most an hour', () => {
  const meter = new TokenMeter();
  meter.add(START, 1000, 100);
  assert.deepEqual(meter.rate(START), { input: 6000, output: 600 });
  meter.add(START + 20 * MINUTE, 1000, 100);
  assert.deepEqual(meter.rate(START + 20 * MINUTE), { input: 6000, output: 600 });
  assert.deepEqual(meter.average(START + 20 * MINUTE), { input: 1000, output: 100 });
  // The first minute is just out of the hour.
  assert.deepEqual(meter.rate(START + 60 * MINUTE), { input: 1000, output: 100 });
  assert.deepEqual(meter.rate(START + 200 * MINUTE), { input: 0, output: 0 });
});

test('a rate of the last minutes leaves out what came before them', () => {
  const meter = new TokenMeter();
  meter.add(START, 6000, 600);
  meter.add(START + 30 * MINUTE, 1000, 100);
  assert.deepEqual(meter.rate(START + 30 * MINUTE, 10), { input: 6000, output: 600 });
});

test('a clock that is set back finds no minutes of the future', () => {
  const meter = new TokenMeter();
  meter.add(START + 5 * MINUTE, 1000, 100);
  assert.deepEqual(meter.rate(START), { input: 0, output: 0 });
});

test('what requests are like is told by the last ten minutes where they are many, else by the hour', () => {
  const meter = new TokenMeter();
  meter.add(START, 100_000, 20_000, 100);
  meter.add(START + 30 * MINUTE, 99_000, 9900, 99);
  assert.deepEqual(meter.means(START + 30 * MINUTE), { requests: 199, input: 1000, output: 29_900 / 199 });
  meter.add(START + 31 * MINUTE, 1000, 100);
  assert.deepEqual(meter.means(START + 31 * MINUTE), { requests: 100, input: 1000, output: 100 });
  assert.equal(meter.means(START + 45 * MINUTE).requests, 200, 'nothing came lately');
});
