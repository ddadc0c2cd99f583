/** What the mock model server says, built once: llama.cpp's shapes, every answer the same bytes. */

const ID = 'chatcmpl-8b0Vxq2nTz6mJdK4wPcY1sHf7uLrEa';
const CREATED = 1_763_840_000;
const MODEL = 'mock';
const FINGERPRINT = 'b6940-mock';
export const PROMPT_TOKENS = 148;
export const COMPLETION_TOKENS = 20;
export const ANSWER_BYTES = 508;

const DELTAS: readonly string[] =
  'Sure.| Ask| for| bids|,| take| the| cheapest| reliable| one|,| watch| its| first| token|,| and| keep| a spare.'.split(
    '|',
  );

/** The text of a streamed answer: the deltas put together. */
export const STREAMED_TEXT = DELTAS.join('');

/** `data:` events of a streamed answer: role, deltas, finish_reason, usage, `[DONE]`. */
export const STREAM_EVENTS = DELTAS.length + 4;

const usage = (completion: number): object => ({
  completion_tokens: completion,
  prompt_tokens: PROMPT_TOKENS,
  total_tokens: PROMPT_TOKENS + completion,
});

function completion(content: string, reason: string, tokens: number): string {
  return JSON.stringify({
    choices: [{ finish_reason: reason, index: 0, message: { role: 'assistant', content } }],
    created: CREATED,
    model: MODEL,
    system_fingerprint: FINGERPRINT,
    object: 'chat.completion',
    usage: usage(tokens),
    id: ID,
  });
}

function response(status: string, body: string): Buffer {
  const head = `HTTP/1.1 ${status}\r\nContent-Type: application/json; charset=utf-8\r\n`;
  return Buffer.from(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

const padding = ANSWER_BYTES - completion(STREAMED_TEXT, 'stop', COMPLETION_TOKENS).length;
/** The text of a non-streamed answer. */
export const ANSWER_TEXT = STREAMED_TEXT + '.'.repeat(padding);

export const ANSWER = response('200 OK', completion(ANSWER_TEXT, 'stop', COMPLETION_TOKENS));
export const TINY_ANSWER = response('200 OK', completion('Sure', 'length', 1));
export const HEALTH = response('200 OK', '{"status":"ok"}');
export const MODELS = response(
  '200 OK',
  JSON.stringify({
    object: 'list',
    data: [{ id: MODEL, object: 'model', created: CREATED, owned_by: 'llamacpp', meta: { n_ctx_train: 8192 } }],
  }),
);
export const NOT_FOUND = response(
  '404 Not Found',
  '{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}',
);

const STREAM_HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n';

function streamEvents(): string[] {
  const envelope = { created: CREATED, id: ID, model: MODEL, system_fingerprint: FINGERPRINT };
  const chunk = (delta: object, reason: string | null): string =>
    JSON.stringify({
      choices: [{ finish_reason: reason, index: 0, delta }],
      ...envelope,
      object: 'chat.completion.chunk',
    });
  return [
    chunk({ role: 'assistant', content: null }, null),
    ...DELTAS.map((content) => chunk({ content }, null)),
    chunk({}, 'stop'),
    JSON.stringify({ choices: [], ...envelope, object: 'chat.completion.chunk', usage: usage(COMPLETION_TOKENS) }),
    '[DONE]',
  ];
}

/** One socket write each: the head goes with the role, the end of the chunked body with `[DONE]`. */
export const STREAM_WRITES: readonly Buffer[] = streamEvents().map((data, index, all) => {
  const event = `data: ${data}\n\n`;
  const framed = `${Buffer.byteLength(event).toString(16)}\r\n${event}\r\n`;
  const head = index === 0 ? STREAM_HEAD : '';
  return Buffer.from(`${head}${framed}${index === all.length - 1 ? '0\r\n\r\n' : ''}`);
});
