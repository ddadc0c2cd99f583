import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bidWindow, NO_BID_MS, type Window } from '../../src/scheduler/window.ts';
import { parseUsd } from '../../src/units.ts';
import { testSpec } from '../fakes/market-samples.ts';

const HOUR_MS = 3_600_000;

test('bids are gathered for the window after the first one, or until everybody has answered', () => {
  assert.equal(at(5999, { bids: bids(5000, 5500) }), 'wait');
  assert.equal(at(6000, { bids: bids(5000, 5500) }), 'choose');
  assert.equal(at(5001, { bids: bids(5000), complete: true }), 'choose');
  assert.equal(at(NO_BID_MS - 1), 'wait');
  assert.equal(at(NO_BID_MS), 'give_up');
  assert.equal(at(10, { complete: true }), 'give_up', 'nobody will bid any more');
});

test('requests in line end a long window two blocks after the first bid, and a short one when it is over', () => {
  const long = { bid_window_s: 60 };
  assert.equal(at(21_999, { bids: bids(10_000), waiting: true }, long), 'wait');
  assert.equal(at(22_000, { bids: bids(10_000), waiting: true }, long), 'choose');
  assert.equal(at(22_000, { bids: bids(10_000), waiting: false }, long), 'wait');
  assert.equal(at(11_000, { bids: bids(10_000), waiting: true }), 'choose');
});

test('with nobody in line it is waited longer, while a better bid is worth it, and a minute at most', () => {
  const seen = ['0.20', '0.21', '0.40'].map(parseUsd);
  const dear = { waiting: false, bids: bids(10_000), seenNanoUsdPerHour: seen, lifeMs: 24 * HOUR_MS };
  assert.equal(at(30_000, dear), 'wait', 'half of its price may be saved over a day');
  assert.equal(at(70_000, dear), 'choose');
  assert.equal(at(30_000, { ...dear, waiting: true }), 'choose');
  const cheap = { ...dear, seenNanoUsdPerHour: ['0.40', '0.50', '0.60'].map(parseUsd) };
  assert.equal(at(30_000, cheap), 'choose', 'it is as cheap as any');
  assert.equal(at(30_000, { ...dear, lifeMs: 20_000 }), 'choose', 'there is no time for the saving');
  assert.equal(at(30_000, { ...dear, seenNanoUsdPerHour: [] }), 'choose', 'nothing better is known of');
});

test('a pool without a window takes the first bid', () => {
  const dear = { waiting: false, bids: bids(10_000), seenNanoUsdPerHour: [parseUsd('0.10')], lifeMs: 24 * HOUR_MS };
  assert.equal(at(10_000, dear, { bid_window_s: 0 }), 'choose');
});

const bids = (...atMs: number[]): Window['bids'] =>
  atMs.map((ms) => ({ atMs: ms, costNanoUsdPerHour: parseUsd('0.40') }));

function at(nowMs: number, change: Partial<Window> = {}, pool: { bid_window_s?: number } = {}): string {
  const asked = { orderedMs: 0, bids: [], nowMs, complete: false, waiting: true, blockMs: 6000 };
  return bidWindow({ ...asked, seenNanoUsdPerHour: [], lifeMs: HOUR_MS, ...change }, testSpec(pool));
}
