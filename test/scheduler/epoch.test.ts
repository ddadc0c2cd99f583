import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { epochOf, orderPrefix } from '../../src/scheduler/epoch.ts';

test('the id of an order tells the epoch that it was made under', () => {
  fc.assert(fc.property(fc.nat(), fc.string(), (epoch, rest) => epochOf(`${orderPrefix(epoch)}${rest}`) === epoch));
});

test('an id of an earlier version has none', () => {
  for (const id of ['ord-3fVb00000001', 'ord-12', 'ord--1', 'lease-ord-1-2', '']) assert.equal(epochOf(id), null, id);
});
