import { z } from 'zod';
import type { Tokens } from '../units.ts';
import type { Hardware } from './hardware.ts';

/** Pure: whether a model fits the GPUs that its pool asks for, so that a pool that cannot start is seen before it is paid for. */

export const shapeSchema = z
  .strictObject({
    parameters_b: z.number().positive().max(10_000).describe('parameters, in billions'),
    weight_bits: z.number().positive().max(64).describe('bits of one: 16, or 4.9 for Q4_K_M'),
    layers: z
      .number()
      .int()
      .min(0)
      .max(1000)
      .default(0)
      .describe('attention layers; 0: an encoder, which caches nothing'),
    kv_heads: z.number().int().min(0).max(1024).default(0),
    head_dim: z.number().int().min(0).max(4096).default(0),
    kv_bits: z.number().positive().max(64).default(16).describe('bits of a cached number'),
    gpu_share: z.number().min(0.1).max(1).default(0.9).describe("the part of a GPU's memory that the engine uses"),
  })
  .describe('size of the model: `config check` says whether it fits the GPUs');

export interface ModelShape {
  readonly parameters: number;
  readonly weightBits: number;
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly kvBits: number;
  readonly gpuShare: number;
}

export function parseShape(shape: z.output<typeof shapeSchema>): ModelShape {
  return {
    parameters: shape.parameters_b * 1e9,
    weightBits: shape.weight_bits,
    layers: shape.layers,
    kvHeads: shape.kv_heads,
    headDim: shape.head_dim,
    kvBits: shape.kv_bits,
    gpuShare: shape.gpu_share,
  };
}

export interface Fit {
  /** Over all GPUs, of the smallest that may be offered; null where the pool does not say how large they are. */
  readonly usableBytes: number | null;
  readonly weightBytes: number;
  /** Of keys and values, for one token. */
  readonly tokenBytes: number;
  /** What is left for keys and values, in tokens; Infinity for a model that caches none. */
  readonly tokensMax: Tokens | null;
  /** Why it cannot run; null: it can, as far as this knows. */
  readonly problem: string | null;
}

/** Activations, CUDA's own memory and graphs, on each GPU: what engines take besides weights and cache. */
const OVERHEAD_BYTES = 1.5 * 2 ** 30;

interface Asked {
  readonly engine: string;
  readonly contextTokens: Tokens;
  readonly slots: number;
  readonly hardware: Hardware;
}

/**
 * Weights and cache against the GPUs' memory. Every slot may be full: context x slots tokens are cached at most. llama.cpp
 * takes room for all of them when it starts; vLLM and SGLang start when one fits, and put requests off when it gets tight,
 * which costs time at full load. Both are problems here.
 */
export function fitGpus(shape: ModelShape, { contextTokens, slots, hardware }: Asked): Fit {
  const weightBytes = (shape.parameters * shape.weightBits) / 8;
  const tokenBytes = (2 * shape.layers * shape.kvHeads * shape.headDim * shape.kvBits) / 8;
  const sizes = hardware.gpu.map(({ ramBytes }) => ramBytes);
  const known = sizes.filter((bytes) => bytes !== null);
  if (hardware.gpus === 0 || known.length === 0 || known.length < sizes.length) {
    return { usableBytes: null, weightBytes, tokenBytes, tokensMax: null, problem: null };
  }
  const usableBytes = hardware.gpus * (Math.min(...known) * shape.gpuShare - OVERHEAD_BYTES);
  const left = usableBytes - weightBytes;
  const tokensMax = tokenBytes === 0 ? Infinity : Math.max(0, Math.floor(left / tokenBytes));
  const fit = { usableBytes, weightBytes, tokenBytes, tokensMax };
  if (left < 0) {
    return { ...fit, problem: `its weights need ${gib(weightBytes)}, the GPUs have ${gib(usableBytes)} for them` };
  }
  if (tokensMax < contextTokens) {
    return { ...fit, problem: `${gib(left)} are left for keys and values: ${tokensMax} tokens, less than its context` };
  }
  if (tokensMax < contextTokens * slots) {
    const full = Math.floor(tokensMax / contextTokens);
    return {
      ...fit,
      problem: `its GPUs hold ${tokensMax} tokens: ${full} full contexts at a time, not ${slots} (slots)`,
    };
  }
  return { ...fit, problem: null };
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
