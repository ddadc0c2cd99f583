import { z } from 'zod';
import { parseSize, sizeSchema } from './size.ts';

export const hardwareSchema = z.strictObject({
  gpus: z.number().int().min(0).max(24).default(0),
  gpu: z
    .array(
      z.strictObject({
        vendor: z.string().default('nvidia'),
        model: z
          .string()
          .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'names no GPU: a wildcard would be priced as the dearest one')
          .describe('exactly, as its market names it'),
        ram: sizeSchema.optional(),
        interface: z.enum(['pcie', 'sxm']).optional(),
      }),
    )
    .max(16)
    .default([])
    .describe('any one of these fits'),
  cpu: z.number().min(0.1).max(384).default(1).describe('cores'),
  memory: sizeSchema.default('1Gi'),
  storage: sizeSchema.default('1Gi'),
});

export interface Hardware {
  readonly gpus: number;
  readonly gpu: readonly {
    readonly vendor: string;
    readonly model: string;
    readonly ramBytes: number | null;
    readonly interface?: string | null;
  }[];
  readonly cpu: number;
  readonly memoryBytes: number;
  readonly storageBytes: number;
}

export function parseHardware(hardware: z.output<typeof hardwareSchema>): Hardware {
  return {
    gpus: hardware.gpus,
    gpu: hardware.gpu.map((gpu) => ({
      vendor: gpu.vendor,
      model: gpu.model,
      ramBytes: gpu.ram === undefined ? null : parseSize(gpu.ram),
      interface: gpu.interface ?? null,
    })),
    cpu: hardware.cpu,
    memoryBytes: parseSize(hardware.memory),
    storageBytes: parseSize(hardware.storage),
  };
}
