import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { inOneLine, startOf, type Start, type StartGiven } from '../../../src/leases/akash/engines.ts';
import { isPair } from '../../../src/leases/akash/devnet/certificate.ts';
import { hideSecrets, leaseSecretsOf } from '../../../src/leases/akash/lease-secrets.ts';
import { leaseTlsKey, newLeaseTls } from '../../../src/leases/akash/lease-tls.ts';
import {
  fillManifest,
  KEY_MARK,
  maskManifest,
  secretsOf,
  TLS_KEY_MARK,
} from '../../../src/leases/akash/manifest-secrets.ts';
import { sortedJson } from '../../../src/leases/akash/sdl.ts';
import { workloadOf } from '../../../src/scheduler/tender.ts';
import type { PoolInput } from '../../../src/spec.ts';
import { testSpec } from '../../fakes/market-samples.ts';

const HASH = (text: string): string => createHash('sha256').update(text).digest('hex');
const FILE = 'https://huggingface.co/org/m/resolve/abc/m.gguf';

test('each engine is given its weights where it looks for them, with their revision and their token', () => {
  const weights = { source: 'org/m', revision: 'abc', cache: 'persistent' as const, cache_size: '9Gi' };
  for (const engine of ['vllm', 'sglang'] as const) {
    const { args, env } = start({ engine, weights: { ...weights, secret: 'env:T', visible_to: 'any' } });
    assert.match(args.join(' '), /^--model(-path)? org\/m .* --revision abc /);
    assert.deepEqual(env.slice(0, 2), ['HF_HOME=/weights/huggingface', 'HF_TOKEN=the-token']);
  }
  const tei = start({ engine: 'openai', container: { port: 80, args: ['x'] }, weights });
  assert.deepEqual(tei.env.slice(0, 2), [
    'HF_HOME=/weights/huggingface',
    'HUGGINGFACE_HUB_CACHE=/weights/huggingface/hub',
  ]);
  const plain = start({ engine: 'llama.cpp', weights: { source: 'org/m-GGUF:Q4_K_M' } });
  assert.deepEqual([plain.command, plain.args.slice(0, 2)], [[], ['-hf', 'org/m-GGUF:Q4_K_M']]);
  assert.ok(!plain.env.some((one) => one.startsWith('HF_')));
});

test('what an engine cannot do with weights is refused, not left out', () => {
  const problem = (input: Partial<PoolInput>): string => {
    const found = started(input);
    return typeof found === 'string' ? found : 'it was taken';
  };
  const sha256 = { 'm.gguf': 'a'.repeat(64) };
  assert.match(problem({ engine: 'llama.cpp', weights: { source: 'org/m', revision: 'a' } }), /pins no revision/);
  assert.match(problem({ engine: 'llama.cpp', weights: { source: 'org/m', sha256 } }), /name the file/);
  assert.match(problem({ engine: 'vllm', weights: { source: FILE } }), /only llama\.cpp/);
  assert.match(problem({ engine: 'llama.cpp', weights: { source: 'http://x/m.gguf' } }), /https:/);
  assert.match(problem({ engine: 'llama.cpp', weights: { source: FILE, revision: 'a' } }), /names the revision itself/);
  const tei = { engine: 'openai' as const, container: { port: 80 } };
  assert.match(problem({ ...tei, weights: { source: 'org/m', sha256 } }), /cannot be checked/);
});

test('a file is fetched once, with the token, checked, and served only when its hash is right', (t) => {
  const { run, folder, curled } = shell(t);
  const source = { source: FILE, secret: 'env:T', visible_to: 'any' as const };
  const right = start({ engine: 'llama.cpp', weights: { ...source, sha256: { 'm.gguf': HASH('the weights') } } });
  const first = run(right, 'the weights');
  assert.deepEqual([first.status, first.served], [0, `-m ${folder}/m.gguf --alias`]);
  assert.match(curled(), /Authorization: Bearer the-token/);
  assert.equal(curled().split('\n').filter(Boolean).length, 1);
  assert.equal(run(right, 'never fetched again').status, 0);
  assert.equal(curled().split('\n').filter(Boolean).length, 1);

  const wrong = start({ engine: 'llama.cpp', weights: { ...source, sha256: { 'm.gguf': HASH('other weights') } } });
  const refused = run(wrong, 'the weights');
  assert.notEqual(refused.status, 0);
  assert.equal(refused.served, '');
  assert.ok(!existsSync(join(folder, 'm.gguf')), 'and the next start fetches it anew');
  const open = start({ engine: 'llama.cpp', weights: { source: FILE } });
  assert.equal(run(open, 'whatever').status, 0, 'without hashes nothing is checked');
  assert.doesNotMatch(curled().split('\n').at(-2) ?? '', /Authorization/);
});

test('the very snapshot that vLLM will load is checked before it starts', (t) => {
  const { run } = shell(t);
  const weights = { source: 'org/m', revision: 'abc' };
  const right = start({ engine: 'vllm', weights: { ...weights, sha256: { 'model.safetensors': HASH('snapshot') } } });
  assert.equal(right.command[2]?.includes('snapshot_download'), true);
  assert.deepEqual(
    [run(right, 'snapshot').status, run(right, 'snapshot').served],
    [0, '-m vllm.entrypoints.openai.api_server'],
  );
  const wrong = run(right, 'something else');
  assert.deepEqual([wrong.status === 0, wrong.served], [false, '']);
});

test('secrets leave a manifest and come back into it, whatever characters they have', () => {
  const { weights } = testSpec({ weights: { source: 'o/m', secret: 'env:T', visible_to: 'any' } });
  for (const token of ['hf_"quoted"', 'back\\slash\\es', '<a&b>-token', '$& $1 dollars']) {
    const keys = leaseSecretsOf((name) => `lk-of-${name}`, 'lease');
    const manifest = sortedJson({ env: [`HF_TOKEN=${token}`, `KEY=lk-of-lease`, `T=${keys.tlsKey}`], other: 'o/m' });
    const secrets = secretsOf(keys, { weights: weights ?? null, registry: null }, () => token);
    const masked = maskManifest(manifest, secrets);
    assert.ok(masked.includes(KEY_MARK) && masked.includes(TLS_KEY_MARK) && masked.includes('{{secret env:T}}'));
    assert.ok(!masked.includes(sortedJson(token).slice(1, -1)));
    assert.doesNotMatch(masked, /PRIVATE KEY/);
    assert.equal(fillManifest(masked, secrets), manifest);
  }
});

test('the start script puts certificate and key into files that are the server’s alone, and the key out of its environment', (t) => {
  const { run, folder } = shell(t);
  const tls = newLeaseTls('the secret of a lease', Date.now());
  const lines = { certificate: inOneLine(tls.certificate), key: inOneLine(tls.key) };
  const weights = { source: FILE, sha256: { 'm.gguf': HASH('the weights') } };
  for (const input of [{ engine: 'vllm' as const }, { engine: 'llama.cpp' as const, weights }]) {
    const begun = start(input, lines);
    const ran = run(begun, 'the weights');
    assert.equal(ran.status, 0);
    assert.match(ran.served, input.engine === 'vllm' ? /^-m vllm/ : /^-m .*m\.gguf/);
    assert.match(ran.all, /--ssl-cert-?file \S+cert\.pem --ssl-key-?file \S+key\.pem/);
    const [cert, key] = ['cert.pem', 'key.pem'].map((name) => readFileSync(join(folder, name), 'utf8'));
    assert.ok(isPair(cert ?? '', key ?? ''), 'what OpenSSL reads from them belongs together');
    assert.equal(cert?.trim(), tls.certificate.trim());
    assert.equal(statSync(join(folder, 'key.pem')).mode & 0o077, 0);
    assert.doesNotMatch(ran.environment, /TLS_KEY|PRIVATE/);
    rmSync(join(folder, 'cert.pem'));
    rmSync(join(folder, 'key.pem'));
  }
  const sglang = start({ engine: 'sglang' }, lines);
  assert.match(sglang.args.join(' '), /launch_server .*--ssl-ca-certs \S+cert\.pem$/);
});

test('an image that is not known to speak TLS is put behind an ingress, or says that it does', () => {
  const lines = { certificate: 'c', key: 'k' };
  const container = { port: 80, args: ['x'] };
  for (const given of [container, { ...container, tls: true }, { ...container, command: ['/serve'] }]) {
    const refused = started({ engine: 'openai', container: given }, lines);
    assert.ok(typeof refused === 'string' && refused.includes('container.expose: ingress'));
  }
  const told = start({ engine: 'openai', container: { ...container, command: ['/serve'], tls: true } }, lines);
  assert.deepEqual([told.command.at(-1), told.args], ['start', ['/serve', 'x']]);
  assert.deepEqual(told.env, ['TLS_CERTIFICATE=c', 'TLS_KEY=k', 'API_KEY=lk']);
});

test('the key of a certificate follows from the secret, is another for each lease, and is hidden in what is printed', () => {
  const leaseKey = (name: string): string => `secret of ${name}`;
  const [one, two] = ['lease-1', 'lease-2'].map((id) => leaseSecretsOf(leaseKey, id));
  assert.ok(one && two && one.tlsKey !== two.tlsKey);
  assert.deepEqual(leaseSecretsOf(leaseKey, 'lease-1'), one);
  const { certificate, key } = newLeaseTls('x', Date.now());
  assert.equal(leaseTlsKey('x'), key);
  assert.ok(isPair(certificate, leaseTlsKey('x')) && !isPair(certificate, leaseTlsKey('y')));
  const printed = `env: TLS_KEY=${one.tlsKey} API_KEY=${one.apiKey}\n${one.tlsKey.replaceAll('|', '\n')}`;
  const shown = hideSecrets(printed, one);
  for (const line of one.tlsKey.split('|').slice(1, -1)) assert.ok(!shown.includes(line));
  assert.ok(!shown.includes(one.apiKey));
});

function started(input: Partial<PoolInput>, tls: StartGiven['tls'] = null): Start | string {
  const workload = workloadOf(testSpec(input));
  const token = workload.weights?.secret ? 'the-token' : null;
  return startOf(workload, { gpus: 1, apiKey: 'lk', token, tls });
}

function start(input: Partial<PoolInput>, tls: StartGiven['tls'] = null): Start {
  const found = started(input, tls);
  assert.ok(typeof found !== 'string', typeof found === 'string' ? found : '');
  return found;
}

interface Ran {
  readonly status: number | null;
  /** The first words that the server was started with. */
  readonly served: string;
  /** All of them. */
  readonly all: string;
  /** As the server had it. */
  readonly environment: string;
}

/** The container's shell, with a curl, a python3 and a server of our own in its PATH. */
function shell(t: TestContext): { run: (start: Start, content: string) => Ran; folder: string; curled: () => string } {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-weights-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const program = (name: string, script: string): void => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  };
  const log = join(folder, 'curled');
  writeFileSync(log, '');
  program('curl', `echo "$@" >> ${log}; while [ "$1" != -o ]; do shift; done; printf %s "$CONTENT" > "$2"`);
  program(
    'python3',
    `if [ "$1" = -c ]; then printf %s "$CONTENT" > ${folder}/model.safetensors; echo ${folder}; else echo "$1 $2" > ${folder}/served; echo "$@" > ${folder}/all; env > ${folder}/environment; fi`,
  );
  program('llama-server', `echo "$1 $2 $3" > ${folder}/served; echo "$@" > ${folder}/all; env > ${folder}/environment`);
  const run = ({ command, args, env }: Start, content: string): Ran => {
    rmSync(join(folder, 'served'), { force: true });
    const [program = '', ...words] = [...command, ...args].map((word) =>
      word
        .replaceAll('/tmp/underbid-tls', folder)
        .replace('/tmp/weights', folder)
        .replace('/app/llama-server', 'llama-server'),
    );
    const variables = Object.fromEntries(env.map((one) => one.split(/=(.*)/s).slice(0, 2) as [string, string]));
    const path = `${folder}:${process.env['PATH'] ?? ''}`;
    const { status } = spawnSync(program, words, { env: { PATH: path, ...variables, CONTENT: content } });
    const read = (name: string): string =>
      existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8').trim() : '';
    return { status, served: read('served'), all: read('all'), environment: read('environment') };
  };
  return { run, folder, curled: () => readFileSync(log, 'utf8') };
}
