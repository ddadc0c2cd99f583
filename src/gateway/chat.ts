import { AppError } from '../errors.ts';
import { openingOf, type Opening, type Span } from '../scheduler/pool/opening.ts';
import type { Pool } from '../scheduler/pool/pools.ts';
import type { Target } from '../scheduler/pool/slot.ts';
import type { PoolSpec } from '../spec.ts';
import type { Needs } from '../spec/trust.ts';
import type { Tokens } from '../units.ts';
import { Reservation } from './admission.ts';
import type { Call } from './call.ts';
import type { AppDeps } from './deps.ts';
import { MANAGED, managedFields, refuseFields } from './dialect.ts';
import { imagesOf } from './images.ts';
import { spliceObject, topLevelMembers, type Member } from './json-splice.ts';
import type { Continuation } from './leg.ts';
import { parseChat, type ChatRequest } from './openai.ts';
import { Relay } from './relay.ts';
import { continuedBody, isResumable } from './resumption.ts';
import {
  HOLD_SLACK_MS,
  LETTERS_PER_TOKEN,
  membersOf,
  needsOfRequest,
  poolOf,
  readRequest,
  replayOf,
  replyHeaders,
  serve,
  waitOf,
  wakeFeeOfRequest,
  type Work,
  type WorkParts,
} from './serve.ts';
import { promptBody } from './tokenizer.ts';

export const CHAT_PATH = '/v1/chat/completions';
/** POST /v1/chat/completions. */
export function runChat(call: Call, deps: AppDeps): Promise<void> {
  return serve(call, deps, prepareChat);
}

/** Reads and checks the request, reserves its tokens and its money. */
async function prepareChat(parts: WorkParts): Promise<Work> {
  const { call, deps, caller, admission } = parts;
  const { clock, ledger } = deps;
  const { createdMs, key, text, bytes } = await readRequest(parts, CHAT_PATH);
  const request = parseChat(text);
  refuseFields(request);
  const pool = poolOf(parts, request.model, 'chat');
  const { spec } = pool.router;
  const needs = needsOfRequest(parts, spec);
  const members = membersOf(text);
  const sizes = boundTokens(request, spec, bytes);
  const maxWaitMs = waitOf(call, spec);
  admission.reserve(sizes.inputBound + sizes.held, clock.now());
  const id = deps.newId('chatcmpl-');
  const least = leastTokens(request);
  const reservation = await Reservation.open(ledger, clock, {
    request: id,
    caller,
    model: spec.id,
    price: spec.price,
    priceVersion: pool.priceVersion,
    inputBound: sizes.inputBound,
    inputLeast: Math.min(sizes.inputBound, least),
    outputTokens: sizes.held,
    mayShorten: sizes.mayShorten,
    wakeFee: wakeFeeOfRequest(parts, pool.router, needs),
    worths: deps.pools.worths,
    deadlineMs: createdMs + maxWaitMs + spec.limits.totalMs + HOLD_SLACK_MS,
    countPrompt: () => tokensOfPrompt(deps, pool, members, needs),
    idempotency: key ? await key.claim(text) : null,
  });
  if (!(reservation instanceof Reservation)) return replayOf(parts, key, reservation);
  const stream = request.stream === true;
  const streamUpstream = stream || sizes.outputMax > spec.sliceTokens || reservation.outputTokens < sizes.held;
  const relay = new Relay(deps, {
    id,
    headers: replyHeaders(parts),
    createdMs,
    model: spec.id,
    router: pool.router,
    account: caller.customer,
    wish: { request: id, needs, opening: openingOfChat(parts, { text, members, request }) },
    path: CHAT_PATH,
    stream,
    includeUsage: request.stream_options?.include_usage === true,
    streamUpstream,
    choices: sizes.choices,
    inputBound: reservation.inputBound,
    inputLeast: Math.min(reservation.inputBound, least),
    outputMax: sizes.outputMax,
    maxWaitMs,
    bodyOf: upstreamBodies(members, request, pool, { ...sizes, stream: streamUpstream }),
    resumable: isResumable(request, spec),
    reservation,
    keep: key?.keeper(id, reservation) ?? null,
    sink: call.exchange.sink,
  });
  return { run: () => relay.run(), tokensUsed: () => reservation.tokensUsed };
}

/** By the tokenizer of a replica that is there and may see the prompt; a cold pool has none to ask. */
function tokensOfPrompt(
  deps: AppDeps,
  { router }: Pool,
  members: readonly Member[],
  needs: Needs | undefined,
): Promise<Tokens | null> {
  const target = router.targetFor(needs);
  if (target === null) return Promise.resolve(null);
  return deps.promptCounter.count(target, promptBody(members, target.model ?? router.spec.model));
}

/** A name for a session is told apart by so much of it. */
const SESSION_CHARS = 256;

/**
 * How a request begins, and what its client says that it belongs to: OpenAI's `prompt_cache_key`, or a header that no model
 * server sees.
 */
function openingOfChat(
  { call, caller }: WorkParts,
  {
    text,
    members,
    request,
  }: { readonly text: string; readonly members: readonly Member[]; readonly request: ChatRequest },
): Opening {
  const named = call.header('x-underbid-session') ?? request['prompt_cache_key'];
  const session = typeof named === 'string' && named !== '' ? named.slice(0, SESSION_CHARS) : null;
  const spans: Span[] = [];
  for (const { key, value, valueAt: from } of members) {
    if (key !== 'messages' && key !== 'tools') continue;
    const span = { text, from, to: from + value.length };
    // A template writes tools before the messages, wherever they stand in the body.
    if (key === 'tools') spans.unshift(span);
    else spans.push(span);
  }
  return openingOf(caller.customer, spans, session);
}

interface Sizes {
  readonly choices: number;
  readonly inputBound: Tokens;
  /** Per choice. */
  readonly outputMax: Tokens;
  /** Over all choices, at first. */
  readonly held: Tokens;
  readonly mayShorten: boolean;
}

/**
 * What a request can come to. A token is at least a byte, and the template adds a known number, so the prompt is at most
 * the body's bytes and that number; where a template may write more than it reads (tools, schemas), the whole context.
 * @throws AppError `invalid_request`
 */
export function boundTokens(request: ChatRequest, spec: PoolSpec, bodyBytes: number): Sizes {
  const choices = request.n ?? 1;
  if (choices > spec.nMax)
    throw new AppError('invalid_request', `n: is at most ${spec.nMax} for this model`, { param: 'n' });
  const images = imagesOf(request, spec);
  const rendersMore = request.tools?.length || request['functions'] !== undefined || request.response_format;
  const textBytes = bodyBytes - images.bytes + images.count * spec.imageTokensMax;
  const bytesBound = rendersMore ? spec.contextTokens : textBytes + spec.templateTokens;
  const inputBound = Math.min(spec.contextTokens, bytesBound);
  const asked = request.max_completion_tokens ?? request.max_tokens ?? null;
  const outputMax = Math.min(asked ?? spec.contextTokens, spec.contextTokens);
  const held = choices * (asked === null ? Math.min(outputMax, spec.sliceTokens) : outputMax);
  return { choices, inputBound, outputMax, held, mayShorten: asked === null };
}

/** What the texts of a request come to at least. */
function leastTokens({ messages }: ChatRequest): Tokens {
  let letters = 0;
  for (const { content } of messages) {
    if (typeof content === 'string') letters += content.length;
    else if (content) for (const part of content) letters += typeof part['text'] === 'string' ? part['text'].length : 0;
  }
  return Math.floor(letters / LETTERS_PER_TOKEN);
}

const SEED: ReadonlySet<string> = new Set(['seed']);

/**
 * What each choice's model server is sent, in its own engine's words: the same but for the seed, or all choices would be one
 * and the same answer.
 */
function upstreamBodies(
  members: readonly Member[],
  request: ChatRequest,
  { router: { spec } }: Pool,
  sizes: { readonly outputMax: Tokens; readonly mayShorten: boolean; readonly stream: boolean },
): (choice: number, from: Continuation | null, target: Target) => string {
  const { outputMax, mayShorten, stream } = sizes;
  let made: { readonly engine: Target['engine']; readonly model: string; readonly body: string } | null = null;
  const bodyFor = ({ engine, model = spec.model }: Target): string => {
    if (made?.engine === engine && made.model === model) return made.body;
    const options = { model, maxTokens: outputMax, asked: !mayShorten, stream };
    made = { engine, model, body: spliceObject(members, MANAGED, managedFields(engine, options)) };
    return made.body;
  };
  return (choice, from, target) => {
    const body = bodyFor(target);
    if (from !== null) return continuedBody(body, from, { ...spec, engine: target.engine });
    if (choice === 0 || typeof request.seed !== 'number') return body;
    const seed = topLevelMembers(body).findLast(({ key }) => key === 'seed')?.value ?? '';
    if (!/^-?\d{1,19}$/.test(seed)) return body;
    return spliceObject(body, SEED, { seed: String(BigInt.asIntN(64, BigInt(seed) + BigInt(choice))) });
  };
}
