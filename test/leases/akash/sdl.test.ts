import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { generateManifest, generateManifestVersion, manifestToSortedJSON } from '@akashnetwork/chain-sdk';
import fc from 'fast-check';
import { parse } from 'yaml';
import {
  groupSpecOf,
  gpuKey,
  HTTP_DEFAULTS,
  manifestOf,
  sortedJson,
  versionOf,
  type Expose,
  type ServiceSpec,
} from '../../../src/leases/akash/sdl.ts';
import { parseSize } from '../../../src/spec.ts';
import { sdlOf } from './sdl-of.ts';

const FIXTURES = new URL('../../fixtures/akash/', import.meta.url);
const VECTORS = [
  'v2.0-gpu-basic',
  'v2.0-http-options',
  'v2.0-persistent-storage',
  'v2.0-simple',
  'v2.0-storage-classes',
  'v2.1-credentials',
];

for (const name of VECTORS) {
  test(`makes the manifest and the group of ${name} as Akash's own code does`, () => {
    const read = (file: string): string => readFileSync(new URL(`${name}/${file}`, FIXTURES), 'utf8');
    const spec = serviceOfSdl(parse(read('sdl.yaml')) as Sdl);
    // The very text: also the order of the fields, and null where Go writes null.
    assert.equal(JSON.stringify(manifestOf(spec)), JSON.stringify(JSON.parse(read('manifest.json'))));
    assert.equal(JSON.stringify([groupSpecOf(spec)]), JSON.stringify(JSON.parse(read('group-specs.json'))));
  });
}

test('the version of any service is the one that chain-sdk computes', async () => {
  await fc.assert(
    fc.asyncProperty(services(), async (spec) => {
      const sdl = sdlOf(spec) as unknown as Parameters<typeof generateManifest>[0];
      const theirs = generateManifest(sdl);
      assert.ok(theirs.ok, JSON.stringify(theirs.value));
      const text = sortedJson(manifestOf(spec));
      assert.equal(text, manifestToSortedJSON(theirs.value.groups));
      assert.deepEqual(Buffer.from(versionOf(text)), Buffer.from(await generateManifestVersion(theirs.value.groups)));
    }),
    { numRuns: 60 },
  );
});

test('keys are sorted at every depth, the order of lists is kept', () => {
  assert.equal(
    sortedJson({ b: [{ d: 1, c: 2 }, 1], B: null, a: { z: 'x', y: [] } }),
    '{"B":null,"a":{"y":[],"z":"x"},"b":[{"c":2,"d":1},1]}',
  );
});

test('characters are escaped that Go escapes, and no others', () => {
  assert.equal(sortedJson('<a href="x">&\u2028\u2029é/'), '"\\u003ca href=\\"x\\"\\u003e\\u0026\\u2028\\u2029é/"');
});

test('empty lists of a service are null, an empty list of attributes is left out', () => {
  const spec = { ...simple(), command: [], args: [], env: [] };
  const text = sortedJson(manifestOf(spec));
  for (const name of ['command', 'args', 'env', 'hosts', 'credentials'])
    assert.ok(text.includes(`"${name}":null`), name);
  assert.ok(!text.includes('"attributes":[]'));
  assert.ok(text.includes('"sequence_number":0'), 'and zeros stay where Go keeps them');
  assert.ok(!text.includes('"kind":0'), 'but not where it drops them');
});

test('any GPU of several is one attribute each, sorted, with its memory and bus', () => {
  const gpu = [
    { vendor: 'nvidia', model: 'h100', ram: '80Gi', interface: 'sxm' },
    { vendor: 'nvidia', model: 'a100', ram: '80Gi', interface: null },
  ];
  const [unit] = groupSpecOf({ ...simple(), gpus: 2, gpu }).resources;
  assert.deepEqual(unit?.resource.gpu, {
    units: { val: '2' },
    attributes: [
      { key: 'vendor/nvidia/model/a100/ram/80Gi', value: 'true' },
      { key: 'vendor/nvidia/model/h100/ram/80Gi/interface/sxm', value: 'true' },
    ],
  });
});

test('port 80 goes through the ingress, any other is a port of its own', () => {
  const endpoints = (as: number): unknown => {
    const [unit] = groupSpecOf({ ...simple(), expose: [{ port: 8000, as, http: HTTP_DEFAULTS }] }).resources;
    return unit?.resource.endpoints;
  };
  assert.deepEqual(endpoints(80), [{ sequence_number: 0 }]);
  assert.deepEqual(endpoints(8000), [{ kind: 1, sequence_number: 0 }]);
});

function simple(): ServiceSpec {
  return serviceOfSdl(parse(readFileSync(new URL('v2.0-simple/sdl.yaml', FIXTURES), 'utf8')) as Sdl);
}

/** An SDL of one service, as the vectors have it. */
interface Sdl {
  deployment: Record<string, Record<string, { count: number }>>;
  services: Record<
    string,
    {
      image: string;
      command?: string[];
      args?: string[];
      env?: string[];
      credentials?: { host: string; email: string; username: string; password: string };
      expose: SdlExpose[];
      params?: { storage?: Record<string, { mount: string }> };
    }
  >;
  profiles: {
    compute: Record<
      string,
      {
        resources: {
          cpu: { units: number | string };
          memory: { size: string };
          storage: SdlVolume | SdlVolume[];
          gpu?: {
            units: number;
            attributes: { vendor: Record<string, { model: string; ram?: string; interface?: string }[]> };
          };
        };
      }
    >;
    placement: Record<
      string,
      {
        attributes?: Record<string, string>;
        signedBy?: { allOf?: string[]; anyOf?: string[] };
        pricing: Record<string, { denom: string; amount: number }>;
      }
    >;
  };
}

interface SdlExpose {
  port: number;
  as?: number;
  proto?: string;
  accept?: string[];
  http_options?: Record<string, number | string[]>;
}

interface SdlVolume {
  name?: string;
  size: string;
  attributes?: { class?: string; persistent?: boolean };
}

function only<T>(record: Record<string, T>): [string, T] {
  const [entry] = Object.entries(record);
  assert.ok(entry);
  return entry;
}

function serviceOfSdl(sdl: Sdl): ServiceSpec {
  const [name, service] = only(sdl.services);
  const [, { resources }] = only(sdl.profiles.compute);
  const [group, placement] = only(sdl.profiles.placement);
  const [, price] = only(placement.pricing);
  const cpu = String(resources.cpu.units);
  return {
    group,
    name,
    image: service.image,
    command: service.command ?? [],
    args: service.args ?? [],
    env: service.env ?? [],
    credentials: service.credentials ?? null,
    cpuMillis: cpu.endsWith('m') ? Number(cpu.slice(0, -1)) : Number(cpu) * 1000,
    memoryBytes: parseSize(resources.memory.size),
    gpus: resources.gpu?.units ?? 0,
    gpu: Object.entries(resources.gpu?.attributes.vendor ?? {}).flatMap(([vendor, models]) =>
      models.map(({ model, ram = null, interface: bus = null }) => ({ vendor, model, ram, interface: bus })),
    ),
    volumes: [resources.storage].flat().map((volume) => ({
      name: volume.name ?? 'default',
      bytes: parseSize(volume.size),
      storageClass: volume.attributes?.class ?? null,
      mount: service.params?.storage?.[volume.name ?? 'default']?.mount ?? null,
    })),
    count: only(only(sdl.deployment)[1])[1].count,
    expose: service.expose.map(exposeOfSdl),
    signedBy: { allOf: placement.signedBy?.allOf ?? [], anyOf: placement.signedBy?.anyOf ?? [] },
    attributes: placement.attributes ?? {},
    price: { denom: price.denom, amount: BigInt(price.amount) },
  };
}

function exposeOfSdl({ port, as = 0, proto, accept, http_options: given }: SdlExpose): Expose {
  const http = given ?? {};
  const number = (key: string, otherwise: number): number => Number(http[key] ?? otherwise);
  return {
    port,
    as,
    ...(proto === undefined ? {} : { proto: proto.toUpperCase() as 'TCP' | 'UDP' }),
    ...(accept === undefined ? {} : { hosts: accept }),
    http: {
      maxBodySize: number('max_body_size', 1_048_576),
      readTimeoutMs: number('read_timeout', 60_000),
      sendTimeoutMs: number('send_timeout', 60_000),
      nextTries: number('next_tries', 3),
      nextTimeoutMs: number('next_timeout', 0),
      nextCases: (http['next_cases'] as string[] | undefined) ?? ['error', 'timeout'],
    },
  };
}

function services(): fc.Arbitrary<ServiceSpec> {
  // Go escapes the two line separators, as we do (tested above); chain-sdk forgets them.
  const word = fc
    .string({ minLength: 1, maxLength: 20, unit: 'grapheme' })
    .filter((text) => !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(text));
  const gpu = fc.record({
    vendor: fc.constant('nvidia'),
    model: fc.constantFrom('h100', 'a100', 'rtx4090'),
    ram: fc.constantFrom(null, '80Gi', '24Gi'),
    interface: fc.constantFrom(null, 'pcie', 'sxm'),
  });
  const kib = fc.integer({ min: 1, max: 10_000_000 }).map((count) => count * 1024);
  return fc
    .record({
      gpus: fc.integer({ min: 0, max: 8 }),
      gpu: fc.uniqueArray(gpu, { minLength: 1, maxLength: 3, selector: ({ model }) => model }),
      command: fc.array(word, { maxLength: 3 }),
      args: fc.array(word, { maxLength: 5 }),
      env: fc.array(
        word.map((value) => `NAME=${value}`),
        { maxLength: 3 },
      ),
      cpuMillis: fc.integer({ min: 10, max: 384_000 }),
      memoryBytes: kib,
      port: fc.integer({ min: 1, max: 65_535 }),
      as: fc.constantFrom(80, 8000, 30_000),
      amount: fc.bigInt({ min: 1n, max: 10_000_000n }),
      shm: fc.option(kib),
      cache: fc.option(kib),
      region: fc.option(fc.constantFrom('us-west', 'eu')),
      ip: fc.option(fc.constant('address')),
      credentials: fc.option(
        fc.record({
          host: fc.constant('ghcr.io'),
          email: fc.constant('a@b.example'),
          username: fc.constant('ann'),
          password: word.map((text) => `${text}-123456`),
        }),
      ),
    })
    .map(({ gpus, gpu: models, port, as, amount, shm, cache, region, ip, ...rest }) => ({
      group: 'underbid-order',
      name: 'server',
      image: 'vllm/vllm-openai@sha256:0000',
      ...rest,
      gpus,
      // chain-sdk keeps their order, Akash's Go code sorts them.
      gpu: gpus === 0 ? [] : [...models].sort((a, b) => (gpuKey(a) < gpuKey(b) ? -1 : 1)),
      volumes: [
        { name: 'default', bytes: 1024, storageClass: null, mount: null },
        ...(cache === null ? [] : [{ name: 'cache', bytes: cache, storageClass: 'beta3', mount: '/root/.cache' }]),
        ...(shm === null ? [] : [{ name: 'shm', bytes: shm, storageClass: 'ram', mount: '/dev/shm' }]),
      ],
      expose: [{ port, as, http: HTTP_DEFAULTS, ...(ip === null ? {} : { ip }) }],
      signedBy: { allOf: [], anyOf: region === null ? [] : ['akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63'] },
      attributes: region === null ? {} : { region },
      price: { denom: 'uact', amount },
    }));
}
