import { json } from './model-replies.ts';
import type { Script } from './model-server.ts';

/** What model servers say when they are asked for embeddings. */

export interface Vectors {
  /** Tokens that the server claims to have read; null: it says nothing. */
  readonly prompt?: number | null;
  /** Vectors it makes; default: one an input. */
  readonly count?: number;
  readonly change?: (entries: Record<string, unknown>[]) => unknown;
  readonly more?: Record<string, unknown>;
}

export const VECTOR = [0.25, -0.5, 1];

function countOf(input: unknown): number {
  return Array.isArray(input) && typeof input[0] !== 'number' ? input.length : 1;
}

/** A vector for each input, as numbers or in base64. */
export function vectors({ prompt = 7, count, change = (entries) => entries, more = {} }: Vectors = {}): Script {
  return (turn) => {
    const { input, encoding_format: format } = turn.body;
    const packed = Buffer.from(new Float32Array(VECTOR).buffer).toString('base64');
    const entries = Array.from({ length: count ?? countOf(input) }, (_, index) => ({
      object: 'embedding',
      embedding: format === 'base64' ? packed : VECTOR,
      index,
    }));
    const usage = prompt === null ? {} : { usage: { prompt_tokens: prompt, total_tokens: prompt } };
    const head = { object: 'list', model: 'model-of-the-server', id: 'embd-of-the-server' };
    return json(200, { ...head, data: change(entries), ...usage, ...more })(turn);
  };
}
