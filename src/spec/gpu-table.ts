import type { Hardware } from './hardware.ts';
import type { ModelShape } from './fit.ts';

/** Pure: what a GPU should do, so that one that does much less, or is another one, is seen. */

export interface Gpu {
  /** As Akash's attributes and pools name it. */
  readonly model: string;
  /** In what nvidia-smi, CUDA and engines call it, in small letters without blanks. */
  readonly names: readonly string[];
  readonly memoryGib: readonly number[];
  readonly gigabytesPerS: number;
  /** Dense, BF16 (FP16 where a card has none), without sparsity. */
  readonly teraflops: number;
}

/**
 * From the makers' data sheets, as read up to 2026-11 (NVIDIA: product pages and architecture white papers; AMD: product
 * pages). Consumer cards: tensor cores with FP32 accumulation. Where a card comes in several versions, the slowest.
 */
export const GPUS: readonly Gpu[] = [
  { model: 't4', names: ['teslat4', 't4'], memoryGib: [16], gigabytesPerS: 320, teraflops: 65 },
  { model: 'p40', names: ['teslap40', 'p40'], memoryGib: [24], gigabytesPerS: 346, teraflops: 12 },
  { model: 'v100', names: ['teslav100', 'v100'], memoryGib: [16, 32], gigabytesPerS: 900, teraflops: 112 },
  { model: 'rtx3060', names: ['rtx3060'], memoryGib: [8, 12], gigabytesPerS: 240, teraflops: 25 },
  { model: 'rtx3090', names: ['rtx3090'], memoryGib: [24], gigabytesPerS: 936, teraflops: 71 },
  { model: 'rtx4080', names: ['rtx4080'], memoryGib: [16], gigabytesPerS: 717, teraflops: 97 },
  { model: 'rtx4090', names: ['rtx4090'], memoryGib: [24], gigabytesPerS: 1008, teraflops: 165 },
  { model: 'rtx5090', names: ['rtx5090'], memoryGib: [32], gigabytesPerS: 1792, teraflops: 209 },
  { model: 'rtxa4000', names: ['rtxa4000'], memoryGib: [16], gigabytesPerS: 448, teraflops: 76 },
  { model: 'rtx4000ada', names: ['rtx4000ada'], memoryGib: [20], gigabytesPerS: 280, teraflops: 96 },
  { model: 'rtxa6000', names: ['rtxa6000'], memoryGib: [48], gigabytesPerS: 768, teraflops: 155 },
  { model: 'rtx6000ada', names: ['rtx6000ada'], memoryGib: [48], gigabytesPerS: 960, teraflops: 182 },
  { model: 'pro6000se', names: ['rtxpro6000', 'pro6000'], memoryGib: [96], gigabytesPerS: 1597, teraflops: 250 },
  { model: 'a10', names: ['a10'], memoryGib: [24], gigabytesPerS: 600, teraflops: 125 },
  { model: 'l4', names: ['l4'], memoryGib: [24], gigabytesPerS: 300, teraflops: 121 },
  { model: 'l40s', names: ['l40s'], memoryGib: [48], gigabytesPerS: 864, teraflops: 362 },
  { model: 'l40', names: ['l40'], memoryGib: [48], gigabytesPerS: 864, teraflops: 181 },
  { model: 'a100', names: ['a100'], memoryGib: [40, 80], gigabytesPerS: 1555, teraflops: 312 },
  { model: 'h100', names: ['h100'], memoryGib: [80], gigabytesPerS: 2000, teraflops: 756 },
  { model: 'h200', names: ['h200'], memoryGib: [141], gigabytesPerS: 4800, teraflops: 836 },
  { model: 'b200', names: ['b200'], memoryGib: [180], gigabytesPerS: 7700, teraflops: 2250 },
  { model: 'b300', names: ['b300'], memoryGib: [270], gigabytesPerS: 7700, teraflops: 2250 },
  { model: 'mi300x', names: ['mi300x'], memoryGib: [192], gigabytesPerS: 5300, teraflops: 1307 },
];

const squeeze = (name: string): string => name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '');

/** By Akash's name or by nvidia-smi's ("NVIDIA A100-SXM4-80GB"); the longest name that fits. Null: not in the table. */
export function findGpu(name: string): Gpu | null {
  const asked = squeeze(name)
    .replace(/^nvidia|^amdinstinct|^amd/, '')
    .replace(/^geforce/, '');
  let best: { readonly gpu: Gpu; readonly length: number } | null = null;
  for (const gpu of GPUS) {
    for (const known of [squeeze(gpu.model), ...gpu.names]) {
      if (asked.startsWith(known) && known.length > (best?.length ?? 0)) best = { gpu, length: known.length };
    }
  }
  return best?.gpu ?? null;
}

export interface GpuSpeed {
  /** Of one stream. */
  readonly tokensPerS: number;
  readonly prefillTokensPerS: number;
}

/** Of the memory's bandwidth and of the peak, what engines reach with one stream: what is well below is another card, or shared. */
const BANDWIDTH_SHARE = 0.6;
const FLOPS_SHARE = 0.4;
/** Several cards wait for each other. */
const EACH_MORE = 0.7;

/**
 * What the slowest of the GPUs that a pool allows does with its model: a token reads all weights once, a prompt's token takes
 * two operations a parameter. Null: the pool has no shape, names no GPU, or one that is not in the table.
 */
export function expectedSpeed(hardware: Hardware, shape: ModelShape | null | undefined): GpuSpeed | null {
  const known = hardware.gpu.map(({ model }) => findGpu(model));
  if (!shape || hardware.gpus === 0 || known.length === 0) return null;
  const cards = 1 + (hardware.gpus - 1) * EACH_MORE;
  const weightBytes = (shape.parameters * shape.weightBits) / 8;
  let slowest: GpuSpeed | null = null;
  for (const gpu of known) {
    if (!gpu) return null;
    const tokensPerS = (BANDWIDTH_SHARE * cards * gpu.gigabytesPerS * 1e9) / weightBytes;
    const prefillTokensPerS = (FLOPS_SHARE * cards * gpu.teraflops * 1e12) / (2 * shape.parameters);
    if (!slowest || tokensPerS < slowest.tokensPerS) slowest = { tokensPerS, prefillTokensPerS };
  }
  return slowest;
}
