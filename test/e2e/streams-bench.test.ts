import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryParent } from '../../bench/machine.ts';
import type { Books } from '../../bench/streams/gateway.ts';
import { benchmark } from '../../bench/streams/streams.ts';

test('twenty streams through each system: all end whole, are charged exactly, and leave nothing behind', async (t) => {
  const folder = mkdtempSync(join(temporaryParent(), 'underbid-bench-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const argv = ['--streams', '20', '--seconds', '1', '--interval-ms', '100'];
  const { rows, problems, settings } = await benchmark.run({ argv, folder, signal: t.signal, say: () => undefined });
  // How fast a shared machine is on this day is nobody's fault.
  const wrong = problems.filter((problem) => !problem.endsWith('take a longer interval'));
  assert.deepEqual(wrong, []);
  assert.deepEqual(
    rows.map(({ system, scenario, failed }) => [system, scenario, failed]),
    ['direct', 'dispatch', 'underbid'].map((system) => [system, 's20', 0]),
  );
  for (const row of rows) {
    const names = ['rss_per_stream_kib', 'added_chunk_p50_us', 'added_chunk_p99_us', 'chunks_per_s', 'opened_in_s'];
    for (const name of names) assert.equal(typeof row[name], 'number', `${row.system}: ${name}`);
    assert.ok(Number(row['chunks_per_s']) > 0);
  }
  const [books] = settings['books'] as readonly Books[];
  assert.ok(books !== undefined && books.ledger_charged_usd > 0);
  assert.equal(books.held_usd, '0.00');
});
