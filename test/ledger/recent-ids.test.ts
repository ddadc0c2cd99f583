import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentIds } from '../../src/ledger/recent-ids.ts';

test('the latest ids are known, and memory stays bounded', () => {
  const ids = new RecentIds(10);
  for (let count = 0; count < 100; count += 1) {
    ids.add(`r${count}`);
    for (let back = 0; back < Math.min(10, count); back += 1)
      assert.ok(ids.has(`r${count - back}`), `${count} ${back}`);
    assert.ok(!ids.has(`r${count + 1}`));
    if (count >= 20) assert.ok(!ids.has(`r${count - 20}`));
  }
});
