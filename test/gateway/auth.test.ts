import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../src/errors.ts';
import { hashKey, hintOf, isAdmin, Keys, KEY_PREFIX, newKey, requireModel } from '../../src/gateway/auth.ts';
import { UNLIMITED, type KeySettings } from '../../src/ledger/access.ts';
import { createMemoryLedger } from '../../src/ledger/memory.ts';
import { systemRandom } from '../../src/random.ts';
import { FakeClock } from '../fakes/clock.ts';

test('a key is known by its hash, with its account and settings', async () => {
  const { keys, add, now } = await setup();
  const key = await add('k1', { models: ['a'] });
  const settings = { ...UNLIMITED, models: ['a'] };
  const expected = { customer: 'acct', key: 'k1', meter: 'k1', name: 'k1', endsMs: null, settings };
  for (const header of [`Bearer ${key}`, `bearer ${key}`, `Bearer   ${key} `]) {
    assert.deepEqual(keys.authenticate(header, now), expected);
    // The second time from memory.
    assert.deepEqual(keys.authenticate(header, now), expected);
  }
});

test('a key expires at its time, also when it was just used', async () => {
  const { keys, add, now } = await setup();
  const key = await add('k1', { expiresMs: now + 1000 });
  assert.equal(keys.authenticate(`Bearer ${key}`, now + 999).key, 'k1');
  refuses(() => keys.authenticate(`Bearer ${key}`, now + 1000));
});

test('a revoked key is refused as soon as keys were read anew, also when it was just used', async () => {
  const { keys, add, ledger, now } = await setup();
  const key = await add('k1', {});
  keys.authenticate(`Bearer ${key}`, now);
  await ledger.ask({ op: 'revoke', id: 'k1', atMs: now });
  await keys.refresh();
  refuses(() => keys.authenticate(`Bearer ${key}`, now));
});

test('what is no key of ours is refused', async () => {
  const { keys, add, now } = await setup();
  const key = await add('k1', {});
  for (const header of [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    key,
    `Basic ${key}`,
    `Bearer ${key}x`,
    `Bearer ${key} ${key}`,
  ]) {
    refuses(() => keys.authenticate(header, now));
  }
  refuses(() => keys.authenticate(`Bearer ${hashKey(key)}`, now));
  refuses(() => keys.authenticate(`Bearer ${'x'.repeat(513)}`, now));
});

test('ten thousand spellings of one key do not fill the memory', async () => {
  const { keys, add, now } = await setup();
  const key = await add('k1', {});
  for (let count = 1; count <= 10_050; count += 1) keys.authenticate(`Bearer${' '.repeat(count)}${key}`, now);
  assert.equal(keys.authenticate(`Bearer ${key}`, now).key, 'k1');
});

test('a key that names its models may use no other', () => {
  const caller = (models: string[] | null) => ({ customer: 'acct', key: 'k', settings: { ...UNLIMITED, models } });
  requireModel(caller(null), 'any');
  requireModel(caller(['a', 'b']), 'b');
  for (const models of [[], ['a'], ['B']]) {
    assert.throws(
      () => requireModel(caller(models), 'b'),
      (error: unknown) => error instanceof AppError && error.code === 'permission_denied' && error.param === 'model',
    );
  }
});

test('keys are random, long and shown by a hint only', () => {
  const keys = Array.from({ length: 100 }, () => newKey(systemRandom));
  assert.equal(new Set(keys).size, 100);
  for (const key of keys) {
    assert.match(key, /^sk-ub-[0-9A-Za-z]{40}$/);
    assert.equal(hintOf(key), `${key.slice(0, KEY_PREFIX.length + 4)}…`);
  }
});

test('the admin key is the one whose hash is known, and nothing else', () => {
  const hash = hashKey('sk-ub-admin-1');
  assert.equal(isAdmin('Bearer sk-ub-admin-1', hash), true);
  for (const header of [undefined, '', 'Bearer', 'Bearer sk-ub-admin-2', `Bearer ${hash}`, 'Basic sk-ub-admin-1']) {
    assert.equal(isAdmin(header, hash), false);
  }
});

function refuses(call: () => unknown): void {
  assert.throws(call, (error: unknown) => error instanceof AppError && error.code === 'invalid_api_key');
}

async function setup() {
  const clock = new FakeClock();
  const ledger = createMemoryLedger(clock);
  const keys = new Keys(ledger);
  await ledger.ask({ op: 'customer', id: 'acct', name: 'acct', atMs: clock.now() });
  const add = async (id: string, settings: Partial<KeySettings>): Promise<string> => {
    const key = newKey(systemRandom);
    const record = { id, hash: hashKey(key), hint: hintOf(key), customer: 'acct', name: id };
    await ledger.ask({ op: 'key', ...record, settings: { ...UNLIMITED, ...settings }, atMs: clock.now() });
    await keys.refresh();
    return key;
  };
  return { keys, ledger, add, now: clock.now() };
}
