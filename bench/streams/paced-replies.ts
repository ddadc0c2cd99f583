/**
 * What the paced model server streams: llama.cpp's shapes, every chunk the same length. A chunk's content says when it
 * was written and which of its stream it is, so that the client knows how long it took and that none is lost or doubled.
 */
export const PROMPT_TOKENS = 148;

const ENVELOPE = { created: 1_763_840_000, id: 'chatcmpl-8b0Vxq2nTz6mJdK4wPcY1sHf7uLrEa', model: 'mock' };
const STAMP = '@0000000000000000#000000';
/** In a client's eyes: microseconds of the machine's monotonic clock, and the chunk's number in its stream. */
export const STAMP_PATTERN = /@(\d{16})#(\d{6})/;

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n';

function framed(data: string): string {
  const event = `data: ${data}\n\n`;
  return `${event.length.toString(16)}\r\n${event}\r\n`;
}

function chunk(choice: object): string {
  const choices = [{ finish_reason: null, index: 0, ...choice }];
  return framed(JSON.stringify({ choices, ...ENVELOPE, object: 'chat.completion.chunk' }));
}

export const OPENING = HEAD + chunk({ delta: { role: 'assistant', content: null } });
const [BEFORE = '', AFTER = ''] = chunk({ delta: { content: STAMP } }).split(STAMP);

export function stampedChunk(nowUs: number, number: number): string {
  return `${BEFORE}@${String(nowUs).padStart(16, '0')}#${String(number).padStart(6, '0')}${AFTER}`;
}

/** finish_reason, usage, `[DONE]` and the end of the chunked body. */
export function ending(chunks: number): string {
  const usage = { completion_tokens: chunks, prompt_tokens: PROMPT_TOKENS, total_tokens: PROMPT_TOKENS + chunks };
  const last = { choices: [], ...ENVELOPE, object: 'chat.completion.chunk', usage };
  return `${chunk({ delta: {}, finish_reason: 'stop' })}${framed(JSON.stringify(last))}${framed('[DONE]')}0\r\n\r\n`;
}

/** The same clock in every process of a machine. */
export function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}
