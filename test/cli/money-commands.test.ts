import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { runCommand } from '../../src/cli/program.ts';
import { systemRandom } from '../../src/random.ts';
import { systemClock, type Clock } from '../../src/clock.ts';

const OPEN = { stopped: true, done: false, open: [{ lease: 'lease-1', market: 'akash', why: 'on its way' }] };
const DONE = { stopped: true, done: true, open: [] };

test('panic asks for the words, and does nothing without them', async (t) => {
  const { run, requests } = await setup(t, [DONE]);
  assert.deepEqual(await run(['panic'], () => 'yes'), { code: 1, out: '', err: 'not confirmed: nothing was closed\n' });
  const nobody = await run(['panic'], null);
  assert.equal(nobody.code, 1);
  assert.match(nobody.err, /add --yes/);
  assert.deepEqual(requests, []);
  const asked: string[] = [];
  const done = await run(['panic', '--reason', 'drill'], (question) => (asked.push(question), 'close every lease'));
  assert.equal(done.code, 0, done.err);
  assert.match(asked[0] ?? '', /ends every lease of every market.*Type "close every lease"/);
  assert.deepEqual(requests, ['POST /admin/panic {"confirm":"close every lease","reason":"drill"}']);
});

test('panic waits until all is closed, and says what is not', async (t) => {
  const { run, requests } = await setup(t, [OPEN, OPEN, DONE]);
  const { code, out } = await run(['panic', '--yes', '--json'], null);
  assert.deepEqual([code, JSON.parse(out)], [0, DONE]);
  assert.deepEqual(requests, [
    'POST /admin/panic {"confirm":"close every lease"}',
    'GET /admin/panic',
    'GET /admin/panic',
  ]);
  const stuck = await setup(t, [OPEN]);
  const late = await stuck.run(['panic', '--yes'], null);
  assert.equal(late.code, 1);
  assert.match(late.out, /lease-1 +akash +on its way/);
  assert.match(late.err, /^1 leases or orders are not closed yet: the gateway goes on trying/);
});

test('panic is taken back and looked at without a question', async (t) => {
  const { run, requests } = await setup(t, [DONE]);
  assert.equal((await run(['panic', '--resume'], null)).code, 0);
  assert.equal((await run(['panic', '--status'], null)).code, 0);
  assert.deepEqual(requests, ['DELETE /admin/panic', 'GET /admin/panic']);
});

test('treasury prints every list as a table', async (t) => {
  const wallets = [{ wallet: 'treasury', act: '36.00' }];
  const reply = { data: [{ market: 'akash', act: '36.00', alarms: [], wallets }] };
  const { run, requests } = await setup(t, [reply]);
  const { code, out } = await run(['treasury'], null);
  assert.equal(code, 0);
  assert.match(out, /^market {2}akash\nact {5}36\.00\nalarms {2}none\nwallets:\n {2}wallet +act\n/);
  assert.deepEqual(requests, ['GET /admin/treasury']);
});

test('margin has its total below its columns, and takes a date as midnight in UTC', async (t) => {
  const { run, requests } = await setup(t, [
    {
      from: '2026-11-01T00:00:00.000Z',
      group_by: 'pool',
      data: [{ pool: 'm', rent_usd: '1.00', margin_usd: '2.00' }],
      total: { total: 'total', rent_usd: '1.50', margin_usd: '1.50' },
      other: [],
    },
  ]);
  const { out } = await run(['margin', '--from', '2026-11-01'], null);
  assert.deepEqual(out.split('\n').slice(0, 3), [
    'pool   rent_usd  margin_usd',
    'm          1.00        2.00',
    'total      1.50        1.50',
  ]);
  assert.deepEqual(requests, ['GET /admin/reports/margin?group_by=pool&from=2026-11-01T00%3A00%3A00Z']);
});

interface Finished {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A gateway that gives these replies, the last one again and again, and a terminal with somebody at it, or nobody. */
async function setup(t: TestContext, replies: readonly unknown[]) {
  const requests: string[] = [];
  const left = [...replies];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      requests.push(`${request.method} ${request.url} ${Buffer.concat(parts).toString()}`.trim());
      response.end(JSON.stringify(left.length > 1 ? left.shift() : left[0]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const clock: Clock = { ...systemClock, sleep: () => Promise.resolve() };
  const run = async (args: readonly string[], answer: ((question: string) => string) | null): Promise<Finished> => {
    let [out, err] = ['', ''];
    const code = await runCommand(args, {
      env: { UNDERBID_PORT: String(port), UNDERBID_ADMIN_KEY: 'top-secret' },
      cwd: '/',
      clock,
      random: systemRandom,
      out: (text) => void (out += `${text}\n`),
      err: (text) => void (err += `${text}\n`),
      prompt: (question) => Promise.resolve(answer === null ? null : answer(question)),
      serve: () => Promise.resolve(),
    });
    return { code, out, err };
  };
  return { run, requests };
}
