import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  shortenAdvice,
  shortenDecisions,
  shortenPools,
  shortenProviders,
  shortenSwitch,
} from '../../src/cli/shapes.ts';
import { formatReply } from '../../src/cli/table.ts';

test('decisions are read by their reason: it stands last, and whole', () => {
  const reason =
    'campus at 0.02352 USD/h of 3 eligible bids, next datahall at 0.0276: decided by price, and by how it starts';
  const body = {
    data: [{ seq: 1, at: 'T', pool: 'm', kind: 'lease.opened', reason, lease: 'l1', order: 'o1', wake: {} }],
  };
  assert.equal(
    formatReply(shortenDecisions(body)),
    `at  pool  kind          about  reason\nT   m     lease.opened  l1     ${reason}`,
  );
});

test('providers are a line each; one of them, named, is shown in full on every market that has it', () => {
  const { body } = setup();
  assert.equal(
    formatReply(shortenProviders(body)),
    'id  market  capacity  why\na   local          2  new here\na   akash             slow\nb   local          1  new here',
  );
  assert.deepEqual(shortenProviders(body, 'a'), { data: body.data.slice(0, 2) });
  assert.throws(() => shortenProviders(body, 'c'), { code: 'not_found', message: 'there is no provider c' });
});

test('a pause says what it did, and a listing of pools which are paused', () => {
  const spec = { engine: 'vllm', slots: 4 };
  const state = { phase: 'ready', paused: true, pause_reason: 'maintenance', ready: 1, requests: 9 };
  const pool = { id: 'm', source: 'file', price_version: 1, spec, state };
  assert.equal(
    formatReply(shortenPools({ data: [pool] })),
    'id  source  phase  paused  pause_reason  ready  engine\nm   file    ready  true    maintenance       1  vllm',
  );
  assert.match(formatReply(shortenSwitch(pool)), /^id +m\npaused +true\npause_reason +maintenance\nready +1/);
});

test('an hour that can never bring in what it costs breaks even never', () => {
  const figures = { model: 'm', gpu: null, tokens_per_second: {}, usd_per_hour: {}, usd_per_million_tokens: {} };
  const one = { ...figures, utilisation: { today: 1.2, break_even: 16.2 }, recommended: {}, verdict: 'loses' };
  assert.equal(
    formatReply(shortenAdvice({ data: [one] })),
    'model  in use  even at  verdict\nm      120 %   never    loses',
  );
});

test('what is of another shape is printed as it is', () => {
  for (const shape of [shortenAdvice, shortenDecisions, shortenPools, shortenSwitch])
    assert.equal(shape('other'), 'other');
  assert.equal(shortenProviders('other'), 'other');
});

function setup() {
  const common = { record: { bids: 1 }, terms: [{ name: 'speed' }] };
  const data = [
    { id: 'a', market: 'local', capacity: 2, why: 'new here', ...common },
    { id: 'a', market: 'akash', capacity: null, why: 'slow', ...common },
    { id: 'b', market: 'local', capacity: 1, why: 'new here', ...common },
  ];
  return { body: { data } };
}
