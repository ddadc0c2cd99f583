import { z } from 'zod';
import { AppError } from '../errors.ts';
import type { Tokens } from '../units.ts';
import { parseJsonBody } from './openai.ts';
import { LETTERS_PER_TOKEN } from './serve.ts';

/** What a request for embeddings asks (OpenAPI 2.3.0), and the tokens that it can come to. */

const schema = z.looseObject({
  model: z.string().min(1).max(128),
  // Looked at by hand: zod would report each of a million bad entries.
  input: z.unknown(),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z.number().int().min(1).nullish(),
  user: z.string().nullish(),
});

export type EmbeddingRequest = z.output<typeof schema>;

export interface EmbeddingInputs {
  /** Vectors that are to come. */
  readonly count: number;
  /** The most tokens they can be, and the least. */
  readonly bound: Tokens;
  readonly least: Tokens;
}

const INPUTS_MAX = 2048;
/** Tokens that a model server may put around each input: begin, end, a prefix. */
const AROUND_TOKENS: Tokens = 16;
const TOKEN_ID_MAX = 2 ** 31 - 1;
const encoder = new TextEncoder();

/** @throws AppError `invalid_request` naming the first bad field */
export function parseEmbeddings(body: string): EmbeddingRequest {
  return parseJsonBody(body, schema);
}

/**
 * A token is at least a byte of its text, and no input is longer than the context.
 * @throws AppError `invalid_request`, `context_length_exceeded`
 */
export function measureInputs(input: unknown, contextTokens: Tokens): EmbeddingInputs {
  let bound = 0;
  let least = 0;
  const list = inputList(input);
  for (const item of list) {
    if (typeof item === 'string') {
      bound += Math.min(contextTokens, encoder.encode(item).length + AROUND_TOKENS);
      least += Math.min(contextTokens, Math.floor(item.length / LETTERS_PER_TOKEN));
      continue;
    }
    if (item.length > contextTokens) throw tooLong(item.length, contextTokens);
    bound += Math.min(contextTokens, item.length + AROUND_TOKENS);
    least += item.length;
  }
  return { count: list.length, bound, least };
}

/** Texts, or arrays of tokens; one alone counts as a list of one. */
function inputList(input: unknown): readonly (string | readonly number[])[] {
  if (typeof input === 'string') return [textOf(input)];
  if (!Array.isArray(input)) throw bad('is a text, a list of texts, a list of tokens or a list of such lists');
  const list = input as readonly unknown[];
  if (list.length === 0) throw bad('is empty');
  if (typeof list[0] === 'number') return [tokensOf(list)];
  if (list.length > INPUTS_MAX) throw bad(`has more than ${INPUTS_MAX} entries`);
  return typeof list[0] === 'string' ? list.map(textOf) : list.map(tokensOf);
}

function textOf(item: unknown): string {
  if (typeof item !== 'string') throw bad('mixes texts with something else');
  if (item === '') throw bad('has an empty text');
  return item;
}

function tokensOf(item: unknown): readonly number[] {
  if (!Array.isArray(item)) throw bad('is a text, a list of texts, a list of tokens or a list of such lists');
  if (item.length === 0) throw bad('has an empty list of tokens');
  if (!item.every(isToken)) throw bad(`has a token that is no whole number from 0 to ${TOKEN_ID_MAX}`);
  return item;
}

function isToken(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= TOKEN_ID_MAX;
}

const bad = (why: string): AppError => new AppError('invalid_request', `input: ${why}`, { param: 'input' });

function tooLong(tokens: Tokens, contextTokens: Tokens): AppError {
  const message = `input: has ${tokens} tokens in one entry, the model takes ${contextTokens}`;
  return new AppError('context_length_exceeded', message, { param: 'input' });
}
