import {
  answer,
  cutAfter,
  events,
  eventsOf,
  json,
  reset,
  silence,
  slowFirst,
  stallAfter,
} from '../fakes/model-replies.ts';
import type { Script } from '../fakes/model-server.ts';

/**
 * What goes wrong with a machine and what a client sees of it: played by `faults.test.ts`, and printed as the table in the
 * README. A row says what happens with this machine alone, and what with a second, healthy one beside it.
 */
export interface Fault {
  /** What the machine does. */
  readonly machine: string;
  /** For each of the next requests, in order; after them the last one again. */
  readonly scripts: readonly Script[];
  readonly streamed: Seen;
  readonly whole: Seen;
  /** Only where the README's words for it would be the same as another row's. */
  readonly untold?: boolean;
  /** Requests in one piece that the fault is played for: as the gateway asks for them, `piece` or, when long, `stream`. */
  readonly wholeAs?: readonly ('piece' | 'stream')[];
  /** It says that it is busy: that is no failure. */
  readonly busy?: boolean;
}

export interface Seen {
  readonly alone: Outcome;
  readonly second: Outcome;
}

export type Outcome =
  /** The answer as it should be, made by the machine itself or by the second one. */
  | { readonly sees: 'answer'; readonly from: 'itself' | 'second' }
  /** The same machine is asked again when the time is over that it asked for. */
  | { readonly sees: 'later' }
  /** One unbroken stream: its beginning from the machine, the rest from the second one. */
  | { readonly sees: 'continued' }
  /** As it should be, but for its finish_reason. */
  | { readonly sees: 'finish'; readonly reason: string }
  /** A status and an error body; nothing is charged. */
  | { readonly sees: 'status'; readonly status: number; readonly code: string }
  /** 200 and what was delivered until then, an `error` event and no [DONE]; what was delivered is charged. */
  | { readonly sees: 'broken'; readonly code: string }
  /** Every second request, beginning with the first. */
  | { readonly sees: 'alternating'; readonly first: Outcome; readonly next: Outcome };

const ITSELF: Outcome = { sees: 'answer', from: 'itself' };
const SECOND: Outcome = { sees: 'answer', from: 'second' };
const FAILED: Outcome = { sees: 'status', status: 502, code: 'upstream_error' };
const TIMED_OUT: Outcome = { sees: 'status', status: 504, code: 'upstream_timeout' };
const BROKEN: Outcome = { sees: 'broken', code: 'upstream_error' };
const STALLED: Outcome = { sees: 'broken', code: 'upstream_timeout' };

const both = (outcome: Outcome): Seen => ({ alone: outcome, second: outcome });
/** Before the first token: another machine answers, where there is one. */
const elsewhere = (alone: Outcome): { readonly streamed: Seen; readonly whole: Seen } => {
  const seen = { alone, second: SECOND };
  return { streamed: seen, whole: seen };
};
const refused = (status: number, code: string): { readonly streamed: Seen; readonly whole: Seen } => {
  const seen = both({ sees: 'status', status, code });
  return { streamed: seen, whole: seen };
};
/**
 * After the first token. A stream cannot be taken back: another machine goes on with it, and without one it breaks. An answer
 * in one piece is asked for anew, since nobody has seen its beginning.
 */
const inMidStream = (streamed: Outcome): { readonly streamed: Seen; readonly whole: Seen } => ({
  streamed: { alone: streamed, second: { sees: 'continued' } },
  whole: { alone: streamed === STALLED ? TIMED_OUT : FAILED, second: SECOND },
});

const ALL = eventsOf();
/** Role and two of the four tokens. */
const SOME = ALL.slice(0, 3);
export const DELIVERED = { text: 'Hello wor', outputTokens: 2 };
/** Goes on where it is told to, and answers from the start what has no beginning yet. */
export const healthy: Script = (turn) => {
  const messages = turn.body['messages'] as readonly { readonly role: string; readonly content: string }[];
  const last = messages.at(-1);
  if (last?.role !== 'assistant') return answer()(turn);
  return answer({ pieces: last.content === DELIVERED.text ? ['ld', '!'] : ['lost the thread'], prompt: 14 })(turn);
};
const ROLE = ALL.slice(0, 1);
const FINISH = ALL.slice(0, -1);
const MALFORMED = 'data: {"choices":[\n\n';
const ERROR_EVENT = 'data: {"error":{"message":"out of memory","code":500}}\n\n';
const TOO_LONG = {
  error: { code: 400, message: 'request exceeds the available context size', type: 'exceed_context_size_error' },
};
const STREAMED_ONLY = { wholeAs: ['stream'] } as const;

export const FAULTS: readonly Fault[] = [
  { machine: 'resets the connection', scripts: [reset], ...elsewhere(FAILED) },
  { machine: 'answers 500', scripts: [json(500, { error: { message: 'crashed' } })], ...elsewhere(FAILED) },
  { machine: 'answers 503', scripts: [json(503, { error: { message: 'Loading model' } })], ...elsewhere(FAILED) },
  {
    machine: 'answers 429 with `Retry-After`',
    scripts: [json(429, { error: { message: 'busy' } }, { 'retry-after': '1' }), answer()],
    ...elsewhere({ sees: 'later' }),
    busy: true,
  },
  {
    machine: 'answers 429 without it',
    scripts: [json(429, { error: {} }), answer()],
    ...elsewhere({ sees: 'later' }),
    busy: true,
  },
  {
    machine: 'answers 401 or 404: our key is wrong, or it lost its model',
    scripts: [json(404, { error: { message: 'no such model' } })],
    ...elsewhere(FAILED),
  },
  { machine: 'answers 401', scripts: [json(401, { error: {} })], ...elsewhere(FAILED), untold: true },
  { machine: 'says nothing', scripts: [silence], ...elsewhere(TIMED_OUT) },
  {
    machine: 'is too slow with its first token',
    scripts: [slowFirst(3000, ALL)],
    ...elsewhere(TIMED_OUT),
    ...STREAMED_ONLY,
  },
  {
    machine: 'is slow with its first token, within the limit',
    scripts: [slowFirst(50, ALL)],
    streamed: both(ITSELF),
    whole: both(ITSELF),
    ...STREAMED_ONLY,
  },
  {
    machine: 'breaks off before the first token',
    scripts: [cutAfter(ROLE)],
    ...elsewhere(FAILED),
    ...STREAMED_ONLY,
  },
  {
    machine: 'begins with something that is not JSON',
    scripts: [stallAfter([MALFORMED])],
    ...elsewhere(FAILED),
    ...STREAMED_ONLY,
  },
  {
    machine: 'breaks off in mid-stream',
    scripts: [cutAfter(SOME)],
    ...inMidStream(BROKEN),
    ...STREAMED_ONLY,
  },
  {
    machine: 'stalls in mid-stream',
    scripts: [stallAfter(SOME)],
    ...inMidStream(STALLED),
    ...STREAMED_ONLY,
  },
  {
    machine: 'sends a malformed chunk in mid-stream',
    scripts: [stallAfter([...SOME, MALFORMED])],
    ...inMidStream(BROKEN),
    ...STREAMED_ONLY,
  },
  {
    machine: 'sends an error event in mid-stream',
    scripts: [stallAfter([...SOME, ERROR_EVENT])],
    ...inMidStream(BROKEN),
    ...STREAMED_ONLY,
  },
  {
    machine: 'ends in mid-stream, with neither `finish_reason` nor `[DONE]`',
    scripts: [events(SOME)],
    ...inMidStream(BROKEN),
    ...STREAMED_ONLY,
  },
  {
    machine: 'ends with a `finish_reason` and no `[DONE]`',
    scripts: [events(FINISH)],
    streamed: both(ITSELF),
    whole: both(ITSELF),
    ...STREAMED_ONLY,
  },
  {
    machine: 'says the prompt is longer than its context',
    scripts: [json(400, TOO_LONG)],
    ...refused(400, 'context_length_exceeded'),
  },
  {
    machine: 'refuses the request (400, 422)',
    scripts: [json(422, { error: { message: 'temperature: too hot' } })],
    ...refused(400, 'invalid_request'),
  },
  {
    machine: 'ends at its content filter',
    scripts: [answer({ finish: 'content_filter' })],
    streamed: both({ sees: 'finish', reason: 'content_filter' }),
    whole: both({ sees: 'finish', reason: 'content_filter' }),
  },
  {
    machine: 'flaps: fails every second request',
    scripts: [reset, answer(), reset, answer()],
    streamed: {
      alone: { sees: 'alternating', first: FAILED, next: ITSELF },
      second: { sees: 'alternating', first: SECOND, next: ITSELF },
    },
    whole: {
      alone: { sees: 'alternating', first: FAILED, next: ITSELF },
      second: { sees: 'alternating', first: SECOND, next: ITSELF },
    },
  },
];

const HEAD = ['a machine that …', 'alone', 'with a second, healthy machine'];

/** The README's table. */
export function faultsTable(): string {
  const rows = FAULTS.filter(({ untold }) => untold !== true).map(({ machine, streamed, whole }) => [
    machine,
    cell(streamed.alone, whole.alone),
    cell(streamed.second, whole.second),
  ]);
  return [HEAD, HEAD.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function cell(streamed: Outcome, whole: Outcome): string {
  const [one, other] = [words(streamed), words(whole)];
  return one === other ? one : `a stream: ${one}; in one piece: ${other}`;
}

function words(outcome: Outcome): string {
  switch (outcome.sees) {
    case 'answer':
      return outcome.from === 'itself' ? 'the answer' : "the second one's answer";
    case 'later':
      return 'the answer, after the time that it asked for (a second when it does not say)';
    case 'continued':
      return 'one unbroken answer: the second one goes on from the last token';
    case 'finish':
      return `the answer, \`finish_reason: "${outcome.reason}"\``;
    case 'status':
      return `${outcome.status} \`${outcome.code}\``;
    case 'broken':
      return `what had come, then an \`error\` event \`${outcome.code}\``;
    case 'alternating':
      return outcome.first.sees === 'answer'
        ? 'an answer each time'
        : `${words(outcome.first)}, ${words(outcome.next)}, …`;
  }
}
