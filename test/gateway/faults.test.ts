import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { NANO, startGateway, type Gateway } from '../fakes/gateway.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';
import { DELIVERED, FAULTS, faultsTable, healthy, type Fault, type Outcome } from './faults.ts';

/** Each fault of the table, played by script: what a client sees, what is charged, and who was asked. */

/** Short limits: what they end takes some hundred milliseconds, a watch's step included. */
const LIMITS = { first_token_s: 0.3, between_tokens_s: 0.3 };
const WHOLE = { text: 'Hello world!', outputTokens: 4 };
const PROMPT_TOKENS = 12;
/** Above the pool's slice of 64 the gateway asks for a stream, whatever its client asked for. */
const FIELDS = {
  streamed: { stream: true, stream_options: { include_usage: true } },
  piece: { max_tokens: 5 },
  stream: { max_tokens: 500 },
} as const;
type Way = keyof typeof FIELDS;

for (const fault of FAULTS) {
  for (const servers of [1, 2]) {
    for (const way of ['streamed', ...(fault.wholeAs ?? (['piece', 'stream'] as const))] as const) {
      const beside = servers === 1 ? 'alone' : 'beside a second one';
      test(`a machine that ${fault.machine}, ${beside}, ${describeWay(way)}`, (t) => play(t, { fault, servers, way }));
    }
  }
}

test("the README's table of faults is the one that is played here", () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const [, shown] = /<!-- faults -->\n([\s\S]*?)\n<!-- \/faults -->/.exec(readme) ?? [];
  assert.equal(shown, faultsTable(), 'put what faultsTable() gives between the two marks');
});

function describeWay(way: Way): string {
  if (way === 'streamed') return 'streamed';
  return way === 'piece' ? 'in one piece' : 'in one piece, asked for as a stream';
}

async function play(t: TestContext, how: { fault: Fault; servers: number; way: Way }): Promise<void> {
  const { fault, servers, way } = how;
  const gateway = await startGateway(t, { servers, pool: { limits: LIMITS } });
  gateway.router.setResumes(true);
  gateway.servers[1]?.usually(healthy);
  gateway.server.play(...fault.scripts);
  const seen = way === 'streamed' ? fault.streamed : fault.whole;
  const outcome = servers === 1 ? seen.alone : seen.second;
  const turns = outcome.sees === 'alternating' ? fault.scripts.map((_, at) => turnOf(outcome, at)) : [outcome];
  for (const [at, expected] of turns.entries()) {
    await expectSeen(gateway, expected, way);
    expectCharge(gateway, expected, at);
  }
  const failed = fault.busy ? 0 : turns.filter(failedFirst).length;
  const byOther = turns.filter((one) => fromSecond(one) || one.sees === 'continued').length;
  const again = turns.filter(({ sees }) => sees === 'later').length;
  // Each request asks a machine once, and the second only when the first has failed.
  const asked = gateway.servers.map(({ requests }) => requests.length);
  assert.deepEqual(asked, servers === 1 ? [turns.length + again] : [turns.length, byOther]);
  assert.equal(gateway.router.load('replica-0')?.failed, failed, 'what failed is noted against the machine');
}

function turnOf({ first, next }: Extract<Outcome, { sees: 'alternating' }>, at: number): Outcome {
  return at % 2 === 0 ? first : next;
}

/** Whether the machine itself was at fault, and not the request. */
function failedFirst(outcome: Outcome): boolean {
  if (outcome.sees === 'answer') return outcome.from === 'second';
  if (outcome.sees === 'continued') return true;
  return outcome.sees === 'broken' || (outcome.sees === 'status' && outcome.status >= 500);
}

async function expectSeen({ chat }: Gateway, expected: Outcome, way: Way): Promise<void> {
  const response = await chat(FIELDS[way]);
  assert.ok(response.headers.has('x-ratelimit-remaining-requests'));
  if (expected.sees === 'status') {
    const { code, type } = await errorOf(response, expected.status);
    const theirs = expected.status < 500;
    assert.deepEqual([code, type], [expected.code, theirs ? 'invalid_request_error' : 'api_error']);
    assert.equal(response.headers.get('retry-after'), null);
    assert.equal(response.headers.get('x-should-retry'), null);
  } else if (way === 'streamed') await expectStream(response, expected);
  else {
    const { choices, usage } = await completionOf(response);
    assert.equal(choices[0]?.message.content, WHOLE.text);
    assert.equal(choices[0]?.finish_reason, expected.sees === 'finish' ? expected.reason : 'stop');
    assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens], [PROMPT_TOKENS, WHOLE.outputTokens]);
    assert.equal(response.headers.get('x-underbid-provider'), `provider-of-replica-${fromSecond(expected) ? 1 : 0}`);
  }
}

async function expectStream(response: Response, expected: Outcome): Promise<void> {
  const { texts, finishes, error, done, chunks } = await streamOf(response);
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1, 'one id from the first chunk to the last');
  assert.equal(chunks.filter(({ choices }) => choices[0]?.delta.role).length, 1, 'one role');
  const usage = chunks.at(-1)?.usage;
  if (expected.sees === 'broken') {
    assert.deepEqual([texts, finishes, done], [[DELIVERED.text], [null], false]);
    assert.deepEqual([error?.code, error?.type, error?.param], [expected.code, 'api_error', null]);
    assert.equal(usage, null, 'a stream that broke tells no usage');
    return;
  }
  const finish = expected.sees === 'finish' ? expected.reason : 'stop';
  assert.deepEqual([texts, finishes, error, done], [[WHOLE.text], [finish], null, true]);
  assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens], [PROMPT_TOKENS, WHOLE.outputTokens]);
}

const fromSecond = (outcome: Outcome): boolean => outcome.sees === 'answer' && outcome.from === 'second';

/** One settlement a request, exactly for what was delivered. */
function expectCharge({ ledger }: Gateway, expected: Outcome, at: number): void {
  const outputs = {
    answer: 4n,
    later: 4n,
    continued: 4n,
    finish: 4n,
    broken: BigInt(DELIVERED.outputTokens),
    status: 0n,
    alternating: 0n,
  };
  const output = outputs[expected.sees];
  const charge = output === 0n ? 0n : BigInt(PROMPT_TOKENS) * NANO.input + output * NANO.output;
  assert.equal(ledger.settlements.length, at + 1);
  const settled = ledger.settlements[at];
  assert.equal(settled?.charged, charge);
  const code = expected.sees === 'status' || expected.sees === 'broken' ? expected.code : null;
  assert.deepEqual([settled?.status, settled?.detail.error], [code === null ? 'done' : 'failed', code]);
}
