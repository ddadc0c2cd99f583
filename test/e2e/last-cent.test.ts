import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { formatUsd, parseUsd } from '../../src/units.ts';
import { until } from '../fakes/clock.ts';
import { CUSTOMER, MODEL, NANO, startGateway, type Gateway } from '../fakes/gateway.ts';
import { answer, cutAfter, eventsOf, json, reset, silence, slowFirst, stallAfter } from '../fakes/model-replies.ts';
import { startModelServer, type Script } from '../fakes/model-server.ts';
import { completionOf, errorOf, streamOf, type Completion, type ErrorBody } from '../fakes/reply.ts';

/** A thousand clients, each over a connection of its own, and one key that has a cent. */

const CLIENTS = 1000;
const SLOTS = 12;
const CENT = parseUsd('0.01');
const MAX_TOKENS = 5;
/** The nearer what is charged comes to what was held, the fewer are told to come back. */
const PROMPT_TOKENS = 100;
const chargeOf = (tokens: number): bigint => BigInt(PROMPT_TOKENS) * NANO.input + BigInt(tokens) * NANO.output;
const CHARGE = chargeOf(4);
const whole = answer({ prompt: PROMPT_TOKENS });

test('a thousand clients race for the last cent of one key, and it is spent to the last answer', async (t) => {
  const gateway = await setup(t, { servers: 1, slots: 50 });
  gateway.server.usually(whole);
  const { id, key } = await gateway.addKey({ spendLimit: CENT });
  const ends = await everybody(gateway, (client, open) =>
    race(gateway, { key, client, leaveMs: null, pauseMs: 1000 + client }, open),
  );
  await expectQuiet(gateway, id);
  // The smallest hold decides: there are more clients of its kind than answers.
  const least = [0, 1].map(holdOf).reduce((a, b) => (a < b ? a : b));
  const answers = Number((CENT - least) / CHARGE) + 1;
  assert.deepEqual(countsOf(ends), { answered: answers, refused: CLIENTS - answers });
  assert.equal(await expectBooks(gateway, ends), BigInt(answers) * CHARGE);
  await expectRoom(gateway, key);
});

test('nothing is left over after clients that leave, machines that die, stall and are killed', async (t) => {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}`);
  const random = seeded(seed);
  const gateway = await setup(t, {
    servers: 4,
    slots: SLOTS,
    pool: { limits: { first_token_s: 1, between_tokens_s: 1 } },
  });
  for (const server of gateway.servers) server.usually((turn) => misbehaviour(random)(turn));
  const { id, key } = await gateway.addKey({ spendLimit: CENT });
  const leaveMs = (): number | null => (random() < 0.3 ? 5 + random() * 300 : null);
  const begun = Promise.withResolvers<void>();
  const stopped = new Set<string>();
  const killing = begun.promise.then(() => kill(t, gateway, stopped));
  const racing = everybody(gateway, (client, open) => {
    void open.then(begun.resolve);
    return race(gateway, { key, client, leaveMs: leaveMs(), pauseMs: 1500 + random() * 1500 }, open);
  });
  const checking = setInterval(() => takeBack(gateway, stopped), 100);
  t.after(() => clearInterval(checking));
  const ends = await racing;
  await killing;
  await expectQuiet(gateway, id);
  const counts = countsOf(ends);
  t.diagnostic(JSON.stringify(counts));
  const kinds = ['answered', 'broken', 'failed', 'left', 'refused'];
  assert.deepEqual(Object.keys(counts).sort(), kinds, `every kind of end must have come: seed ${seed}`);
  await expectBooks(gateway, ends);
  await expectRoom(gateway, key);
});

interface End {
  readonly end: 'answered' | 'refused' | 'failed' | 'broken' | 'left';
  readonly id?: string | undefined;
  readonly cost?: number | undefined;
  /** Of a stream that broke: those that arrived. */
  readonly tokens?: number;
}

interface Racer {
  readonly key: string;
  readonly client: number;
  /** When it loses patience. */
  readonly leaveMs: number | null;
  /** Between a refusal that says it will pass and the next try. */
  readonly pauseMs: number;
}

/** Asks until there is an answer, a failure, or no money for another one ever. */
async function race(gateway: Gateway, racer: Racer, open: Promise<void>): Promise<End> {
  const { key, client, leaveMs, pauseMs } = racer;
  const leaving = new AbortController();
  const { signal } = leaving;
  if (leaveMs !== null) void open.then(() => setTimeout(() => leaving.abort(), leaveMs));
  try {
    for (;;) {
      const headers = { authorization: `Bearer ${key}` };
      const response = await gateway.chat({}, { body: bodyOf(client), headers, signal });
      if (response.status === 402) {
        if (!(await expectRefusal(response, client))) return { end: 'refused' };
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      } else if (response.status !== 200) {
        const { code } = await errorOf(response, response.status);
        assert.match(code, /^upstream_(error|timeout)$/);
        return { end: 'failed' };
      } else return client % 2 === 0 ? answered(await completionOf(response)) : await streamed(response);
    }
  } catch (error) {
    if (!signal.aborted || error instanceof assert.AssertionError) throw error;
    return { end: 'left' };
  }
}

function answered({ id, usage }: Completion): End {
  return { end: 'answered', id, cost: usage?.cost };
}

async function streamed(response: Response): Promise<End> {
  const { chunks, done, error } = await streamOf(response);
  const last = chunks.at(-1);
  assert.equal(done, error === null);
  if (done && last) return answered(last);
  const tokens = chunks.filter(({ choices }) => (choices[0]?.delta.content ?? '') !== '').length;
  return { end: 'broken', id: last?.id, tokens };
}

/** The metadata is exact and goes together with the headers; true when it says that waiting helps. */
async function expectRefusal(response: Response, client: number): Promise<boolean> {
  const { code, metadata } = (await errorOf(response, 402)) as ErrorBody & { metadata: Record<string, never> };
  const { needed_usd, available_usd, max_affordable_tokens, limit_source, transient } = metadata;
  const needed = holdOf(client);
  const available = parseUsd(available_usd ?? '');
  assert.deepEqual([code, limit_source, needed_usd], ['insufficient_credits', 'key', formatUsd(needed)]);
  assert.ok(available < needed);
  const forOutput = available - inputOf(client);
  assert.equal(max_affordable_tokens, forOutput < 0n ? 0 : Number(forOutput / NANO.output));
  assert.equal(typeof transient, 'boolean');
  assert.equal(response.headers.get('x-should-retry'), transient ? 'true' : null);
  assert.equal(response.headers.has('retry-after'), transient);
  return transient === true;
}

/** No machine answers these, or none to its end; as long as the others, so that all holds are of two kinds. */
const HOPELESS = {
  'Say hello!': json(500, { error: {} }),
  'Say hello?': cutAfter(eventsOf({ prompt: PROMPT_TOKENS }).slice(0, 3)),
};
const LINES = ['Say hello!', 'Say hello?', 'Say hello.', 'Say hello!'];

/** Half of them want a stream. */
function bodyOf(client: number): string {
  const stream = client % 2 === 0 ? {} : { stream: true, stream_options: { include_usage: true } };
  const messages = [{ role: 'user', content: LINES[client % 10] ?? 'Say hello.' }];
  return JSON.stringify({ model: MODEL, messages, max_tokens: MAX_TOKENS, ...stream });
}

/** The most that the prompt can be: its bytes, and the 16 tokens of the template. */
const inputOf = (client: number): bigint => BigInt(bodyOf(client).length + 16) * NANO.input;
const holdOf = (client: number): bigint => inputOf(client) + BigInt(MAX_TOKENS) * NANO.output;

const ALL = eventsOf({ prompt: PROMPT_TOKENS });
const SOME = ALL.slice(0, 3);
const MISBEHAVIOURS: readonly Script[] = [
  whole,
  whole,
  whole,
  slowFirst(40, ALL),
  dripping,
  reset,
  json(500, { error: {} }),
  json(429, { error: {} }, { 'retry-after': '1' }),
  silence,
  stallAfter(SOME),
  cutAfter(SOME),
];

async function dripping(turn: Parameters<Script>[0]): Promise<void> {
  if (turn.body['stream'] !== true) return whole(turn);
  turn.streamHead();
  for (const event of ALL) {
    await turn.write(event);
    await turn.sleep(30);
  }
  turn.end();
}

function misbehaviour(random: () => number): Script {
  return unlessHopeless(MISBEHAVIOURS[Math.floor(random() * MISBEHAVIOURS.length)] ?? reset);
}

function unlessHopeless(script: Script): Script {
  return (turn) => {
    const body = JSON.stringify(turn.body);
    const hopeless = Object.entries(HOPELESS).find(([line]) => body.includes(line));
    return (hopeless?.[1] ?? script)(turn);
  };
}

/** What the scheduler does: a machine that failed and answers its probe is no dead one. */
function takeBack({ router }: Gateway, stopped: ReadonlySet<string>): void {
  for (const id of ['replica-0', 'replica-1', 'replica-2', 'replica-3', 'replica-new']) {
    if (!stopped.has(id) && router.load(id)?.suspectMs !== null) router.verified(id);
  }
}

/** One machine loses its port and every connection, another is taken away, a new one comes. */
async function kill(t: TestContext, gateway: Gateway, stopped: Set<string>): Promise<void> {
  const { servers, router, addReplica } = gateway;
  // In the midst of their work: the cent must not be spent before, however slow this machine is.
  const busy = (id: string): boolean => (router.load(id)?.inFlight ?? 0) >= SLOTS / 2;
  await until('the third has work', () => busy('replica-2'), 30_000);
  stopped.add('replica-2');
  await servers[2]?.stop();
  await until('the second has work', () => busy('replica-1'), 30_000);
  router.remove('replica-1');
  addReplica(await startModelServer(t, unlessHopeless(whole)), { id: 'replica-new' });
}

/** Nobody's money is judged before everybody has come. */
async function everybody<T>(gateway: Gateway, act: (client: number, open: Promise<void>) => Promise<T>): Promise<T[]> {
  const gate = Promise.withResolvers<void>();
  gateway.ledger.before('hold', () => gate.promise);
  const before = gateway.ledger.asks('hold').length;
  const all = Promise.all(Array.from({ length: CLIENTS }, (_, client) => act(client, gate.promise)));
  const come = (): boolean => gateway.ledger.asks('hold').length - before >= CLIENTS;
  // One that is turned away does not come: then the answers say why.
  await Promise.race([until('all have come', come, 30_000).catch(() => undefined), all.catch(() => undefined)]);
  gateway.ledger.before('hold', () => Promise.resolve());
  gate.resolve();
  return all;
}

/** Every counter at exactly zero. */
async function expectQuiet({ router, watch, ledger, limiter, clock }: Gateway, keyId: string): Promise<void> {
  const quiet = { inFlight: 0, waiting: 0, waitingSinceMs: null, watched: 0, held: 0n };
  let last: unknown;
  const check = async (): Promise<boolean> => {
    const { inFlight, waiting, waitingSinceMs } = router.stats;
    const held = (await ledger.ask({ op: 'balance', customer: CUSTOMER }))?.held;
    last = { inFlight, waiting, waitingSinceMs, watched: watch.size, held };
    return isDeepStrictEqual(last, quiet);
  };
  await until('everything is given back', check, 10_000).catch(() => undefined);
  assert.deepEqual(last, quiet);
  // A key that may have one request at a time has none.
  const one = { requestsPerMinute: 1e9, tokensPerMinute: 1e12, concurrency: 1 };
  limiter.admit(keyId, one, 0, clock.now()).end(0);
}

/** Both limits of requests at a time are a thousand: one that was not given back would turn one of these away. */
async function expectRoom(gateway: Gateway, key: string): Promise<void> {
  for (const server of gateway.servers) server.usually(whole);
  const statuses = await everybody(gateway, async (client) => {
    const headers = { authorization: `Bearer ${key}` };
    const response = await gateway.chat({}, { body: bodyOf(client), headers });
    await response.text();
    return response.status;
  });
  const strange = statuses.filter((status) => status === 429 || status === 503);
  assert.deepEqual(strange, []);
}

/** What clients were told is what was charged, once each, and no more than the key has; returns the sum. */
async function expectBooks({ ledger }: Gateway, ends: readonly End[]): Promise<bigint> {
  const charges = new Map(ledger.settlements.map(({ request, charged }) => [request, charged]));
  assert.equal(charges.size, ledger.settlements.length, 'one settlement a request');
  for (const { end, id = '', cost = 0, tokens = 0 } of ends) {
    if (end === 'answered') assert.deepEqual([charges.get(id), BigInt(Math.round(cost * 1e9))], [CHARGE, CHARGE]);
    if (end === 'broken') assert.equal(charges.get(id), chargeOf(tokens), `a stream that broke after ${tokens} tokens`);
  }
  const sum = [...charges.values()].reduce((all, charged) => all + charged, 0n);
  assert.ok(sum <= CENT, `${sum} nano-USD were charged to a key that had ${CENT}`);
  assert.equal((await ledger.ask({ op: 'balance', customer: CUSTOMER }))?.used, sum);
  return sum;
}

function countsOf(ends: readonly End[]): Partial<Record<End['end'], number>> {
  const groups = Object.entries(Object.groupBy(ends, ({ end }) => end));
  return Object.fromEntries(groups.map(([end, all]) => [end, all.length]));
}

/** mulberry32 */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function setup(t: TestContext, settings: { servers: number; slots: number; pool?: object }): Promise<Gateway> {
  const limits = { requestsMax: CLIENTS, keyConcurrency: CLIENTS, keyRequestsPerMinute: 1_000_000_000 };
  return startGateway(t, { ...settings, limits });
}
