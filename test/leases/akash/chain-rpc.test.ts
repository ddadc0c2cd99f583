import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Agent } from 'undici';
import { systemClock } from '../../../src/clock.ts';
import { RpcPool } from '../../../src/leases/akash/chain-rpc.ts';

test('a node that fails is named in the log by its host: its path may hold a key', async (t) => {
  const dispatcher = new Agent();
  t.after(() => dispatcher.destroy());
  const lines: string[] = [];
  const pool = new RpcPool({
    urls: ['http://127.0.0.1:1/v1/secret-key'],
    chainId: null,
    dispatcher,
    clock: systemClock,
    signal: new AbortController().signal,
    log: (line) => lines.push(line),
  });
  assert.equal(await pool.refresh(), null);
  assert.match(lines.join('\n'), /^node 127\.0\.0\.1:1: /);
  assert.doesNotMatch(lines.join('\n'), /secret-key/);
});
