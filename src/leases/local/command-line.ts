import { AppError } from '../../errors.ts';
import type { Workload } from '../market.ts';

/**
 * A command as people write it, without a shell: words, quotes and backslashes as a shell has them, and nothing else. Its
 * placeholders are filled after it was taken apart, so no value can become two words.
 */
export interface CommandValues {
  readonly workload: Workload;
  readonly host: string;
  readonly port: number;
  readonly key: string;
  /** The lowest number, from 0, that no other model server of this provider has: to share out its GPUs. */
  readonly index: number;
}

const PLACEHOLDERS = ['model', 'host', 'port', 'key', 'context', 'slots', 'index'] as const;
const LENGTH_MAX = 8_192;

/** @throws AppError `invalid_request` for quotes that do not end, no words, or an unknown placeholder */
export function splitCommand(command: string): string[] {
  if (command.length > LENGTH_MAX) throw refusal(`is longer than ${LENGTH_MAX} characters`);
  const words: string[] = [];
  let word: string | null = null;
  let quote: string | null = null;
  for (let at = 0; at < command.length; at += 1) {
    const letter = command[at] ?? '';
    const next = command[at + 1];
    const escapes = letter === '\\' && quote !== "'" && next !== undefined && (quote === null || /["\\]/.test(next));
    if (escapes) {
      word = (word ?? '') + next;
      at += 1;
    } else if (quote === null && /\s/.test(letter)) {
      if (word !== null) words.push(word);
      word = null;
    } else if (quote === null && (letter === '"' || letter === "'")) {
      quote = letter;
      word ??= '';
    } else if (letter === quote) {
      quote = null;
    } else {
      word = (word ?? '') + letter;
    }
  }
  if (quote !== null) throw refusal('has a quote that does not end');
  if (word !== null) words.push(word);
  if (words.length === 0 || words[0] === '') throw refusal('names no program');
  for (const [, name] of words.join(' ').matchAll(/\{([a-z_]+)\}/g)) {
    if (!PLACEHOLDERS.some((known) => known === name))
      throw refusal(`has {${name}}: it may have ${PLACEHOLDERS.map((known) => `{${known}}`).join(', ')}`);
  }
  return words;
}

/** The words with their values; the market chooses the model's name, so it may not look like anything but a name. */
export function fillCommand(words: readonly string[], { workload, host, port, key, index }: CommandValues): string[] {
  const { model, contextTokens, slots } = workload;
  if (!isPlainModel(model)) throw refusal('would be given a model whose name is no plain name');
  const values: Record<string, string> = {
    ...{ model, host, key },
    port: String(port),
    context: String(contextTokens),
    slots: String(slots),
    index: String(index),
  };
  return words.map((word) => word.replaceAll(/\{([a-z_]+)\}/g, (whole, name: string) => values[name] ?? whole));
}

/** No option, no absolute path, no way up: "meta-llama/Llama-3.1-8B". */
export function isPlainModel(model: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._:@+/-]{0,255}$/.test(model) && !model.split('/').includes('..');
}

function refusal(why: string): AppError {
  return new AppError('invalid_request', `the command ${why}`);
}
