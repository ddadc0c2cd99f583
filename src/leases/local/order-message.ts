import type { OrderMessage, WorkloadMessage } from '../../spec/provider-wire.ts';
import { formatUsd, parseUsd, perBlockFromPerHour, perHourFromPerBlock, type Ms } from '../../units.ts';
import type { OrderRequest, Workload } from '../market.ts';

/**
 * Orders and workloads as a provider elsewhere reads them, and back. Prices go by the hour: blocks are the market's own
 * way to count. A price per block comes back as it was, since it is rounded up on the way out and down on the way in.
 */
export function messageOfOrder(order: OrderRequest, blockMs: Ms): OrderMessage {
  const { hardware } = order;
  return {
    id: order.id,
    pool: order.pool,
    hardware: {
      gpus: hardware.gpus,
      gpu: hardware.gpu.map(({ vendor, model, ramBytes, interface: link }) => {
        return { vendor, model, ram_bytes: ramBytes, interface: link ?? null };
      }),
      cpu: hardware.cpu,
      memory_bytes: hardware.memoryBytes,
      storage_bytes: hardware.storageBytes,
    },
    trust: order.trust,
    region: order.region ?? null,
    ceiling_usd_per_hour: formatUsd(perHourFromPerBlock(order.ceilingNanoUsdPerBlock, blockMs)),
    workload: messageOfWorkload(order.workload),
  };
}

export function orderOfMessage(message: OrderMessage, blockMs: Ms): OrderRequest {
  const { hardware } = message;
  return {
    id: message.id,
    pool: message.pool,
    hardware: {
      gpus: hardware.gpus,
      gpu: hardware.gpu.map(({ vendor, model, ram_bytes: ramBytes, interface: link }) => {
        return { vendor, model, ramBytes, interface: link };
      }),
      cpu: hardware.cpu,
      memoryBytes: hardware.memory_bytes,
      storageBytes: hardware.storage_bytes,
    },
    trust: message.trust,
    region: message.region,
    ceilingNanoUsdPerBlock: perBlockFromPerHour(parseUsd(message.ceiling_usd_per_hour), blockMs),
    workload: workloadOfMessage(message.workload),
  };
}

export function messageOfWorkload(workload: Workload): WorkloadMessage {
  const { pool, kind, engine, model, image, slots, contextTokens } = workload;
  return { pool, kind, engine, model, image, slots, context_tokens: contextTokens };
}

export function workloadOfMessage({ context_tokens: contextTokens, ...workload }: WorkloadMessage): Workload {
  return { ...workload, contextTokens };
}
