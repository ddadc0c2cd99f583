import type { PoolSpec } from '../spec.ts';
import { spliceObject, topLevelMembers } from './json-splice.ts';
import { continuationFields, resumeModeOf } from './dialect.ts';
import type { Continuation } from './leg.ts';
import type { ChatRequest } from './openai.ts';

/** Going on with an answer that broke off: which requests allow it, and what the next model server is sent. */

/** Fields that make of an answer more than plain text, or more than what stands in it so far can tell. */
const SHAPED: readonly string[] = [
  'tools',
  'functions',
  'response_format',
  'grammar',
  'json_schema',
  'guided_json',
  'guided_regex',
  'guided_choice',
  'guided_grammar',
  'structured_outputs',
  'regex',
  'ebnf',
  'structural_tag',
  'reasoning_effort',
  'reasoning',
  'thinking',
  'chat_template_kwargs',
  'modalities',
  'audio',
];

/** Whether an answer to this request could be continued elsewhere at all. */
export function isResumable(request: ChatRequest, spec: PoolSpec): boolean {
  if (resumeModeOf(spec) === null || (request.n ?? 1) > 1 || request.logprobs === true) return false;
  for (const field of SHAPED) if (request[field] !== undefined && request[field] !== null) return false;
  // Two assistant messages in a row are refused by llama.cpp, and putting them together would change the first.
  return request.messages.at(-1)?.role !== 'assistant';
}

const REPLACED: ReadonlySet<string> = new Set(['messages', 'max_tokens', 'n_predict']);

/** The request with the answer so far as its last message, and what is left of its maximum. */
export function continuedBody(body: string, { text, maxTokens }: Continuation, spec: PoolSpec): string {
  const members = topLevelMembers(body);
  const valueOf = (key: string): string | undefined => members.findLast((member) => member.key === key)?.value;
  const messages = valueOf('messages') ?? '[]';
  const said = `{"role":"assistant","content":${JSON.stringify(text)}}`;
  const added: Record<string, string | undefined> = { messages: `${messages.slice(0, -1)},${said}]` };
  // Only where the first request had one: a maximum that does not fit beside the prompt is refused.
  for (const key of ['max_tokens', 'n_predict']) if (valueOf(key) !== undefined) added[key] = String(maxTokens);
  return spliceObject(members, REPLACED, { ...added, ...continuationFields(spec) });
}
