import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { microDown, microUp, nanoOf, nanoOfDecUp, parseDec, rentMicro } from '../../../src/leases/akash/amounts.ts';
import { gpuProblem } from '../../../src/leases/akash/bids.ts';
import {
  dseqOf,
  groupNameOf,
  leaseIdOf,
  orderOfGroup,
  orderOfLease,
  walletIndexOf,
} from '../../../src/leases/akash/names.ts';
import { manifestOf, sortedJson } from '../../../src/leases/akash/sdl.ts';
import { serviceOf, type ServiceSettings } from '../../../src/leases/akash/workload.ts';
import type { OrderRequest } from '../../../src/leases/market.ts';
import { workloadOf } from '../../../src/scheduler/tender.ts';
import type { PoolInput } from '../../../src/spec.ts';
import { testSpec } from '../../fakes/market-samples.ts';

const DIGEST = `vllm/vllm-openai@sha256:${'a'.repeat(64)}`;
const SETTINGS: ServiceSettings = {
  denom: 'uact',
  expose: 'port',
  tls: { certificate: '-----BEGIN C\nabc\n-----END C\n', key: 'the-tls-key' },
  auditors: ['akash1auditor'],
  defaultImage: null,
  ceilingMicroPerBlock: 1000n,
  apiKey: 'lk-secret',
};

test('amounts: deposits are rounded up, ceilings down, prices never shown too low', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 18n }), (nano) => {
      assert.ok(nanoOf(microUp(nano)) >= nano && nanoOf(microUp(nano)) < nano + 1000n);
      assert.ok(nanoOf(microDown(nano)) <= nano && nanoOf(microDown(nano)) > nano - 1000n);
    }),
  );
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 12n }), fc.integer({ min: 0, max: 999_999 }), (whole, fraction) => {
      const text = `${whole}.${String(fraction).padStart(6, '0')}`;
      const exact = whole * 1_000_000n + BigInt(fraction);
      assert.equal(parseDec(text), exact * 10n ** 12n);
      const nano = nanoOfDecUp(text);
      assert.ok(nano * 1000n >= exact && (nano - 1n) * 1000n < exact);
    }),
  );
  for (const wrong of ['', '1.', '-1', '1e3', '1.0000000000000000001', 'NaN'])
    assert.throws(() => parseDec(wrong), RangeError);
});

test('rent is rate times blocks, cut off as the chain does', () => {
  assert.equal(rentMicro('5.5', 45), 247n);
  assert.equal(rentMicro('0.000000000000000001', 1_000_000), 0n);
  assert.equal(rentMicro('3333', -5), 0n);
});

test('names lead back to their orders, numbers of deployments are JSON numbers above zero', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), (id) => {
      assert.equal(orderOfGroup(groupNameOf(id)), id);
      assert.equal(orderOfLease(leaseIdOf(id)), id);
      const dseq = dseqOf(id);
      assert.ok(dseq > 0n && dseq < 2n ** 52n && BigInt(Number(dseq)) === dseq);
      const index = walletIndexOf(id);
      assert.ok(Number.isInteger(index) && index > 0 && index < 2 ** 31);
    }),
  );
  assert.equal(orderOfGroup('westcoast'), null, 'a deployment of somebody else’s program is left alone');
  assert.notEqual(dseqOf('a'), dseqOf('b'));
});

test('vLLM on two GPUs: model, context, slots, its own key, shared memory, cached weights, region', () => {
  const service = build({
    engine: 'vllm',
    model: 'llama',
    context: 8192,
    slots: 16,
    image: DIGEST,
    region: 'us-west',
    trust: 'audited',
    hardware: {
      gpus: 2,
      gpu: [{ model: 'h100', ram: '80Gi', interface: 'sxm' }],
      cpu: 8.5,
      memory: '64Gi',
      storage: '20Gi',
    },
    container: {
      weights: 'meta-llama/Llama-3.1-8B',
      revision: 'abc',
      env: { HF_HUB_OFFLINE: '0' },
      shm: '10Gi',
      volume: { size: '200Gi', mount: '/root/.cache' },
    },
  });
  assert.ok(typeof service !== 'string');
  assert.equal(
    service.args.join(' '),
    'python3 -m vllm.entrypoints.openai.api_server --model meta-llama/Llama-3.1-8B --served-model-name llama --revision abc --host 0.0.0.0 --port 8000 --max-model-len 8192 --max-num-seqs 16 --tensor-parallel-size 2 ' +
      '--ssl-certfile /tmp/underbid-tls/cert.pem --ssl-keyfile /tmp/underbid-tls/key.pem',
  );
  assert.deepEqual(service.env, [
    'HF_HUB_OFFLINE=0',
    'TLS_CERTIFICATE=-----BEGIN C|abc|-----END C',
    'TLS_KEY=the-tls-key',
    'VLLM_API_KEY=lk-secret',
  ]);
  assert.deepEqual(service.gpu, [{ vendor: 'nvidia', model: 'h100', ram: '80Gi', interface: 'sxm' }]);
  assert.equal(service.cpuMillis, 8500);
  assert.deepEqual(
    service.volumes.map(({ name, storageClass, mount }) => [name, storageClass, mount]),
    [
      ['default', null, null],
      ['cache', 'beta3', '/root/.cache'],
      ['shm', 'ram', '/dev/shm'],
    ],
  );
  assert.deepEqual([service.attributes, service.signedBy.anyOf], [{ region: 'us-west' }, ['akash1auditor']]);
  assert.deepEqual([service.expose[0]?.port, service.expose[0]?.as], [8000, 8000]);
});

test('each engine is started with a key of its own', () => {
  const sglang = build({ engine: 'sglang', model: 'm', image: DIGEST });
  assert.ok(typeof sglang !== 'string' && sglang.args.includes('lk-secret') && sglang.args[0] === 'python3');
  const llama = build({ engine: 'llama.cpp', model: 'm', context: 1024, slots: 4, image: DIGEST });
  assert.ok(typeof llama !== 'string' && llama.args.join(' ').includes('-c 4096 -np 4'));
  assert.ok(typeof llama !== 'string' && llama.env.includes('LLAMA_API_KEY=lk-secret'));
  const unsaid = build({ engine: 'openai', model: 'm', image: DIGEST });
  assert.ok(typeof unsaid === 'string' && unsaid.includes('container.port'));
  const own = build({
    engine: 'openai',
    model: 'm',
    image: DIGEST,
    container: { port: 80, command: ['/serve'], args: ['x'], tls: true },
  });
  assert.ok(typeof own !== 'string');
  assert.deepEqual([own.args, own.expose[0]?.as], [['/serve', 'x'], 8080], 'and not by the ingress');
});

test('behind an ingress a server speaks HTTP and has no certificate; a pool may choose that for itself', () => {
  const pool = { engine: 'vllm', model: 'm', image: DIGEST } as const;
  const usual = build(pool, { expose: 'ingress' });
  const chosen = build({ ...pool, container: { expose: 'ingress' } });
  for (const ingress of [usual, chosen]) {
    assert.ok(typeof ingress !== 'string');
    assert.deepEqual([ingress.expose[0]?.as, ingress.command], [80, []]);
    assert.deepEqual(ingress.env, ['VLLM_API_KEY=lk-secret']);
  }
  const direct = build({ ...pool, container: { expose: 'ip' } }, { expose: 'ingress' });
  assert.ok(typeof direct !== 'string' && direct.expose[0]?.ip === 'address');
  assert.ok(direct.env.includes('TLS_KEY=the-tls-key'));
});

test('the key is in the manifest once for each place, and nowhere else', () => {
  const service = build({ engine: 'vllm', model: 'm', image: DIGEST });
  assert.ok(typeof service !== 'string');
  const manifest = sortedJson(manifestOf(service));
  for (const secret of ['lk-secret', 'the-tls-key']) assert.equal(manifest.split(secret).length, 2);
});

test('an offer of another GPU, of less memory or of another bus is not taken', () => {
  const hardware = testSpec({
    hardware: {
      gpus: 1,
      gpu: [
        { model: 'a100', ram: '80Gi' },
        { model: 'h100', interface: 'sxm' },
      ],
    },
  }).hardware;
  for (const fits of [
    'vendor/nvidia/model/a100/ram/80Gi',
    'vendor/nvidia/model/a100/ram/80Gi/interface/pcie',
    'vendor/nvidia/model/h100/interface/sxm',
  ]) {
    assert.equal(gpuProblem(hardware, [fits]), null, fits);
  }
  for (const wrong of [
    'vendor/nvidia/model/a100',
    'vendor/nvidia/model/a100/ram/40Gi',
    'vendor/nvidia/model/h100/interface/pcie',
    'vendor/nvidia/model/t4',
    'vendor/amd/model/a100/ram/80Gi',
    'vendor/nvidia/model/*',
  ]) {
    assert.match(gpuProblem(hardware, [wrong]) ?? '', /not asked for/, wrong);
  }
  assert.equal(gpuProblem(testSpec().hardware, []), null);
});

function build(input: Partial<PoolInput>, change: Partial<ServiceSettings> = {}): ReturnType<typeof serviceOf> {
  const spec = testSpec(input);
  const { hardware, trust, region } = spec;
  const order: OrderRequest = {
    ...{ id: 'o1', pool: spec.id, hardware, trust, region, ceilingNanoUsdPerBlock: 1n },
    workload: workloadOf(spec),
  };
  return serviceOf(order, { ...SETTINGS, ...change });
}
