import { sha256 } from '@noble/hashes/sha2.js';

/**
 * Pure: one service as Akash's manifest and group specification, in the JSON that Akash's own Go code writes, and the
 * deployment version, the hash over it. Providers compute that hash from the manifest that they are sent, so a field more
 * or less, or another order, has it refused. Proven equal to Akash's published vectors and to chain-sdk's own functions in
 * `test/leases/akash/sdl.test.ts`.
 */

export interface Gpu {
  readonly vendor: string;
  readonly model: string;
  /** As Akash spells it: "80Gi". */
  readonly ram: string | null;
  readonly interface: string | null;
}

export interface Volume {
  readonly name: string;
  readonly bytes: number;
  /** Null: lost when the container ends. `ram`: tmpfs, counted as memory. */
  readonly storageClass: string | null;
  /** Null: the container's own file system. */
  readonly mount: string | null;
}

export interface ServiceSpec {
  readonly group: string;
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly args: readonly string[];
  /** "KEY=value". */
  readonly env: readonly string[];
  readonly credentials: {
    readonly host: string;
    readonly email: string;
    readonly username: string;
    readonly password: string;
  } | null;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly gpus: number;
  /** Any of them fits. */
  readonly gpu: readonly Gpu[];
  readonly volumes: readonly Volume[];
  readonly expose: readonly Expose[];
  /** Default 1. */
  readonly count?: number;
  readonly signedBy: { readonly allOf: readonly string[]; readonly anyOf: readonly string[] };
  readonly attributes: Readonly<Record<string, string>>;
  /** Runs in trusted hardware, with a side-car that gives its evidence (AEP-83). Providers that do not know it refuse it. */
  readonly tee?: 'cpu' | 'cpu-gpu';
  readonly price: { readonly denom: string; readonly amount: bigint };
}

export interface Expose {
  readonly port: number;
  /** 80: through the provider's ingress; anything else: a port of the provider's choice. 0: the same as `port`. */
  readonly as: number;
  /** Default TCP. */
  readonly proto?: 'TCP' | 'UDP';
  /** Names of our own that the ingress answers to. */
  readonly hosts?: readonly string[];
  /** Name of an address that is leased with it; ports of one name share it. */
  readonly ip?: string;
  readonly http: {
    readonly maxBodySize: number;
    readonly readTimeoutMs: number;
    readonly sendTimeoutMs: number;
    readonly nextTries: number;
    readonly nextTimeoutMs: number;
    readonly nextCases: readonly string[];
  };
}

/** The most that providers accept (akash.md 3): an ingress ends an answer that is silent for a minute. */
export const HTTP_DEFAULTS: Expose['http'] = {
  maxBodySize: 1_048_576,
  readTimeoutMs: 60_000,
  sendTimeoutMs: 60_000,
  nextTries: 3,
  nextTimeoutMs: 0,
  nextCases: ['error', 'timeout'],
};

export interface Attribute {
  readonly key: string;
  readonly value: string;
}

export interface ResourcesJson {
  readonly id: number;
  readonly cpu: { readonly units: { readonly val: string } };
  readonly memory: { readonly size: { readonly val: string } };
  readonly storage: readonly {
    readonly name: string;
    readonly size: { readonly val: string };
    readonly attributes?: readonly Attribute[];
  }[];
  readonly gpu: { readonly units: { readonly val: string }; readonly attributes?: readonly Attribute[] };
  readonly endpoints: readonly { readonly kind?: number; readonly sequence_number: number }[];
}

export interface GroupSpecJson {
  readonly name: string;
  readonly requirements: {
    readonly signed_by: { readonly all_of: readonly string[] | null; readonly any_of: readonly string[] | null };
    readonly attributes: readonly Attribute[] | null;
  };
  readonly resources: readonly {
    readonly resource: ResourcesJson;
    readonly count: number;
    readonly price: { readonly denom: string; readonly amount: string };
  }[];
}

/** What the provider is sent. */
export function manifestOf(spec: ServiceSpec): readonly unknown[] {
  const service = {
    name: spec.name,
    image: spec.image,
    command: nullIfEmpty(spec.command),
    args: nullIfEmpty(spec.args),
    env: nullIfEmpty(spec.env),
    resources: resourcesOf(spec),
    count: spec.count ?? 1,
    expose: sortedExposes(spec).map((expose) => exposeOf(expose, addressesOf(spec))),
    ...paramsOf(spec),
    credentials: spec.credentials,
  };
  return [{ name: spec.group, services: [service] }];
}

/** Written only where there is something in it. */
function paramsOf({ volumes, tee }: ServiceSpec): object {
  const mounted = volumes.filter(({ mount }) => mount !== null).sort((a, b) => compare(a.name, b.name));
  if (mounted.length === 0 && tee === undefined) return {};
  const storage = nullIfEmpty(mounted.map(({ name, mount }) => ({ name, mount, readOnly: false })));
  return { params: { storage, ...(tee === undefined ? {} : { tee: { type: tee, attestation: true } }) } };
}

/** Leased addresses by name, numbered from 1 in the order of their names. */
function addressesOf({ expose }: ServiceSpec): ReadonlyMap<string, number> {
  const names = [...new Set(expose.flatMap(({ ip }) => (ip === undefined ? [] : [ip])))].sort(compare);
  return new Map(names.map((name, index) => [name, index + 1]));
}

/** What the chain is told: the resources, who may bid, and the most that a block may cost. */
export function groupSpecOf(spec: ServiceSpec): GroupSpecJson {
  const { allOf, anyOf } = spec.signedBy;
  return {
    name: spec.group,
    requirements: {
      signed_by: { all_of: nullIfEmpty(allOf), any_of: nullIfEmpty(anyOf) },
      attributes: nullIfEmpty(attributesOf(spec.attributes)),
    },
    resources: [
      {
        resource: resourcesOf(spec),
        count: spec.count ?? 1,
        price: { denom: spec.price.denom, amount: `${spec.price.amount}.${'0'.repeat(18)}` },
      },
    ],
  };
}

function resourcesOf(spec: ServiceSpec): ResourcesJson {
  const gpuAttributes = [...new Set(spec.gpu.map(gpuKey))].sort(compare).map((key) => ({ key, value: 'true' }));
  return {
    id: 1,
    cpu: { units: { val: String(spec.cpuMillis) } },
    memory: { size: { val: String(spec.memoryBytes) } },
    storage: spec.volumes.map(({ name, bytes, storageClass }) => ({
      name,
      size: { val: String(bytes) },
      ...(storageClass === null
        ? {}
        : { attributes: attributesOf({ class: storageClass, persistent: String(storageClass !== 'ram') }) }),
    })),
    gpu: {
      units: { val: String(spec.gpus) },
      ...(spec.gpus === 0 || gpuAttributes.length === 0 ? {} : { attributes: gpuAttributes }),
    },
    endpoints: endpointsOf(spec),
  };
}

/** Kind 0, the shared ingress, is left out as Go leaves out zeros. A leased address is one more, of kind 2. */
function endpointsOf(spec: ServiceSpec): ResourcesJson['endpoints'] {
  const addresses = addressesOf(spec);
  return sortedExposes(spec)
    .flatMap((expose) => [
      isIngress(expose) ? { sequence_number: 0 } : { kind: 1, sequence_number: 0 },
      ...(expose.ip === undefined ? [] : [{ kind: 2, sequence_number: addresses.get(expose.ip) ?? 0 }]),
    ])
    .sort((a, b) => ('kind' in a ? a.kind : 0) - ('kind' in b ? b.kind : 0) || a.sequence_number - b.sequence_number);
}

/** "vendor/nvidia/model/h100/ram/80Gi/interface/sxm". */
export function gpuKey({ vendor, model, ram, interface: bus }: Gpu): string {
  return `vendor/${vendor}/model/${model}${ram === null ? '' : `/ram/${ram}`}${bus === null ? '' : `/interface/${bus}`}`;
}

function sortedExposes({ expose }: ServiceSpec): Expose[] {
  return [...expose].sort((a, b) => a.port - b.port || compare(a.proto ?? 'TCP', b.proto ?? 'TCP'));
}

function isIngress({ port, as, proto = 'TCP' }: Expose): boolean {
  return proto === 'TCP' && (as === 0 ? port : as) === 80;
}

function exposeOf(expose: Expose, addresses: ReadonlyMap<string, number>): unknown {
  const { port, as, proto = 'TCP', hosts = [], http, ip = '' } = expose;
  return {
    port,
    externalPort: as,
    proto,
    service: '',
    global: true,
    hosts: nullIfEmpty(hosts),
    httpOptions: {
      maxBodySize: http.maxBodySize,
      readTimeout: http.readTimeoutMs,
      sendTimeout: http.sendTimeoutMs,
      nextTries: http.nextTries,
      nextTimeout: http.nextTimeoutMs,
      nextCases: http.nextCases,
    },
    ip,
    endpointSequenceNumber: addresses.get(ip) ?? 0,
  };
}

function attributesOf(record: Readonly<Record<string, string>>): Attribute[] {
  return Object.entries(record)
    .map(([key, value]) => ({ key, value }))
    .sort((a, b) => compare(a.key, b.key));
}

function nullIfEmpty<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list;
}

/** By code points, as Go compares; `localeCompare` would put "B" after "a". */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const GO_ESCAPES: Record<string, string> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};

/** Compact JSON with every object's keys sorted, the characters escaped that Go escapes. The hash is over this text. */
export function sortedJson(value: unknown): string {
  return JSON.stringify(sortKeys(value)).replaceAll(/[<>&\u2028\u2029]/g, (found) => GO_ESCAPES[found] ?? found);
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => compare(a, b))
      .map(([key, item]) => [key, sortKeys(item)]),
  );
}

/** The deployment version that goes on the chain with it. */
export function versionOf(manifest: string): Uint8Array {
  return sha256(new TextEncoder().encode(manifest));
}
