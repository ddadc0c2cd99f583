import { ANSWER_TEXT, COMPLETION_TOKENS, PROMPT_TOKENS, STREAMED_TEXT } from './mock-replies.ts';

/** The request of this benchmark and a close look at its answer. */

export const POOL = 'bench-model';

const MESSAGES = [
  {
    role: 'system',
    content: 'You help operators of a GPU fleet. Answer in two sentences, plainly, without a preface.',
  },
  { role: 'user', content: 'We rent machines by the block. What should I look at first when a bid comes in?' },
  { role: 'assistant', content: "Look at the price for an hour against your ceiling, then at the provider's record." },
  {
    role: 'user',
    content:
      'Fine. And when three bids come in at nearly the same price, two of them from providers nobody has rented from ' +
      'before? Tell me how you would choose, what you would watch in the first ten minutes, and when you would ' +
      'give the machine back to the market.',
  },
];

/** About 740 bytes, as an app's request in the middle of a chat. */
export function chatBody(stream: boolean, maxTokens = 64): string {
  const options = stream ? { stream: true, stream_options: { include_usage: true } } : {};
  const sampling = { temperature: 0.7, top_p: 0.95, max_tokens: maxTokens };
  return JSON.stringify({ model: POOL, messages: MESSAGES, ...sampling, ...options });
}

/** More headers than every gateway is sent: one that is told in each request where to go. */
export type Headers = Readonly<Record<string, string>>;

export function chatRequest(chat: {
  port: number;
  key: string;
  stream: boolean;
  maxTokens?: number;
  headers?: Headers;
}): Buffer {
  const body = chatBody(chat.stream, chat.maxTokens);
  const more = Object.entries(chat.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:${chat.port}\r\nAuthorization: Bearer ${chat.key}\r\n` +
      `Content-Type: application/json\r\nAccept: */*\r\n${more.join('')}` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

interface Completion {
  readonly choices: readonly {
    readonly finish_reason?: string | null;
    readonly message?: { readonly content?: string | null };
    readonly delta?: { readonly content?: string | null };
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
}

/** Asks once and reads the whole answer: what is wrong with it, or undefined; the load itself looks less closely. */
export async function checkChat(chat: {
  port: number;
  key: string;
  stream: boolean;
  headers?: Headers;
  signal: AbortSignal;
}): Promise<string | undefined> {
  const response = await fetch(`http://127.0.0.1:${chat.port}/v1/chat/completions`, {
    method: 'POST',
    headers: { ...chat.headers, authorization: `Bearer ${chat.key}`, 'content-type': 'application/json' },
    body: chatBody(chat.stream),
    signal: AbortSignal.any([chat.signal, AbortSignal.timeout(60_000)]),
  });
  const text = await response.text();
  if (response.status !== 200) return `status ${response.status}: ${text.slice(0, 300)}`;
  return chat.stream ? checkStream(text) : checkAnswer([JSON.parse(text) as Completion], ANSWER_TEXT);
}

function checkStream(text: string): string | undefined {
  const events = text.split('\n').flatMap((line) => (line.startsWith('data: ') ? [line.slice('data: '.length)] : []));
  if (events.pop() !== '[DONE]') return 'the stream did not end with [DONE]';
  return checkAnswer(
    events.map((event) => JSON.parse(event) as Completion),
    STREAMED_TEXT,
  );
}

function checkAnswer(parts: readonly Completion[], expected: string): string | undefined {
  const choices = parts.flatMap((part) => part.choices);
  const content = choices.map((choice) => choice.message?.content ?? choice.delta?.content ?? '').join('');
  if (content !== expected) return `another text: ${content}`;
  if (!choices.some((choice) => choice.finish_reason === 'stop')) return 'no finish_reason';
  const usage = parts.findLast((part) => part.usage)?.usage;
  if (usage?.prompt_tokens !== PROMPT_TOKENS || usage.completion_tokens !== COMPLETION_TOKENS) return 'another usage';
  return undefined;
}
