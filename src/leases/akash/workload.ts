import type { Engine } from '../../spec.ts';
import type { OrderRequest, Workload } from '../market.ts';
import { groupNameOf, SERVICE_NAME } from './names.ts';
import { HTTP_DEFAULTS, type ServiceSpec, type Volume } from './sdl.ts';

/** Pure: an order as the container that a provider starts. */

export interface ServiceSettings {
  readonly denom: string;
  /** `ingress`: by the provider's host name, where an answer silent for a minute is cut. `port`: straight to the server. */
  readonly expose: 'port' | 'ingress';
  /** Whose signature counts for a pool with trust: audited. */
  readonly auditors: readonly string[];
  /** For pools that name none, where providers do not look at it. */
  readonly defaultImage: string | null;
  readonly ceilingMicroPerBlock: bigint;
  readonly apiKey: string;
}

/** A string says why the network cannot be asked for it. */
export function serviceOf(order: OrderRequest, settings: ServiceSettings): ServiceSpec | string {
  const { hardware, workload, trust, region = null } = order;
  const image = workload.image ?? settings.defaultImage;
  if (image === null) return 'the pool names no image, and the Akash network rents out nothing but containers';
  if (!image.includes('@sha256:') && image !== settings.defaultImage) {
    return 'the image is not named by its digest (name@sha256:…): what a tag stands for can change';
  }
  if (trust === 'tee') return 'trusted hardware cannot be asked for on the Akash network yet';
  const starts = startOf(workload, hardware.gpus, settings.apiKey);
  if (typeof starts === 'string') return starts;
  return {
    group: groupNameOf(order.id),
    name: SERVICE_NAME,
    image,
    command: starts.command,
    args: starts.args,
    env: starts.env,
    credentials: null,
    cpuMillis: Math.ceil(hardware.cpu * 1000),
    memoryBytes: hardware.memoryBytes,
    gpus: hardware.gpus,
    gpu: hardware.gpu.map(({ vendor, model, ramBytes, interface: bus = null }) => ({
      vendor,
      model,
      ram: ramBytes === null ? null : `${Math.round(ramBytes / 2 ** 30)}Gi`,
      interface: bus,
    })),
    volumes: volumesOf(order),
    expose: [{ port: starts.port, as: settings.expose === 'ingress' ? 80 : exposedPort(starts.port), http: INGRESS }],
    signedBy: { allOf: [], anyOf: trust === 'audited' ? [...settings.auditors] : [] },
    attributes: region === null ? {} : { region },
    price: { denom: settings.denom, amount: settings.ceilingMicroPerBlock },
  };
}

/** Prompts with images are large: as much as an ingress takes. */
const INGRESS = { ...HTTP_DEFAULTS, maxBodySize: 104_857_600 };

/** Port 80 would be taken for the ingress. */
function exposedPort(port: number): number {
  return port === 80 ? 8080 : port;
}

function volumesOf({ hardware, workload: { container } }: OrderRequest): Volume[] {
  const volumes: Volume[] = [{ name: 'default', bytes: hardware.storageBytes, storageClass: null, mount: null }];
  const { volume = null, shmBytes = 0 } = container ?? {};
  if (volume) volumes.push({ name: 'cache', bytes: volume.bytes, storageClass: volume.class, mount: volume.mount });
  if (shmBytes > 0) volumes.push({ name: 'shm', bytes: shmBytes, storageClass: 'ram', mount: '/dev/shm' });
  return volumes;
}

interface Start {
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly port: number;
}

interface EngineStart {
  readonly port: number;
  readonly command: readonly string[];
  /** The variable that its bearer key is read from; null: it takes it as an argument only. */
  readonly keyVariable: string | null;
  readonly args: (given: Given) => readonly string[];
}

interface Given {
  readonly workload: Workload;
  readonly weights: string;
  readonly revision: string | null;
  readonly port: number;
  readonly gpus: number;
  readonly apiKey: string;
}

const ENGINES: Record<Exclude<Engine, 'openai'>, EngineStart> = {
  vllm: {
    port: 8000,
    command: [],
    keyVariable: 'VLLM_API_KEY',
    args: ({ workload, weights, revision, port, gpus }) => [
      ...['--model', weights, '--served-model-name', workload.model],
      ...(revision === null ? [] : ['--revision', revision]),
      ...['--host', '0.0.0.0', '--port', String(port)],
      ...['--max-model-len', String(workload.contextTokens), '--max-num-seqs', String(workload.slots)],
      ...(gpus > 1 ? ['--tensor-parallel-size', String(gpus)] : []),
    ],
  },
  sglang: {
    port: 30_000,
    command: ['python3', '-m', 'sglang.launch_server'],
    keyVariable: null,
    args: ({ workload, weights, revision, port, gpus, apiKey }) => [
      ...['--model-path', weights, '--served-model-name', workload.model],
      ...(revision === null ? [] : ['--revision', revision]),
      ...['--host', '0.0.0.0', '--port', String(port), '--api-key', apiKey],
      ...['--context-length', String(workload.contextTokens), '--max-running-requests', String(workload.slots)],
      ...(gpus > 1 ? ['--tp', String(gpus)] : []),
    ],
  },
  'llama.cpp': {
    port: 8080,
    command: [],
    keyVariable: 'LLAMA_API_KEY',
    // Its context is shared by its slots.
    args: ({ workload, weights, port, gpus }) => [
      ...['-hf', weights, '--alias', workload.model, '--host', '0.0.0.0', '--port', String(port)],
      ...['-c', String(workload.contextTokens * workload.slots), '-np', String(workload.slots)],
      ...(gpus > 0 ? ['-ngl', '999'] : []),
    ],
  },
};

function startOf(workload: Workload, gpus: number, apiKey: string): Start | string {
  const { container, engine } = workload;
  const variables = Object.entries(container?.env ?? {}).map(([name, value]) => `${name}=${value}`);
  if (engine === 'openai') {
    if (!container?.port) return 'a pool of engine openai must say how its image is started: container.port at least';
    const { command, args, port } = container;
    return { command: command ?? [], args: args ?? [], env: [...variables, `API_KEY=${apiKey}`], port };
  }
  const start = ENGINES[engine];
  const port = container?.port ?? start.port;
  const weights = container?.weights ?? workload.model;
  const given = { workload, weights, revision: container?.revision ?? null, port, gpus, apiKey };
  return {
    command: container?.command ?? start.command,
    args: container?.args ?? start.args(given),
    env: [...variables, `${start.keyVariable ?? 'API_KEY'}=${apiKey}`],
    port,
  };
}
