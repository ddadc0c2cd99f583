import type { Ms, Tokens } from '../../units.ts';

/**
 * The service model, all of it: how fast a model server works, how long one takes to come up, and what a request may wait.
 *
 * A GPU does one thing at a time: the oldest prefill, at a rate in tokens per second, or else one decode step for all of its
 * streams, which takes `stepMs` plus `stepPerStreamMs` for each stream and makes one token for each (continuous batching).
 * A replica has `slots` requests at a time. Not modelled: prefix caching, limits of the KV cache, speculative decoding, the
 * network.
 */
export interface ServerRate {
  readonly gpu: string;
  readonly prefillTokensPerS: number;
  readonly stepMs: Ms;
  readonly stepPerStreamMs: Ms;
}

/** A model on the hardware it is rented for. */
export interface ServedModel {
  readonly name: string;
  readonly slots: number;
  /** What has to be loaded before a replica answers. */
  readonly imageBytes: number;
  readonly weightBytes: number;
  /** From weights on disk to the first answer. */
  readonly warmUpMs: Ms;
  readonly rates: readonly ServerRate[];
}

const GB = 1e9;

/**
 * Steps are the weights' bytes over the card's memory bandwidth at 80 % of its data sheet (RTX 4090 1,008 GB/s, A100 80 GB
 * SXM 2,039 GB/s, H100 SXM 3,350 GB/s), prefills 2 FLOP a parameter and token at 45 to 55 % of its dense BF16 peak (165, 312,
 * 989 TFLOP/s). They are arithmetic, not measurements of ours: a measured table goes here.
 */
export const MODELS = {
  /** 8 thousand million parameters in BF16. */
  small: {
    name: '8b',
    slots: 16,
    imageBytes: 6 * GB,
    weightBytes: 16 * GB,
    warmUpMs: 25_000,
    rates: [
      { gpu: 'rtx4090', prefillTokensPerS: 5_000, stepMs: 20, stepPerStreamMs: 0.4 },
      { gpu: 'a100', prefillTokensPerS: 10_000, stepMs: 10, stepPerStreamMs: 0.25 },
      { gpu: 'h100', prefillTokensPerS: 30_000, stepMs: 6, stepPerStreamMs: 0.15 },
    ],
  },
  /** 70 thousand million parameters in 4 bits, computed in BF16. */
  large: {
    name: '70b-4bit',
    slots: 16,
    imageBytes: 6 * GB,
    weightBytes: 40 * GB,
    warmUpMs: 40_000,
    rates: [
      { gpu: 'a100', prefillTokensPerS: 1_100, stepMs: 25, stepPerStreamMs: 0.6 },
      { gpu: 'h100', prefillTokensPerS: 3_200, stepMs: 15, stepPerStreamMs: 0.4 },
    ],
  },
} as const satisfies Record<string, ServedModel>;

export function rateOn(model: ServedModel, gpu: string): ServerRate {
  const rate = model.rates.find((one) => one.gpu === gpu);
  if (!rate) throw new RangeError(`no rate of ${model.name} on ${gpu}`);
  return rate;
}

export function prefillMs(rate: ServerRate, inputTokens: Tokens): Ms {
  return (inputTokens / rate.prefillTokensPerS) * 1000;
}

/** One decode step of a batch. */
export function stepMs(rate: ServerRate, streams: number): Ms {
  return rate.stepMs + rate.stepPerStreamMs * streams;
}

/** The GPU's time for one output token when every slot is taken: the best a replica can do. */
export function tokenMs(rate: ServerRate, slots: number): Ms {
  return stepMs(rate, slots) / slots;
}

/** The GPU's time for a request at its best, that is in a full batch. */
export function workMs(rate: ServerRate, slots: number, inputTokens: Tokens, outputTokens: Tokens): Ms {
  return prefillMs(rate, inputTokens) + outputTokens * tokenMs(rate, slots);
}

/** Time to first token that counts as kept: 5 s, and the prompt's own prefill. */
export const TTFT_MS: Ms = 5_000;
/** What a pool tells its users of a cold start: an order and its lease, then image and weights at this rate. */
const COLD_ORDER_MS: Ms = 45_000;
const COLD_BYTES_PER_S = 0.15 * GB;

/** What a start-up of this model may take, from the first request that finds no replica to its first token. */
export function coldAllowanceMs({ imageBytes, weightBytes, warmUpMs }: ServedModel): Ms {
  return COLD_ORDER_MS + ((imageBytes + weightBytes) / COLD_BYTES_PER_S) * 1000 + warmUpMs;
}

/** From a lease to the first answer on a machine with this bandwidth. */
export function startMs({ imageBytes, weightBytes, warmUpMs }: ServedModel, bytesPerS: number): Ms {
  return ((imageBytes + weightBytes) / bytesPerS) * 1000 + warmUpMs;
}
