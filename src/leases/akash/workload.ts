import type { Trust } from '../../spec/trust.ts';
import { orderTrust, secretProblem } from '../../spec/weights.ts';
import type { EpochMs } from '../../units.ts';
import type { OrderRequest, Workload } from '../market.ts';
import { inOneLine, startOf, WEIGHTS_MOUNT } from './engines.ts';
import type { LeaseTls } from './lease-tls.ts';
import { referencesOf, SECRET_LENGTH_MIN, type SecretOf } from './manifest-secrets.ts';
import { groupNameOf, SERVICE_NAME } from './names.ts';
import { HTTP_DEFAULTS, type Expose, type ServiceSpec, type Volume } from './sdl.ts';

/** Pure: an order as the container that a provider starts. */

/**
 * `ingress`: by the provider's host name, where an answer silent for a minute is cut. `port`: straight to the server, by a
 * port of the provider's choice. `ip`: straight to the server, by an address of the lease's own.
 */
export type Exposure = 'port' | 'ingress' | 'ip';

export interface ServiceSettings {
  readonly denom: string;
  /** Where the pool does not say. */
  readonly expose: Exposure;
  /** What a server that is not behind an ingress shows. */
  readonly tls: LeaseTls;
  /** Whose signature counts for a pool with trust: audited. */
  readonly auditors: readonly string[];
  /** For pools that name none, where providers do not look at it. */
  readonly defaultImage: string | null;
  readonly ceilingMicroPerBlock: bigint;
  readonly apiKey: string;
  readonly secretOf?: SecretOf;
  readonly nowMs?: EpochMs;
}

/** What providers that run containers in trusted hardware say of themselves (AEP-83): a draft, and nothing attests it to us. */
export const TEE_ATTRIBUTE = 'tee/type';

/** `cpu-gpu`: the GPU's memory is protected too. */
export function teeTypeOf(gpus: number): 'cpu' | 'cpu-gpu' {
  return gpus > 0 ? 'cpu-gpu' : 'cpu';
}

/** How an order's server is reached, where the market's own way is the last resort. */
export function exposureOf({ container }: Pick<Workload, 'container'>, usual: Exposure): Exposure {
  return container?.expose ?? usual;
}

/** A string says why the network cannot be asked for it. */
export function serviceOf(order: OrderRequest, settings: ServiceSettings): ServiceSpec | string {
  const { hardware, workload } = order;
  const image = workload.image ?? settings.defaultImage;
  if (image === null) return 'the pool names no image, and the Akash network rents out nothing but containers';
  if (!image.includes('@sha256:') && image !== settings.defaultImage) {
    return 'the image is not named by its digest (name@sha256:…): what a tag stands for can change';
  }
  const expired = secretProblem(workload.weights, settings.nowMs ?? 0);
  if (expired !== null) return expired;
  const secrets = readSecrets(order, settings.secretOf);
  if (typeof secrets === 'string') return secrets;
  const token = secrets.get(workload.weights?.secret ?? '') ?? null;
  const expose = exposureOf(workload, settings.expose);
  const { certificate, key } = settings.tls;
  const tls = expose === 'ingress' ? null : { certificate: inOneLine(certificate), key: inOneLine(key) };
  const starts = startOf(workload, { gpus: hardware.gpus, apiKey: settings.apiKey, token, tls });
  if (typeof starts === 'string') return starts;
  // Whatever the order says: who is shown a secret must be what the secret asks for.
  const trust = orderTrust({ ...workload, trust: order.trust });
  const { registry = null } = workload;
  return {
    group: groupNameOf(order.id),
    name: SERVICE_NAME,
    image,
    command: starts.command,
    args: starts.args,
    env: starts.env,
    credentials:
      registry === null
        ? null
        : {
            host: registry.host,
            email: '',
            username: registry.username,
            password: secrets.get(registry.password) ?? '',
          },
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
    expose: [exposeOf(expose, starts.port)],
    signedBy: { allOf: [], anyOf: trust === 'any' ? [] : [...settings.auditors] },
    attributes: attributesOf(order, trust),
    ...(trust === 'tee' ? { tee: teeTypeOf(hardware.gpus) } : {}),
    price: { denom: settings.denom, amount: settings.ceilingMicroPerBlock },
  };
}

function readSecrets({ workload }: OrderRequest, secretOf: SecretOf = () => null): Map<string, string> | string {
  const secrets = new Map<string, string>();
  for (const reference of referencesOf(workload)) {
    const secret = secretOf(reference);
    if (secret === null) return `the secret ${reference.slice(0, 200)} cannot be read`;
    if (secret.length < SECRET_LENGTH_MIN) return `the secret ${reference.slice(0, 200)} is too short to be one`;
    secrets.set(reference, secret);
  }
  return secrets;
}

/** Where auditors are asked for, the chain wants these signed by one of them. */
function attributesOf(
  { region = null, attributes = {}, hardware }: OrderRequest,
  trust: Trust,
): Record<string, string> {
  return {
    ...attributes,
    ...(region === null ? {} : { region }),
    ...(trust === 'tee' ? { [TEE_ATTRIBUTE]: teeTypeOf(hardware.gpus) } : {}),
  };
}

/** Prompts with images are large: as much as an ingress takes. */
const INGRESS = { ...HTTP_DEFAULTS, maxBodySize: 104_857_600 };
const IP_NAME = 'address';

function exposeOf(how: Exposure, port: number): Expose {
  if (how === 'ingress') return { port, as: 80, http: INGRESS };
  // Port 80 would be taken for the ingress.
  const as = port === 80 ? 8080 : port;
  return { port, as, http: INGRESS, ...(how === 'ip' ? { ip: IP_NAME } : {}) };
}

function volumesOf({ hardware, workload: { container, weights } }: OrderRequest): Volume[] {
  const volumes: Volume[] = [{ name: 'default', bytes: hardware.storageBytes, storageClass: null, mount: null }];
  const { volume = null, shmBytes = 0 } = container ?? {};
  if (volume) volumes.push({ name: 'cache', bytes: volume.bytes, storageClass: volume.class, mount: volume.mount });
  if (weights?.volume) {
    const { bytes, class: storageClass } = weights.volume;
    volumes.push({ name: 'weights', bytes, storageClass, mount: WEIGHTS_MOUNT });
  }
  if (shmBytes > 0) volumes.push({ name: 'shm', bytes: shmBytes, storageClass: 'ram', mount: '/dev/shm' });
  return volumes;
}
