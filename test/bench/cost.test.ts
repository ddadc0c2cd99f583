import assert from 'node:assert/strict';
import { test } from 'node:test';
import { benchmark, usdPerMillionTokens } from '../../bench/cost/cost.ts';
import { CLOUDS, LEASES, THROUGHPUTS, TOKEN_PRICES } from '../../bench/cost/published.ts';

test('a GPU of 3.60 an hour that writes a thousand tokens a second costs a dollar per million, and twice that half idle', () => {
  assert.equal(usdPerMillionTokens(3.6, 1000, 1), 1);
  assert.equal(usdPerMillionTokens(3.6, 1000, 0.5), 2);
});

test('every price and speed says where it is from and when', () => {
  for (const { from, date } of [...LEASES, ...CLOUDS, ...THROUGHPUTS, ...TOKEN_PRICES]) {
    assert.match(from, /\w{3}/);
    assert.match(date, /20\d\d/);
  }
});

test('every speed has a lease price and a price that its tokens are sold for, and the claim is counted, not asserted', async () => {
  const context = { argv: [], signal: new AbortController().signal, folder: '', say: () => undefined };
  const { rows, report, problems } = await benchmark.run(context);
  assert.deepEqual(problems, []);
  for (const { model, gpu } of THROUGHPUTS) {
    assert.ok(rows.some((row) => row.system === 'akash' && row['gpu'] === gpu && row['model'] === model));
  }
  const claimed = rows.filter((row) => row['claim'] !== undefined);
  const kept = claimed.filter((row) => Number(row['saved_share']) >= 0.5 && Number(row['saved_share']) <= 0.85).length;
  assert.ok(report.includes(`Of ${claimed.length} prices, the lease is 50 to 85 % below ${kept}.`));
  assert.ok(kept < claimed.length);
});
