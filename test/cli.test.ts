import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { adviseOnNode } from '../src/cli/node-version.ts';
import { runCommand } from '../src/cli/program.ts';
import { formatReply } from '../src/cli/table.ts';
import { systemClock } from '../src/clock.ts';
import { configJsonSchema } from '../src/config/json-schema.ts';
import { systemRandom } from '../src/random.ts';

void test('status says whether the gateway serves or stands by, and who leads', async (t) => {
  const leader = { epoch: 3, pid: 7, host: 'here', url: 'http://127.0.0.1:1', since: 'then', beat: 'now' };
  const ready = await setup(t, { 'GET /readyz': { status: 'ready', epoch: 3 }, 'GET /admin/leader': leader });
  const { code, out } = await ready.run('status');
  assert.equal(code, 0);
  for (const word of ['ready', '3', 'here', 'http://127.0.0.1:1']) assert.ok(out.includes(word), out);
  assert.deepEqual(JSON.parse((await ready.run('status', '--json')).out), { status: 'ready', epoch: 3, leader });
  const standby = await setup(t, { 'GET /readyz': { status: 'standby', leader: { epoch: 3, seen_s: 1 } } });
  assert.match((await standby.run('status')).out, /standby[\s\S]*epoch/);
  assert.equal(standby.requests.length, 1, 'a standby is asked nothing that it cannot say');
  assert.match((await standby.runDown('status')).err, /no gateway answers/);
});

test('as a program of its own: replies on stdout, failures on stderr, and an exit code for each', async (t) => {
  const { spawn, spawnDown } = await setup(t, { 'GET /admin/pools': { data: [{ id: 'tiny', warm: 1 }] } });
  const [list, refused, down, usage, help] = await Promise.all([
    spawn('pools', 'list'),
    spawn('orders'),
    spawnDown('replicas'),
    spawnDown('pools', 'lst'),
    spawnDown('--help'),
  ]);
  assert.deepEqual(list, { code: 0, out: 'id    warm\ntiny     1\n', err: '' });
  assert.deepEqual(refused, { code: 1, out: '', err: 'no such route (404 not_found)\n' });
  assert.deepEqual([down.code, down.out], [1, '']);
  assert.match(down.err, /^no gateway answers on http:\/\/127\.0\.0\.1:\d+: start it with npm start\n$/);
  assert.deepEqual([usage.code, usage.out], [2, '']);
  assert.match(usage.err, /unknown command 'lst'\n\(Did you mean list\?\)/);
  assert.equal(help.code, 0);
});

void test('a usage error names the help of its command, where required options are marked', async (t) => {
  const { run } = await setup(t);
  assert.match((await run('keys', 'create', 'a1')).err, /'--name <text>' .*\n\(underbid keys create --help says how/);
  assert.match((await run('accounts', 'freeze', '--help')).out, /kept in the audit log\s+\(required\)/);
});

void test('leases logs prints line by line, with no codes for the terminal, and fails with the last word of the provider', async (t) => {
  const lines = ['{"source":"server-0","text":"up\\u001b[31m"}', '', '{"source":"server-0","text":"\\tready"}', ''];
  const { run } = await setup(t, {
    'GET /admin/leases/l1/logs?follow=true&tail=5': lines.join('\n'),
    'GET /admin/leases/l2/logs?events=true': '{"error":"no running pods"}\n',
  });
  const told = await run('leases', 'logs', 'l1', '--follow', '--tail', '5');
  assert.deepEqual(told, { code: 0, out: 'server-0  up\u{fffd}[31m\nserver-0      ready\n', err: '' });
  assert.equal(
    (await run('leases', 'logs', 'l1', '--follow', '--tail', '5', '--json')).out,
    `${lines[0]}\n${lines[2]}\n`,
  );
  assert.deepEqual(await run('leases', 'logs', 'l2', '--events'), { code: 1, out: '', err: 'no running pods\n' });
  assert.equal((await run('leases', 'logs', 'l3')).err, 'no such route (404 not_found)\n');
});

void test('serve runs the gateway', async (t) => {
  const { runDown } = await setup(t);
  assert.deepEqual(await runDown('serve'), { code: 0, out: 'serving\n', err: '' });
  assert.deepEqual(await runDown('serve', '--standby'), { code: 0, out: 'standing by\n', err: '' });
});

void test('prints a list as a table with a column for every field, known or not', async (t) => {
  const { run, requests } = await setup(t, {
    'GET /admin/replicas': {
      data: [
        { id: 'r1', pool: 'tiny', state: 'ready', created_at: 1_700_000_000, busy: 3, later_field: { deep: 'x' } },
        {
          id: 'r22',
          pool: 'tiny',
          state: 'starting',
          created_at: 1_700_000_060_000,
          busy: 10,
          note: 'a\nb\u001b[31m',
        },
      ],
      has_more: true,
    },
  });
  const { code, out } = await run('replicas');
  assert.equal(code, 0);
  assert.deepEqual(out.split('\n'), [
    'id   pool  state     created_at            busy  later_field.deep  note',
    'r1   tiny  ready     2023-11-14 22:13:20Z     3  x',
    'r22  tiny  starting  2023-11-14 22:14:20Z    10                    a b\u{fffd}[31m',
    '',
    'has_more  true',
    '',
  ]);
  assert.deepEqual(requests, ['GET /admin/replicas Bearer top-secret']);
});

void test('prints the very bytes of the reply with --json', async (t) => {
  const text = '{"data": [{"id": "o1", "nano": 9007199254740993}]}';
  const { run } = await setup(t, { 'GET /admin/orders': text });
  assert.deepEqual(await run('orders', '--json'), { code: 0, out: `${text}\n`, err: '' });
});

void test('shows the six steps of a lease, each with its block and amounts', async (t) => {
  const steps = [
    { step: 'order', at: 1_700_000_000, block: 10, ceiling_usd: '0.000166' },
    { step: 'bid', at: 1_700_000_001, block: 10, amounts: { price_usd: '0.00003' } },
    { step: 'lease', at: 1_700_000_002, block: 11, amounts: { deposit_usd: '0.01' }, provider: 'campus' },
    { step: 'delivery', at: 1_700_000_004, block: 11 },
    { step: 'settlement', at: 1_700_000_100, block: 27, amounts: { rent_usd: '0.0005', fee_usd: '0.0001' } },
    { step: 'close', at: null, block: null },
  ];
  const { run } = await setup(t, { 'GET /admin/leases/l%2F1': { id: 'l/1', state: 'active', steps } });
  const { out } = await run('leases', 'show', 'l/1');
  assert.deepEqual(out.split('\n'), [
    'id     l/1',
    'state  active',
    'steps:',
    '  1. order       2023-11-14 22:13:20Z  block 10  ceiling_usd 0.000166',
    '  2. bid         2023-11-14 22:13:21Z  block 10  price_usd 0.00003',
    '  3. lease       2023-11-14 22:13:22Z  block 11  deposit_usd 0.01, provider campus',
    '  4. delivery    2023-11-14 22:13:24Z  block 11',
    '  5. settlement  2023-11-14 22:15:00Z  block 27  rent_usd 0.0005, fee_usd 0.0001',
    '  6. close       not yet',
    '',
  ]);
});

void test("lists a lease's bids below their step", async (t) => {
  const bids = [
    { provider: 'campus', chance: 0.047619047619047616 },
    { provider: 'colo', chance: 1, note: null },
  ];
  const steps = [{ step: 'bids', at: 1_700_000_000, block: 10, bids, declined: [], detail: '', choice: 'campus' }];
  const { run } = await setup(t, { 'GET /admin/leases/l1': { id: 'l1', steps } });
  assert.deepEqual((await run('leases', 'show', 'l1')).out.split('\n'), [
    'id  l1',
    'steps:',
    '  1. bids  2023-11-14 22:13:20Z  block 10  declined none, choice campus',
    '      bids:',
    '        provider    chance',
    '        campus    0.047619',
    '        colo             1',
    '',
  ]);
});

void test('advises on every pool in a line each, and on one in full', async (t) => {
  const one = {
    model: 'org/m',
    gpu: '1 x rtx4090',
    tokens_per_second: { output: 458.2, input: null, source: 'measured' },
    usd_per_hour: { costs: '0.3900', earns_full: '0.5000', earns_today: null },
    usd_per_million_tokens: { full: '0.2364', today: null },
    utilisation: { today: null, break_even: 0.78 },
    recommended: { ceiling_usd_per_hour: '0.2250', input_usd_per_million: '0.0200', output_usd_per_million: '0.0867' },
    verdict: 'idle',
    reason: 'why',
  };
  const { run } = await setup(t, {
    'GET /admin/advice': { data: [one] },
    'GET /admin/pools/org%2Fm/advice': one,
  });
  assert.deepEqual((await run('pools', 'advise')).out.split('\n'), [
    'model  gpu          tokens/s  costs $/h  $/M full  even at  ceiling to set  $/M to ask  verdict',
    'org/m  1 x rtx4090     458.2     0.3900    0.2364  78 %             0.2250      0.0867  idle',
    '',
  ]);
  const { out } = await run('pools', 'advise', 'org/m');
  assert.match(out, /^tokens_per_second\.source +measured$/m);
  assert.match(out, /^reason +why$/m);
  assert.deepEqual(JSON.parse((await run('pools', 'advise', 'org/m', '--json')).out), one);
});

void test('lists pools by what tells them apart; a reply of another shape is printed as it is', async (t) => {
  const spec = { engine: 'vllm', model: 'org/m', slots: 4, price: { input: '1', output: '2' }, replicas: { max: 3 } };
  const { run } = await setup(t, { 'GET /admin/pools': { data: [{ id: 'm', state: { ready: 1 }, spec }] } });
  assert.deepEqual((await run('pools', 'list')).out.split('\n'), [
    'id  ready  engine  price.input  price.output  replicas.max',
    'm       1  vllm              1             2             3',
    '',
  ]);
  const other = await setup(t, { 'GET /admin/pools': { data: [{ id: 'm', phase: 'asleep' }] } });
  assert.equal((await other.run('pools', 'list')).out, 'id  phase\nm   asleep\n');
});

void test('calls the route of each command, with the body that the contract names', async (t) => {
  const { run, requests, bodies } = await setup(t, {
    'DELETE /admin/pools/org%2Fm': null,
    'POST /admin/leases/l1/close': {},
    'POST /admin/accounts': { id: 'acc1' },
    'GET /admin/accounts/acc1/credits': { data: { total_credits: 5 } },
    'POST /admin/accounts/acc1/keys': { id: 'k1', key: 'sk-ub-abc' },
    'DELETE /admin/keys/k1': null,
  });
  assert.equal((await run('pools', 'delete', 'org/m')).out, 'done\n');
  assert.equal((await run('leases', 'close', 'l1')).code, 0);
  assert.equal((await run('accounts', 'create', 'Ann & Co')).out, 'id  acc1\n');
  assert.equal((await run('credits', 'show', 'acc1')).out, 'data.total_credits  5\n');
  const limits = ['--models', 'a,org/m', '--spend-limit-usd', '2.50', '--rpm', '60', '--expires-at', '1900000000'];
  assert.equal((await run('keys', 'create', 'acc1', '--name', 'app', ...limits)).out, 'id   k1\nkey  sk-ub-abc\n');
  assert.equal((await run('keys', 'revoke', 'k1')).code, 0);
  assert.deepEqual(
    requests.map((request) => request.replace(' Bearer top-secret', '')),
    [
      'DELETE /admin/pools/org%2Fm',
      'POST /admin/leases/l1/close',
      'POST /admin/accounts',
      'GET /admin/accounts/acc1/credits',
      'POST /admin/accounts/acc1/keys',
      'DELETE /admin/keys/k1',
    ],
  );
  assert.deepEqual(bodies, [
    {},
    { name: 'Ann & Co' },
    { name: 'app', models: ['a', 'org/m'], spend_limit_usd: '2.50', rpm: 60, expires_at: 1_900_000_000 },
  ]);
});

void test('calls the routes of keys, projects, admins and deposits', async (t) => {
  const replies = {
    'GET /admin/accounts/acc1/keys': { data: [{ id: 'k1', hint: 'sk-ub-abcd…' }] },
    'POST /admin/accounts/acc1/keys': { id: 'k1', key: 'sk-ub-abc' },
    'POST /admin/keys/k1/rotate': { id: 'k2', key: 'sk-ub-def' },
    'POST /admin/accounts/acc1/freeze': { id: 'acc1', frozen: true },
    'POST /admin/accounts/acc1/unfreeze': { id: 'acc1', frozen: false },
    'GET /admin/accounts/acc1/projects': { data: [] },
    'PUT /admin/accounts/acc1/projects/web%2F1': {},
    'PUT /admin/accounts/acc1/projects/api': {},
    'GET /admin/admin-keys': { data: [] },
    'POST /admin/admin-keys': { id: 'a1', key: 'ak-ub-abc' },
    'DELETE /admin/admin-keys/a1': null,
    'GET /admin/audit': { data: [], has_more: false },
    'GET /admin/audit?limit=5&before=9': {
      data: [{ seq: 8, action: 'key.rotated', detail: { new: 'k2', overlap_s: 60 } }],
    },
    'GET /admin/deposits': { data: [] },
    'POST /admin/deposits/assign': {},
  };
  const { run, requests, bodies } = await setup(t, replies);
  assert.equal((await run('keys', 'list', 'acc1')).out, 'id  hint\nk1  sk-ub-abcd…\n');
  const limits = ['--project', 'web', '--spend-limit-usd', '2.50', '--limit-reset', 'week'];
  await run('keys', 'create', 'acc1', '--name', 'app', ...limits);
  assert.equal((await run('keys', 'rotate', 'k1', '--overlap-s', '0')).out, 'id   k2\nkey  sk-ub-def\n');
  await run('accounts', 'freeze', 'acc1', '--reason', 'unpaid');
  await run('accounts', 'unfreeze', 'acc1');
  await run('projects', 'list', 'acc1');
  await run('projects', 'limit', 'acc1', 'web/1', '--usd', '5', '--reset', 'month');
  await run('projects', 'limit', 'acc1', 'api', '--usd', 'none');
  await run('admin-keys', 'list');
  await run('admin-keys', 'create', '--name', 'Ada', '--role', 'read-only', '--expires-at', '1900000000');
  await run('admin-keys', 'revoke', 'a1');
  await run('audit');
  assert.equal(
    (await run('audit', '--limit', '5', '--before', '9')).out,
    'seq  action       detail\n  8  key.rotated  new=k2 overlap_s=60\n',
  );
  await run('deposits', 'list');
  await run('deposits', 'assign', 'tx/1:0', 'acc1', '--reason', 'they wrote');
  assert.deepEqual(
    requests.map((request) => request.replace(' Bearer top-secret', '')),
    Object.keys(replies),
  );
  assert.deepEqual(
    bodies.filter((body) => JSON.stringify(body) !== '{}'),
    [
      { name: 'app', project: 'web', spend_limit_usd: '2.50', limit_reset: 'week' },
      { overlap_s: 0 },
      { reason: 'unpaid' },
      { spend_limit_usd: '5', limit_reset: 'month' },
      { spend_limit_usd: null, limit_reset: 'none' },
      { name: 'Ada', role: 'read-only', expires_at: 1_900_000_000 },
      { reference: 'tx/1:0', account: 'acc1', reason: 'they wrote' },
    ],
  );
});

void test('refuses values that cannot be right before anything is sent', async (t) => {
  const { run, requests } = await setup(t, {});
  for (const args of [
    ['keys', 'rotate', 'k1', '--overlap-s', '-1'],
    ['keys', 'rotate', 'k1', '--overlap-s', 'day'],
    ['keys', 'create', 'a', '--name', 'x', '--limit-reset', 'year'],
    ['accounts', 'freeze', 'a'],
    ['admin-keys', 'create', '--name', 'x'],
    ['admin-keys', 'create', '--name', 'x', '--role', 'owner'],
    ['audit', '--limit', '0'],
    ['projects', 'limit', 'a', 'web', '--usd', 'five'],
    ['projects', 'limit', 'a', 'web'],
  ]) {
    assert.equal((await run(...args)).code, 2, args.join(' '));
  }
  assert.deepEqual(requests, []);
});

void test('adds credit under an Idempotency-Key, and tells it when the outcome is unknown', async (t) => {
  const { run, keys, bodies } = await setup(t, {
    'POST /admin/accounts/demo/credits': { id: 'tr1', amount_usd: '5.00' },
    'POST /admin/accounts/cut/credits': 'CUT',
  });
  const add = (account: string, ...more: string[]) =>
    run('credits', 'add', account, '5.00', '--kind', 'paid', '--reason', 'invoice 7', ...more);
  assert.equal((await add('demo')).code, 0);
  assert.equal((await add('demo', '--idempotency-key', 'mine')).code, 0);
  assert.deepEqual(bodies[0], { amount_usd: '5.00', kind: 'paid', reason: 'invoice 7' });
  assert.match(keys[0] ?? '', /^cli-\w{22}$/);
  assert.equal(keys[1], 'mine');
  const lost = await add('cut');
  assert.equal(lost.code, 1);
  assert.match(lost.err, /failed: .*\nit may have been added: repeat the same with --idempotency-key cli-\w{22}, /);
  assert.equal(lost.err.includes(keys[2] ?? '?'), true);
});

void test('puts the pools of a file one by one, and none when one of them is wrong', async (t) => {
  const { run, requests, bodies, cwd } = await setup(t, {
    'PUT /admin/pools/a': { id: 'a' },
    'PUT /admin/pools/org%2Fb': {
      error: { message: 'org/b comes from the file', type: 'x', param: null, code: 'pool_read_only' },
    },
  });
  const pool =
    '{ engine: vllm, model: m, context: 2048, price: { input: "1", output: "2" }, ceiling_usd_per_hour: "1" }';
  writeFileSync(join(cwd, 'bad.yaml'), `pools:\n  a: ${pool}\n  b: { modl: x }\n`);
  const bad = await run('pools', 'put', 'bad.yaml');
  assert.equal(bad.code, 1);
  assert.match(bad.err, /^bad.yaml:3:8 pools.b.modl: unknown key: did you mean model\?$/m);
  assert.deepEqual(requests, []);
  writeFileSync(join(cwd, 'good.yaml'), `pools:\n  a: ${pool}\n  org/b: ${pool}\n`);
  const good = await run('pools', 'put', 'good.yaml');
  assert.deepEqual(good, { code: 1, out: 'a: saved\n', err: 'org/b comes from the file (409 pool_read_only)\n' });
  const price = { input: '1', output: '2' };
  assert.deepEqual(bodies[0], { engine: 'vllm', model: 'm', context: 2048, price, ceiling_usd_per_hour: '1' });
});

void test('prints the result of every check of the ledger, and fails when one does', async (t) => {
  const checks = [
    { name: 'sums to zero', ok: true, detail: '12 transfers' },
    { name: 'chain', ok: false, detail: 'row 7' },
  ];
  const { run } = await setup(t, { 'GET /admin/ledger/check': { ok: false, checks } });
  const { code, out, err } = await run('ledger', 'check');
  assert.equal(code, 1);
  assert.match(out, /^sums to zero +ok +12 transfers\nchain +FAILED +row 7$/m);
  assert.equal(err, 'the ledger does not add up: 1 checks failed\n');
});

void test('checks the ledger on the files themselves when no gateway runs', async (t) => {
  const { runDown, cwd } = await setup(t);
  const { code, err } = await runDown('ledger', 'check');
  assert.deepEqual([code, err], [1, `there is no ledger in ${join(cwd, '.underbid')}\n`]);
});

void test("takes the operator's key from the data folder, and says so when there is none", async (t) => {
  const { run, requests, cwd } = await setup(t, { 'GET /admin/leases': { data: [] } });
  const without = await run('leases', 'list', { UNDERBID_ADMIN_KEY: '' });
  assert.equal(without.code, 1);
  assert.match(without.err, /^no operator's key in .*admin.key: set UNDERBID_ADMIN_KEY/);
  mkdirSync(join(cwd, '.underbid'));
  writeFileSync(join(cwd, '.underbid', 'admin.key'), 'from-file\n');
  const { code, out } = await run('leases', 'list', { UNDERBID_ADMIN_KEY: '' });
  assert.deepEqual([code, out], [0, 'none\n']);
  assert.equal(requests.at(-1), 'GET /admin/leases Bearer from-file');
});

void test('says that no gateway answers, with or without a key', async (t) => {
  const { runDown } = await setup(t);
  const expected = /^no gateway answers on http:\/\/127\.0\.0\.1:\d+: start it with npm start\n$/;
  for (const key of ['top-secret', '']) {
    const { code, err } = await runDown('pools', 'list', { UNDERBID_ADMIN_KEY: key });
    assert.equal(code, 1);
    assert.match(err, expected);
  }
});

void test("shows the server's refusals, and does not take another server for a gateway", async (t) => {
  const { run } = await setup(t, { 'GET /admin/providers': '<html>', 'GET /admin/decisions': 'MOVED' });
  assert.deepEqual(await run('orders'), { code: 1, out: '', err: 'no such route (404 not_found)\n' });
  assert.match((await run('providers')).err, /is no Underbid gateway, or another version \(status 200\)/);
  // Not followed: the operator's key is for this address alone.
  assert.match((await run('decisions')).err, /is no Underbid gateway, or another version \(status 302\)/);
});

void test('tells bad usage from failure by its exit code', async (t) => {
  const { runDown } = await setup(t);
  const usages = [
    ['pols'],
    ['credits', 'add', 'demo', '5.00', '--kind', 'gift', '--reason', 'r'],
    ['credits', 'add', 'demo', 'five', '--kind', 'paid', '--reason', 'r'],
    ['leases', 'show', '..'],
    ['keys', 'create', 'demo', '--name', 'n', '--rpm', '0'],
  ];
  for (const usage of usages) {
    const { code, out } = await runDown(...usage);
    assert.deepEqual([code, out], [2, ''], usage.join(' '));
  }
  assert.equal((await runDown('--help')).code, 0);
});

void test('checks the configuration without a gateway: what is in force, or every mistake', async (t) => {
  const { runDown, cwd } = await setup(t);
  const good = await runDown('config', 'check');
  assert.equal(good.code, 0);
  assert.match(good.out, /^admin_key: "\[secret\]"\npools:\n {2}smollm2-135m:\n/m);
  writeFileSync(join(cwd, 'underbid.yaml'), 'cors: 1\nlimit: {}\n');
  const bad = await runDown('config', 'check', '--json');
  assert.deepEqual([bad.code, bad.out], [1, '']);
  assert.match(bad.err, /^underbid.yaml:1:7 cors: .*\nunderbid.yaml:2:1 limit: unknown key: did you mean limits\?\n$/);
  // Whoever mends a file can still look at the gateway.
  assert.match((await runDown('pools', 'list')).err, /^no gateway answers/);
});

void test('prints the settings with their defaults, and their JSON Schema', async (t) => {
  const { runDown } = await setup(t);
  for (const args of [
    ['config', '--help'],
    ['config', 'help'],
  ]) {
    const { code, out } = await runDown(...args);
    assert.equal(code, 0);
    assert.match(out, /UNDERBID_PORT +port to listen on.*8080[\s\S]*markets\.local\.block_ms/);
  }
  const schema: unknown = JSON.parse((await runDown('config', 'schema')).out);
  assert.deepEqual(schema, configJsonSchema());
});
void test('names the Node that is needed and how to get it', () => {
  for (const version of ['22.18.0', '23.0.0', '24.21.0']) assert.equal(adviseOnNode(version), null);
  for (const version of ['22.17.9', '20.20.2']) assert.match(adviseOnNode(version) ?? '', /22\.18 or later.*npm ci/);
});

void test('prints rows that hold lists of their own one below the other', () => {
  const bids = [
    { provider: 'campus', price_usd: '0.02' },
    { provider: 'colo', price_usd: '0.11' },
  ];
  assert.equal(
    formatReply({
      object: 'list',
      data: [
        { id: 'o1', choice: { bid: 'b1', why: 'cheapest' }, bids },
        { id: 'o2', bids: [] },
      ],
    }),
    [
      'id          o1',
      'choice.bid  b1',
      'choice.why  cheapest',
      'bids:',
      '  provider  price_usd',
      '  campus         0.02',
      '  colo           0.11',
      '',
      'id    o2',
      'bids  none',
    ].join('\n'),
  );
});

/** A tiny admin server: `METHOD /path` to a body; a string goes out as it is, CUT ends the connection, MOVED redirects. */
async function setup(t: TestContext, routes: Record<string, unknown> = {}) {
  const cwd = mkdtempSync(join(tmpdir(), 'underbid-cli-'));
  t.after(() => rmSync(cwd, { recursive: true }));
  const requests: string[] = [];
  const bodies: unknown[] = [];
  const keys: string[] = [];
  const server = createServer((request, response) => {
    void readBody(request).then((text) => {
      const route = `${request.method} ${request.url}`;
      if (route === 'GET /healthz') return response.end('ok');
      requests.push(`${route} ${request.headers.authorization}`);
      if (text !== '') bodies.push(JSON.parse(text));
      if (typeof request.headers['idempotency-key'] === 'string') keys.push(request.headers['idempotency-key']);
      const missing = { error: { message: 'no such route', type: 'x', param: null, code: 'not_found' } };
      const body = route in routes ? routes[route] : missing;
      if (body === 'CUT') return response.destroy();
      if (body === 'MOVED') return response.writeHead(302, { location: '/admin/orders' }).end();
      response.statusCode = body === missing ? 404 : JSON.stringify(body).startsWith('{"error"') ? 409 : 200;
      return response.end(typeof body === 'string' ? body : body === null ? '' : JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const start =
    (run: typeof runCommandLine, usedPort: number) =>
    (...args: (string | Record<string, string>)[]): Promise<Finished> => {
      const words = args.filter((arg) => typeof arg === 'string');
      const more = args.filter((arg) => typeof arg !== 'string');
      const env = { UNDERBID_PORT: String(usedPort), UNDERBID_ADMIN_KEY: 'top-secret' };
      return run(words, Object.assign(env, ...more) as Record<string, string>, cwd);
    };
  const freePort = await findFreePort();
  return {
    cwd,
    requests,
    bodies,
    keys,
    run: start(runCommandLine, port),
    runDown: start(runCommandLine, freePort),
    spawn: start(spawnCli, port),
    spawnDown: start(spawnCli, freePort),
  };
}

/** In this process, over a real socket all the same: a child takes half a second to start. */
async function runCommandLine(args: readonly string[], env: Record<string, string>, cwd: string): Promise<Finished> {
  let [out, err] = ['', ''];
  const code = await runCommand(args, {
    env,
    cwd,
    clock: systemClock,
    random: systemRandom,
    out: (text) => void (out += `${text}\n`),
    err: (text) => void (err += `${text}\n`),
    serve: ({ standby }) => Promise.resolve(void (out += standby ? 'standing by\n' : 'serving\n')),
  });
  return { code, out, err };
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

interface Finished {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function spawnCli(args: readonly string[], env: Record<string, string>, cwd: string): Promise<Finished> {
  const cli = fileURLToPath(new URL('../src/cli.ts', import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [cli, ...args], { cwd, env }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
  });
}
