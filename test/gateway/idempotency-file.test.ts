import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { IdempotencyKey, type IdempotencyDeps, type Subtle } from '../../src/gateway/idempotency.ts';
import { openLedger } from '../../src/ledger/client.ts';
import { systemRandom } from '../../src/random.ts';
import { openSql } from '../../src/store/libsql.ts';
import { startGateway, type Gateway } from '../fakes/gateway.ts';
import { answer } from '../fakes/model-replies.ts';
import { completionOf, errorOf } from '../fakes/reply.ts';

/** Replies kept under an `Idempotency-Key`, in the ledger's file: across restarts, tampered with, and what is not in it. */

const KEY = 'header-3f0c1e0a7d0b4a8e9a51';
const PROMPT = 'prompt-about-the-blue-giraffe';
const ANSWER = 'answer-about-the-red-zebra';
const REPLAYED = 'x-underbid-idempotent-replay';

test('a finished answer is replayed byte for byte after a restart, and charged once', async (t) => {
  const { start } = setup(t);
  const before = await start();
  const first = await before.ask();
  const text = await first.text();
  await before.stop();
  const after = await start();
  const again = await after.ask(before.gateway.key);
  assert.equal(await again.text(), text);
  assert.equal(again.headers.get(REPLAYED), 'true');
  assert.equal(again.headers.get('x-underbid-provider'), first.headers.get('x-underbid-provider'));
  assert.equal(after.gateway.server.requests.length, 0);
  assert.equal(
    (await errorOf(await after.ask(before.gateway.key, { max_tokens: 9 }), 422)).code,
    'idempotency_mismatch',
  );
  const { ok } = await after.gateway.ledger.ask({ op: 'check' });
  assert.equal(ok, true);
  const balance = await after.gateway.ledger.ask({ op: 'balance', customer: 'acct-1' });
  const { usage } = JSON.parse(text) as { usage: { cost: number } };
  assert.equal(Number(balance?.used) / 1e9, usage.cost);
  await after.stop();
});

test('neither the prompt nor the answer nor the header is anywhere in the files of the ledger', async (t) => {
  const { start, folder } = setup(t);
  const { ask, stop } = await start();
  const response = await ask();
  const { id } = await completionOf(response);
  // While the log beside the file is still there.
  const grep = (text: string): string[] =>
    readdirSync(folder).filter((name) => readFileSync(join(folder, name)).includes(text));
  assert.ok(grep(id).length > 0, 'the search finds what is there');
  const secret = [KEY, PROMPT, ANSWER, 'Idempotency', Buffer.from(ANSWER).toString('base64').slice(0, 20)];
  for (const text of secret) assert.deepEqual(grep(text), [], text);
  await stop();
  for (const text of secret) assert.deepEqual(grep(text), [], text);
});

const TAMPERINGS: readonly (readonly [string, string])[] = [
  [
    'changed bytes',
    `UPDATE replays SET sealed = CAST(substr(sealed, 1, 40) || zeroblob(8) || substr(sealed, 49) AS BLOB)`,
  ],
  ['cut short', 'UPDATE replays SET sealed = substr(sealed, 1, 20)'],
  ['empty', `UPDATE replays SET sealed = x''`],
  ['zeros', 'UPDATE replays SET sealed = zeroblob(500)'],
  ['of another key', `UPDATE replays SET sealed = (SELECT r.sealed FROM replays r WHERE r.hash <> replays.hash)`],
  ['of another request', `UPDATE replays SET request = (SELECT r.request FROM replays r WHERE r.hash <> replays.hash)`],
];
for (const [what, statement] of TAMPERINGS) {
  test(`a kept reply that was tampered with counts as one that was not kept: ${what}`, async (t) => {
    const { start, change } = setup(t);
    const before = await start();
    await completionOf(await before.ask());
    await completionOf(await before.ask(before.gateway.key, {}, 'another-key'));
    await before.stop();
    change(statement);
    const after = await start();
    const response = await after.ask(before.gateway.key);
    assert.equal(response.headers.get('x-should-retry'), 'false');
    assert.equal((await errorOf(response, 409)).code, 'idempotency_completed');
    assert.match(after.gateway.logs.join(), /cannot be opened/);
    assert.equal(after.gateway.server.requests.length, 0);
    await after.stop();
  });
}

test('a reply that cannot be sealed is delivered all the same, and not kept', async () => {
  const logs: string[] = [];
  const broken = { encrypt: () => Promise.reject(new Error('no entropy')) } as unknown as Subtle;
  const subtle = Object.assign(Object.create(crypto.subtle) as Subtle, broken, {
    importKey: (...call: Parameters<Subtle['importKey']>) => crypto.subtle.importKey(...call),
  });
  const key = keyOf({ subtle, log: (line: string) => logs.push(line) });
  assert.equal(await key.seal('r1', { headers: {}, body: 'x' }), null);
  assert.match(logs.join(), /r1: its reply is not kept: no entropy/);
});

test('what is sealed for one header, account, route or request opens for no other', async () => {
  const reply = { headers: { a: 'b' }, body: 'line\nline' };
  const sealed = await keyOf({}).seal('r1', reply);
  assert.ok(sealed);
  const open = (key: IdempotencyKey, request = 'r1'): Promise<unknown> =>
    key.replay({ request, state: 'completed', sealed }).then(
      ({ body }) => body,
      (error: { code: string }) => error.code,
    );
  assert.equal(await open(keyOf({})), 'line\nline');
  const others = [keyOf({}, 'other'), keyOf({}, KEY, { account: 'b' }), keyOf({}, KEY, { route: '/v1/embeddings' })];
  for (const other of others) assert.equal(await open(other), 'idempotency_completed');
  assert.equal(await open(keyOf({}), 'r2'), 'idempotency_completed');
  const claims = await Promise.all([keyOf({}), ...others].map((key) => key.claim('body')));
  assert.equal(new Set(claims.map(({ hash }) => hash)).size, 4);
  assert.equal(new Set(claims.map(({ bodyHash }) => bodyHash)).size, 4, 'equal prompts cannot be told from the file');
  assert.deepEqual(await keyOf({}).claim('body'), claims[0]);
  assert.notEqual((await keyOf({}).claim('body ')).bodyHash, claims[0]?.bodyHash);
});

function keyOf(deps: Partial<IdempotencyDeps>, header = KEY, scope: { account?: string; route?: string } = {}) {
  const usual = { subtle: crypto.subtle, random: systemRandom, limits: { replayBytes: 1000 }, log: () => undefined };
  const key = IdempotencyKey.read(
    header,
    { account: 'a', route: '/v1/chat/completions', ...scope },
    { ...usual, ...deps },
  );
  assert.ok(key);
  return key;
}

interface Started {
  readonly gateway: Gateway;
  ask(apiKey?: string, fields?: Record<string, unknown>, header?: string): Promise<Response>;
  stop(): Promise<void>;
}

function setup(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-replays-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const start = async (): Promise<Started> => {
    const ledger = await openLedger({
      dataDir: folder,
      onFatal: (error) => {
        throw error;
      },
    });
    t.after(() => ledger.close());
    const gateway = await startGateway(t, { ledger });
    gateway.server.usually(answer({ pieces: [ANSWER] }));
    return {
      gateway,
      ask: (apiKey = gateway.key, fields = {}, header = KEY) => {
        const messages = [{ role: 'user', content: PROMPT }];
        const headers = { 'idempotency-key': header, authorization: `Bearer ${apiKey}` };
        return gateway.chat({ max_tokens: 50, messages, ...fields }, { headers });
      },
      stop: () => ledger.close(),
    };
  };
  const change = (statement: string): void => {
    const sql = openSql(join(folder, 'ledger.db'));
    try {
      sql.run(statement);
    } finally {
      sql.close();
    }
  };
  return { folder, start, change };
}
