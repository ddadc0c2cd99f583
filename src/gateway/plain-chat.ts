/**
 * Whether a parsed body is a chat request of the plainest kind: texts, and the settings that most clients send, each
 * certainly right. The schema says the same of it and ten times slower, so what passes here need not be shown to it;
 * everything else must be. `plain-chat.test.ts` holds the two together.
 */
export function isPlainChat(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const request = value as Record<string, unknown>;
  for (const key in request) {
    const check = CHECKS[key];
    if (check === undefined || !check(request[key])) return false;
  }
  // Both are wrong without the other.
  if (request['stream_options'] !== undefined && request['stream'] !== true) return false;
  return request['model'] !== undefined && request['messages'] !== undefined;
}

const isInt = (value: unknown, least: number, most: number): boolean =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most;
const isWithin = (value: unknown, least: number, most: number): boolean =>
  typeof value === 'number' && value >= least && value <= most;

const ROLES: ReadonlySet<unknown> = new Set(['system', 'developer', 'user', 'assistant']);
const MESSAGES_MAX = 10_000;

const CHECKS: Readonly<Record<string, ((value: unknown) => boolean) | undefined>> = {
  // No prototype: a field named `constructor` is looked up here too.
  __proto__: null as never,
  model: (value) => typeof value === 'string' && value.length >= 1 && value.length <= 128,
  messages: areTexts,
  stream: (value) => typeof value === 'boolean',
  stream_options: isUsageOption,
  max_tokens: (value) => isInt(value, 1, Number.MAX_SAFE_INTEGER),
  max_completion_tokens: (value) => isInt(value, 1, Number.MAX_SAFE_INTEGER),
  temperature: (value) => isWithin(value, 0, 2),
  top_p: (value) => isWithin(value, 0, 1),
  presence_penalty: (value) => isWithin(value, -2, 2),
  frequency_penalty: (value) => isWithin(value, -2, 2),
  stop: (value) => typeof value === 'string',
  user: (value) => typeof value === 'string',
};

function areTexts(value: unknown): boolean {
  if (!Array.isArray(value) || value.length === 0 || value.length > MESSAGES_MAX) return false;
  for (const message of value as unknown[]) {
    if (typeof message !== 'object' || message === null) return false;
    const { role, content } = message as Record<string, unknown>;
    if (!ROLES.has(role) || typeof content !== 'string') return false;
    for (const key in message) if (key !== 'role' && key !== 'content') return false;
  }
  return true;
}

function isUsageOption(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  for (const key in value) if (key !== 'include_usage') return false;
  const { include_usage: include } = value as Record<string, unknown>;
  return include === undefined || typeof include === 'boolean';
}
