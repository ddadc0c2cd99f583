import type { PoolSpec } from '../spec.ts';
import { describeSchedule } from '../spec/schedule.ts';
import { describeWake } from '../spec/wake.ts';
import type { Registry, Weights } from '../spec/weights.ts';
import { describeCanary } from '../spec/canary.ts';
import { describeSla } from '../spec/sla.ts';
import type { ModelShape } from '../spec/fit.ts';

/** What a pool may say besides of its weights, its machines and its times, in the file's shape. */
export function describeExtras(pool: PoolSpec): object {
  const { weights, registry, shape, attributes, reclamationMs, schedule, paused, wake, sla, canary } = pool;
  return {
    ...(schedule ? { schedule: describeSchedule(schedule) } : {}),
    ...(paused ? { paused } : {}),
    ...(wake ? { wake: describeWake(wake) } : {}),
    ...(weights ? { weights: describeWeights(weights) } : {}),
    ...(registry ? { registry: describeRegistry(registry) } : {}),
    ...(shape ? { shape: describeShape(shape) } : {}),
    ...(attributes && Object.keys(attributes).length > 0 ? { attributes } : {}),
    ...(sla ? { sla: describeSla(sla) } : {}),
    ...(canary ? { canary: describeCanary(canary) } : {}),
    ...(reclamationMs ? { reclamation_s: reclamationMs / 1000 } : {}),
  };
}

/** Secrets by their names: what they stand for is nowhere here. */
function describeWeights({ source, revision, sha256, volume, secret, expiresMs, visibleTo }: Weights): object {
  return {
    source,
    ...(revision === null ? {} : { revision }),
    ...(sha256 === null ? {} : { sha256 }),
    ...(volume === null
      ? { cache: 'ephemeral' }
      : { cache: 'persistent', cache_size: formatSize(volume.bytes), cache_class: volume.class }),
    ...(secret === null ? {} : { secret }),
    ...(expiresMs === null ? {} : { expires: new Date(expiresMs).toISOString() }),
    visible_to: visibleTo,
  };
}

function describeRegistry({ host, username, password, visibleTo }: Registry): object {
  return { host, username, password, visible_to: visibleTo };
}

function describeShape(shape: ModelShape): object {
  return {
    parameters_b: shape.parameters / 1e9,
    weight_bits: shape.weightBits,
    layers: shape.layers,
    kv_heads: shape.kvHeads,
    head_dim: shape.headDim,
    kv_bits: shape.kvBits,
    gpu_share: shape.gpuShare,
  };
}

/** The largest unit that needs no fraction: 1610612736 is "1536Mi". */
export function formatSize(bytes: number): string {
  const units = ['Ti', 'Gi', 'Mi'];
  const unit = units.find((_, index) => bytes > 0 && bytes % 1024 ** (4 - index) === 0);
  // Exact all the same: a division by 1024 never leaves a double's digits.
  return unit === undefined ? `${bytes / 1024}Ki` : `${bytes / 1024 ** (4 - units.indexOf(unit))}${unit}`;
}
