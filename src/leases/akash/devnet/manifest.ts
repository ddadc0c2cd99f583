import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { GroupSpec } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { quantityOf } from './group-checks.ts';

/**
 * The manifest as a provider reads it: into a known structure, which is then written as Go writes it (keys sorted,
 * `<>&` escaped) and hashed. A field that the structure does not know is lost, so the hash then differs.
 */

const text = z.string().default('');
const whole = z.number().int().default(0);
const list = z.array(z.string()).nullable().default(null);
const attributes = z.array(z.object({ key: text, value: text })).nullish();
const value = z.object({ val: z.string().regex(/^\d{1,30}$/) });

const resources = z.object({
  id: whole,
  cpu: z.object({ units: value, attributes }).nullish(),
  memory: z.object({ size: value, attributes }).nullish(),
  storage: z.array(z.object({ name: text, size: value, attributes })).nullish(),
  gpu: z.object({ units: value, attributes }).nullish(),
  endpoints: z
    .array(z.object({ kind: whole, sequence_number: whole }))
    .nullable()
    .default(null),
});

const expose = z.object({
  port: whole,
  externalPort: whole,
  proto: text,
  service: text,
  global: z.boolean().default(false),
  hosts: list,
  httpOptions: z
    .object({
      maxBodySize: whole,
      readTimeout: whole,
      sendTimeout: whole,
      nextTries: whole,
      nextTimeout: whole,
      nextCases: list,
      proxyBufferSize: whole,
    })
    .default({
      maxBodySize: 0,
      readTimeout: 0,
      sendTimeout: 0,
      nextTries: 0,
      nextTimeout: 0,
      nextCases: null,
      proxyBufferSize: 0,
    }),
  ip: text,
  endpointSequenceNumber: whole,
});

const service = z.object({
  name: text,
  image: text,
  command: list,
  args: list,
  env: list,
  resources,
  count: whole,
  expose: z.array(expose).nullable().default(null),
  params: z
    .object({
      storage: z
        .array(z.object({ name: text, mount: text, readOnly: z.boolean().default(false) }))
        .nullable()
        .default(null),
      permissions: z.object({ read: z.array(z.string()).nullish() }).nullish(),
      tee: z.object({ type: text, attestation: z.boolean().default(false) }).nullish(),
    })
    .nullish(),
  credentials: z.object({ host: text, email: text, username: text, password: text }).nullable().default(null),
});

const manifest = z.array(z.object({ name: text, services: z.array(service).nullable().default(null) }));
export type Manifest = z.infer<typeof manifest>;
export type ManifestService = z.infer<typeof service>;

/** Null when the JSON does not decode. */
export function readManifest(json: string): Manifest | null {
  try {
    return manifest.parse(JSON.parse(json));
  } catch {
    return null;
  }
}

/** Left out by Go when they are empty; everything else is always written. */
const OMITTED_WHEN_EMPTY = new Set(['attributes', 'kind', 'proxyBufferSize', 'params', 'permissions', 'read', 'tee']);

function isEmpty(one: unknown): boolean {
  return one === null || one === undefined || one === 0 || one === '' || (Array.isArray(one) && one.length === 0);
}

function sorted(one: unknown): unknown {
  if (Array.isArray(one)) return one.map(sorted);
  if (typeof one !== 'object' || one === null) return one;
  const entries = Object.entries(one)
    .filter(([key, inner]) => !(OMITTED_WHEN_EMPTY.has(key) && isEmpty(inner)) && inner !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}

const ESCAPES: Readonly<Record<string, string>> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};

/** The text that is hashed. */
export function canonicalText(groups: Manifest): string {
  return JSON.stringify(sorted(groups)).replaceAll(/[<>&\u2028\u2029]/g, (one) => ESCAPES[one] ?? one);
}

export function manifestHash(groups: Manifest): Uint8Array {
  return createHash('sha256').update(canonicalText(groups)).digest();
}

/** What is wrong with a manifest next to the groups on chain; null: it fits. */
export function crossFault(groups: Manifest, specs: readonly GroupSpec[]): string | null {
  const fault = (what: string): string => `manifest cross-validation error: ${what}`;
  if (groups.length !== specs.length) {
    return fault(`invalid deployment group count. manifest ${groups.length}, deployment ${specs.length}`);
  }
  for (const group of groups) {
    const spec = specs.find(({ name }) => name === group.name);
    if (spec === undefined) return fault(`unknown deployment group "${group.name}"`);
    const services = group.services ?? [];
    for (const unit of spec.resources) {
      const own = services.filter(({ resources: { id } }) => id === unit.resource?.id);
      const count = own.reduce((sum, one) => sum + one.count, 0);
      if (count !== unit.count) {
        return fault(`group "${group.name}": resource ${unit.resource?.id ?? 0}: count ${count} != ${unit.count}`);
      }
      if (!own.every((one) => sameSizes(one, unit))) {
        return fault(`group "${group.name}": resource ${unit.resource?.id ?? 0} differs from the deployment's`);
      }
    }
    const unknown = services.find(({ resources: { id } }) => !spec.resources.some((unit) => unit.resource?.id === id));
    if (unknown !== undefined) return fault(`group "${group.name}": service "${unknown.name}" has no resources`);
  }
  return null;
}

function sameSizes({ resources: own }: ManifestService, { resource }: GroupSpec['resources'][number]): boolean {
  const big = (one: { readonly val: string } | undefined): bigint => BigInt(one?.val ?? '0');
  const volumes = (own.storage ?? []).map(({ name, size }) => `${name} ${size.val}`).sort();
  const asked = (resource?.storage ?? []).map(({ name, quantity }) => `${name} ${quantityOf(quantity)}`).sort();
  return (
    big(own.cpu?.units) === quantityOf(resource?.cpu?.units) &&
    big(own.memory?.size) === quantityOf(resource?.memory?.quantity) &&
    big(own.gpu?.units) === quantityOf(resource?.gpu?.units) &&
    volumes.join() === asked.join()
  );
}
