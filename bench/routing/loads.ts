import { drawBetween, drawExponential, seeded } from '../../src/scheduler/simulation/seeded.ts';

/** Tokens of a block: the unit in which a prompt's beginning is cached, as Mooncake's trace has it. */
export const BLOCK_TOKENS = 512;

export interface Ask {
  readonly atMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** A number for the prompt up to the end of each of its blocks. */
  readonly blocks: readonly number[];
}

/** Mooncake's JSON lines: `timestamp` in ms, `input_length`, `output_length`, `hash_ids`. */
export function readMooncake(text: string): Ask[] {
  const asks = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line, at): Ask => {
      const { timestamp, input_length, output_length, hash_ids } = JSON.parse(line) as Record<string, unknown>;
      if (![timestamp, input_length, output_length].every(Number.isFinite) || !Array.isArray(hash_ids)) {
        throw new RangeError(`line ${at + 1} is not one of a trace with hash_ids`);
      }
      const [atMs, inputTokens, outputTokens] = [Number(timestamp), Number(input_length), Number(output_length)];
      return { atMs, inputTokens, outputTokens, blocks: hash_ids.map(Number) };
    });
  return asks.toSorted((a, b) => a.atMs - b.atMs);
}

const MADE_UP = { spanMs: 1_800_000, apps: 60, conversationsPerS: 0.45, turns: 6, thinkMs: 15_000 };

/**
 * Sixty applications, each with a system prompt of its own (1 to 8 blocks; some are asked far more often than others),
 * whose users talk in turns: every turn holds the whole conversation so far.
 */
export function drawConversations(seed: number): Ask[] {
  const random = seeded(seed, 'conversations');
  let nextBlock = 0;
  const fresh = (count: number): number[] => Array.from({ length: count }, () => (nextBlock += 1));
  const prompts = Array.from({ length: MADE_UP.apps }, () => fresh(1 + Math.floor(random() * 8)));
  const asks: Ask[] = [];
  for (
    let startMs = 0;
    startMs < MADE_UP.spanMs;
    startMs += drawExponential(random, 1000 / MADE_UP.conversationsPerS)
  ) {
    // The square favours the first ones: a tenth of the applications has a third of the conversations.
    let blocks = [...(prompts[Math.floor(random() ** 2 * MADE_UP.apps)] ?? [])];
    let atMs = startMs;
    const turns = 1 + Math.floor(drawExponential(random, MADE_UP.turns - 1));
    for (let turn = 0; turn < turns; turn += 1) {
      blocks = [...blocks, ...fresh(1 + Math.floor(random() * 2))];
      const outputTokens = Math.round(drawBetween(random, 50, 400));
      asks.push({ atMs, inputTokens: blocks.length * BLOCK_TOKENS, outputTokens, blocks });
      atMs += outputTokens * 30 + drawExponential(random, MADE_UP.thinkMs);
    }
  }
  return asks.toSorted((a, b) => a.atMs - b.atMs);
}
