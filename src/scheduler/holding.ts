import type { PoolSpec } from '../spec.ts';
import { expectedSpeed, findGpu } from '../spec/gpu-table.ts';

/** Pure: whether a machine is what was ordered: by its speed, measured again and again, and by what its engine says of it. */

/** Measures that have to agree: a single one may be the network, or a neighbour. */
export const MEASURES_LEAST = 3;
/** Well below: of what the pool promises a stream, and of what arithmetic says of the GPU. */
const SLO_SHARE = 0.7;
const TABLE_SHARE = 0.5;
/** Drivers and engines keep some of a card's memory for themselves. */
const MEMORY_SHARE = 0.85;

/** What an engine says of the machine that it runs on; most say little. */
export interface EngineSays {
  /** As nvidia-smi names it. */
  readonly gpu: string | null;
  readonly memoryBytes: number | null;
}

/** What one stream is held against, for people and records; null where nothing is promised. */
export function promisedSpeed(spec: PoolSpec): number | null {
  return expectedSpeed(spec.hardware, spec.shape)?.tokensPerS ?? null;
}

/**
 * Why a replica is too slow, or null. Only of machines with GPUs: what a CPU does hangs on who else uses it, and is shown, not
 * judged.
 * @param measured tokens a second of one stream alone, the latest last
 */
export function slownessOf(measured: readonly number[], spec: PoolSpec): string | null {
  if (spec.hardware.gpus === 0 || spec.kind !== 'chat') return null;
  const last = measured.slice(-MEASURES_LEAST);
  if (last.length < MEASURES_LEAST) return null;
  const most = Math.max(...last);
  const table = expectedSpeed(spec.hardware, spec.shape)?.tokensPerS ?? 0;
  const [bySlo, byTable] = [spec.slo.tokensPerSecond * SLO_SHARE, table * TABLE_SHARE];
  if (most >= Math.max(bySlo, byTable)) return null;
  const against =
    byTable > bySlo
      ? `its GPU should make about ${round(table)}`
      : `the pool promises ${round(spec.slo.tokensPerSecond)}`;
  return `a stream got ${last.map(round).join(', ')} tokens/s, ${against}`;
}

/** Why a machine is not the one that was ordered, or null: as far as its engine says. */
export function mismatchOf({ gpu, memoryBytes }: EngineSays, { hardware }: PoolSpec): string | null {
  if (hardware.gpus === 0) return null;
  const ordered = hardware.gpu.map(({ model }) => model);
  if (gpu !== null) {
    const found = findGpu(gpu);
    const known = hardware.gpu.map(({ model }) => findGpu(model));
    // A name that nobody knows proves nothing.
    if (found && known.every((one) => one !== null && one !== found)) {
      return `its GPU says that it is ${gpu.slice(0, 100)}, ordered was ${ordered.join(' or ')}`;
    }
  }
  const sizes = hardware.gpu.map(({ ramBytes }) => ramBytes ?? 0);
  const least = Math.min(...sizes) * MEMORY_SHARE;
  if (memoryBytes === null || memoryBytes >= least) return null;
  const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
  return `its GPU has ${gib(memoryBytes)} GiB, ordered were ${gib(Math.min(...sizes))}`;
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}
