import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readLogFrame } from '../../../src/leases/akash/provider-reply.ts';
import type { LogLine, LogRequest } from '../../../src/leases/market.ts';
import { akashOrder, openAkash, type AkashBench } from './market-bench.ts';

const LOGS: LogRequest = { what: 'logs', follow: false, tail: 100, service: null };

test('what a container prints and what its cluster says of it can be read, of the services that are asked for', async (t) => {
  const { bench, id } = await leased(t);
  assert.match((await read(bench, id, LOGS)).map(({ text }) => text).join('\n'), /the model server answers/);
  const events = await read(bench, id, { ...LOGS, what: 'events', tail: 2 });
  assert.equal(events.length, 2);
  assert.match(events.at(-1)?.text ?? '', /Started/);
  await assert.rejects(read(bench, id, { ...LOGS, service: 'other' }), /4000.*no running pods/);
  await assert.rejects(read(bench, 'lease-never', LOGS), /no such lease/);
});

test('a log that is followed goes on with what is printed next, without the key, until it is stopped', async (t) => {
  const { bench, id } = await leased(t);
  const stop = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    const lines = bench.market.logs(id, { ...LOGS, follow: true, tail: 1 }, stop.signal);
    for await (const { text } of lines) seen.push(text);
  })();
  await bench.until('what was printed before came', async () => seen.length > 0);
  bench.servers.starts.at(-1)?.exit(`it printed key-of-${id} and went`);
  await bench.until('the next line came', async () => seen.some((line) => line.includes('it printed *** and went')));
  stop.abort(new Error('enough'));
  await reading;
});

test('frames of another shape are shown as they are', () => {
  assert.deepEqual(readLogFrame('{"name":"server-0","message":"up"}'), { source: 'server-0', text: 'up' });
  const event = { type: 'Normal', reason: 'Pulled', note: 'image', object: { kind: 'Pod', name: 'server-0' } };
  assert.deepEqual(readLogFrame(JSON.stringify(event)), { source: 'Pod/server-0', text: 'Normal Pulled: image' });
  assert.deepEqual(readLogFrame('not json'), { source: '', text: 'not json' });
  assert.deepEqual(readLogFrame('[1]'), { source: '', text: '[1]' });
});

async function leased(
  t: Parameters<typeof openAkash>[0],
): Promise<{ readonly bench: AkashBench; readonly id: string }> {
  const bench = await openAkash(t);
  assert.equal((await bench.market.tender(akashOrder('o1'))).kind, 'done');
  await bench.until('a bid comes', async () => ((await bench.market.order('o1'))?.bids.length ?? 0) > 0);
  const [bid] = (await bench.market.order('o1'))?.bids ?? [];
  const accepted = await bench.market.accept('o1', bid?.id ?? '', 1_000_000_000n);
  assert.ok(accepted.kind === 'done');
  const { id } = accepted.value;
  await bench.until('it runs', async () => (await bench.market.status(id))?.delivery.state === 'running');
  return { bench, id };
}

async function read({ market }: AkashBench, id: string, request: LogRequest): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for await (const line of market.logs(id, request, new AbortController().signal)) lines.push(line);
  return lines;
}
