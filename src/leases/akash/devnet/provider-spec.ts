import type { Attribute } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import type { GroupSpec, ResourceUnit } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import type { ResourceOffer } from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import type { Ms } from '../../../units.ts';
import { DEC_ONE, type Dec } from './decimal.ts';
import { quantityOf } from './group-checks.ts';

/** Pure: a provider's machine, what it asks for it and whether an order fits. */
export interface ProviderSpec {
  readonly name: string;
  readonly gpu: { readonly model: string; readonly ram: string; readonly interface: string } | null;
  readonly gpus: number;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly storageBytes: number;
  readonly region: string;
  readonly audited: boolean;
  /** What it wants per hour, in micro-USD (1 uact is one of them). */
  readonly rates: { readonly cpu: bigint; readonly memoryGiB: bigint; readonly gpu: bigint };
  /** From an order to the bid, as real providers take. */
  readonly bidDelayMs: Ms;
  /** What it offers where an order asks for reclamation; null: nothing. */
  readonly reclamationS: bigint | null;
  /** What it says of its trusted hardware; left out: nothing. */
  readonly tee?: 'cpu' | 'cpu-gpu';
}

const GIB = 2 ** 30;
/** Rent is per block of about 6 s; on the emulated network blocks are faster, prices are the real ones. */
const BLOCKS_PER_HOUR = 600n;

export const DEFAULT_PROVIDERS: readonly ProviderSpec[] = [
  {
    name: 'prairie',
    gpu: { model: 'rtx4090', ram: '24Gi', interface: 'pcie' },
    gpus: 4,
    cpus: 32,
    memoryBytes: 128 * GIB,
    storageBytes: 1_000 * GIB,
    region: 'us-central',
    audited: false,
    rates: { cpu: 2_200n, memoryGiB: 1_100n, gpu: 310_000n },
    bidDelayMs: 1_000,
    reclamationS: null,
  },
  {
    name: 'fjord',
    gpu: { model: 'rtx4090', ram: '24Gi', interface: 'pcie' },
    gpus: 8,
    cpus: 64,
    memoryBytes: 256 * GIB,
    storageBytes: 2_000 * GIB,
    region: 'eu-north',
    audited: true,
    rates: { cpu: 2_600n, memoryGiB: 1_300n, gpu: 380_000n },
    bidDelayMs: 2_000,
    reclamationS: 86_400n,
  },
  {
    name: 'summit',
    gpu: { model: 'h100', ram: '80Gi', interface: 'sxm' },
    gpus: 8,
    cpus: 192,
    memoryBytes: 1_024 * GIB,
    storageBytes: 8_000 * GIB,
    region: 'us-west',
    audited: true,
    rates: { cpu: 3_000n, memoryGiB: 1_500n, gpu: 1_900_000n },
    bidDelayMs: 3_000,
    reclamationS: 86_400n,
  },
];

export function attributesOf({ gpu, gpus, region, name, tee }: ProviderSpec): Attribute[] {
  const model = gpu === null ? null : `capabilities/gpu/vendor/nvidia/model/${gpu.model}`;
  const keys = [
    ...(gpu !== null && gpus > 0
      ? [
          `${model}`,
          `${model}/ram/${gpu.ram}`,
          `${model}/ram/${gpu.ram}/interface/${gpu.interface}`,
          `${model}/interface/${gpu.interface}`,
        ]
      : []),
  ];
  return [
    { key: 'region', value: region },
    { key: 'host', value: 'akash' },
    { key: 'tier', value: 'community' },
    { key: 'organization', value: name },
    ...(tee === undefined ? [] : [{ key: 'tee/type', value: tee }]),
    { key: 'capabilities/storage/1/class', value: 'beta3' },
    { key: 'capabilities/storage/1/persistent', value: 'true' },
    { key: 'capabilities/storage/2/class', value: 'ram' },
    { key: 'capabilities/storage/2/persistent', value: 'false' },
    ...keys.map((key) => ({ key, value: 'true' })),
  ];
}

export interface Room {
  readonly cpuMillis: bigint;
  readonly memoryBytes: bigint;
  readonly gpus: bigint;
}

export function roomOf(groups: readonly GroupSpec[]): Room {
  const units = groups.flatMap(({ resources }) => resources);
  const sum = (of: (unit: ResourceUnit) => bigint): bigint =>
    units.reduce((total, unit) => total + of(unit) * BigInt(unit.count), 0n);
  return {
    cpuMillis: sum(({ resource }) => quantityOf(resource?.cpu?.units)),
    memoryBytes: sum(({ resource }) => quantityOf(resource?.memory?.quantity)),
    gpus: sum(({ resource }) => quantityOf(resource?.gpu?.units)),
  };
}

export function hasRoom(spec: ProviderSpec, taken: readonly GroupSpec[], wanted: GroupSpec): boolean {
  const all = roomOf([...taken, wanted]);
  return (
    all.cpuMillis <= BigInt(spec.cpus) * 1000n &&
    all.memoryBytes <= BigInt(spec.memoryBytes) &&
    all.gpus <= BigInt(spec.gpus)
  );
}

/** Its price per block for a group: rates by resources, in parts of a uact where it comes to that. */
export function bidPrice({ rates }: ProviderSpec, group: GroupSpec): Dec {
  const { cpuMillis, memoryBytes, gpus } = roomOf([group]);
  const perHour =
    (cpuMillis * rates.cpu * DEC_ONE) / 1000n +
    (memoryBytes * rates.memoryGiB * DEC_ONE) / BigInt(GIB) +
    gpus * rates.gpu * DEC_ONE;
  return perHour / BLOCKS_PER_HOUR + (perHour % BLOCKS_PER_HOUR > 0n ? 1n : 0n);
}

/** The resources as asked, with the GPU that it would really be. */
export function offerFor({ gpu }: ProviderSpec, group: GroupSpec, wrongGpu: boolean): ResourceOffer[] {
  return group.resources.map(({ resource, count }) => {
    const asked = resource?.gpu;
    const real = wrongGpu ? { model: 'gt1030', ram: '2Gi' } : gpu;
    const key = `vendor/nvidia/model/${real?.model ?? ''}/ram/${real?.ram ?? ''}`;
    const offered =
      resource === undefined || asked === undefined || quantityOf(asked.units) === 0n
        ? resource
        : { ...resource, gpu: { ...asked, attributes: [{ key, value: 'true' }] } };
    return { resources: offered, count, prices: undefined };
  });
}
