import type { GatewayProcess } from './gateway-process.ts';

/** A streamed answer as its client reads it, line by line. */
export interface Answer {
  text: string;
  comments: string;
  readonly ids: Set<string>;
  usage: { readonly prompt_tokens: number; readonly completion_tokens: number; readonly cost: number } | null;
  error: unknown;
  done: boolean;
  status: number;
}

/** @param onText called with what there is so far, whenever more came */
export async function askStreamed(
  gateway: GatewayProcess,
  fields: Record<string, unknown>,
  onText: (text: string, ids: ReadonlySet<string>) => void = () => undefined,
): Promise<Answer> {
  const reply = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ stream: true, stream_options: { include_usage: true }, ...fields }),
  });
  const { status } = reply;
  const answer: Answer = { text: '', comments: '', ids: new Set(), usage: null, error: null, done: false, status };
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of reply.body ?? []) {
    rest += decoder.decode(bytes as Uint8Array, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) take(answer, line);
    onText(answer.text, answer.ids);
  }
  return answer;
}

function take(answer: Answer, line: string): void {
  if (line.startsWith(':')) answer.comments += line;
  if (line === 'data: [DONE]') answer.done = true;
  else if (line.startsWith('data: ')) {
    const chunk = JSON.parse(line.slice(6)) as {
      id: string;
      error?: unknown;
      usage: Answer['usage'];
      choices: { delta: { content?: string } }[];
    };
    if (chunk.error) answer.error = chunk.error;
    else answer.ids.add(chunk.id);
    answer.text += chunk.choices?.[0]?.delta.content ?? '';
    answer.usage = chunk.usage ?? answer.usage;
  }
}
