import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parse } from 'yaml';
import { cacheFolder } from '../../bench/cache-folder.ts';
import { startChild } from '../../bench/child.ts';
import { chatRequest, POOL } from '../../bench/overhead/chat.ts';
import { parseSettings } from '../../bench/overhead/measuring.ts';
import { summarise, type Measure } from '../../bench/overhead/summary.ts';
import { OURS, RIVALS, type Launch, type Rival } from '../../bench/rivals/catalogue.ts';
import { LeftOut, entryName, installRival, whyNotInstalled, whyNotStarted } from '../../bench/rivals/installation.ts';
import { formatRivals, ratiosToOurs } from '../../bench/rivals/report.ts';

void test('every package of a rival has an exact version', () => {
  for (const rival of RIVALS) {
    if (rival.source.registry === 'pypi') {
      const pins = readPins(`${rival.name}.txt`).trimEnd().split('\n');
      assert.deepEqual(
        pins.filter((line) => !/^[\w.-]+==[\w.]+$/.test(line)),
        [],
      );
      assert.ok(pins.includes(`${rival.name}==${rival.version}`), rival.name);
      assert.match(rival.source.requirement, new RegExp(`^${rival.name}(\\[proxy\\])?==${rival.version}$`));
    } else {
      const { packages } = JSON.parse(readPins(`${rival.name}.json`)) as {
        packages: Record<string, { version?: string; integrity?: string }>;
      };
      const { '': _, ...fetched } = packages;
      assert.ok(Object.values(fetched).every(({ version, integrity }) => version !== undefined && integrity));
      assert.equal(fetched['node_modules/@portkey-ai/gateway']?.version, rival.version);
      assert.equal(fetched['node_modules/@hono/node-server']?.version, '1.12.2');
    }
  }
});

void test('LiteLLM gets one master key, the mock as its one model, the prices that ours charges', () => {
  const launch = launchOf('litellm');
  assert.deepEqual(parse(launch.config ?? ''), {
    model_list: [
      {
        model_name: POOL,
        litellm_params: {
          model: 'openai/mock',
          api_base: 'http://127.0.0.1:7001/v1',
          api_key: 'sk-mock',
          input_cost_per_token: 20e-9,
          output_cost_per_token: 50e-9,
        },
      },
    ],
    general_settings: { master_key: 'sk-ub-0' },
    litellm_settings: { request_timeout: 600, set_verbose: false, json_logs: true },
  });
  assert.equal(launch.command, join('venv', 'bin', 'python'));
  assert.match(launch.args.join(' '), /--config settings.yaml --host 127.0.0.1 --port 7000 --num_workers 1/);
  assert.equal(launch.env['LITELLM_MODE'], 'PRODUCTION');
  assert.equal(launch.env['LITELLM_LOCAL_MODEL_COST_MAP'], 'True');
});

void test('Portkey is told in every request where to go, and listens to loopback only', async (t) => {
  const launch = launchOf('portkey', new URL('../../bench/rivals/loopback.ts', import.meta.url).href);
  const request = chatRequest({ port: 7000, key: 'sk-ub-0', stream: true, headers: launch.headers ?? {} }).toString();
  const [head = '', body = ''] = request.split('\r\n\r\n');
  assert.match(head, /\r\nx-portkey-custom-host: http:\/\/127\.0\.0\.1:7001\/v1\r\n/);
  assert.match(head, /\r\nx-portkey-provider: openai\r\n/);
  assert.match(head, new RegExp(`\r\nContent-Length: ${Buffer.byteLength(body)}$`));
  const script =
    "const server = require('node:http').createServer().listen(0, '0.0.0.0', () => console.log(server.address().address))";
  const child = await startChild({
    file: '-e',
    args: [script],
    env: launch.env,
    folder: temporary(t),
    ready: /\d\n?$/,
    signal: t.signal,
  });
  t.after(() => child.stop());
  assert.equal(child.line, '127.0.0.1');
});

void test('the routers know the mock, and only the one that checks clients is given the key', () => {
  for (const name of ['vllm-router', 'sglang-router']) {
    const line = launchOf(name).args.join(' ');
    assert.match(line, /--worker-urls http:\/\/127\.0\.0\.1:7001( |$)/, name);
    assert.match(line, /--host 127\.0\.0\.1 --port 7000 --prometheus-host 127\.0\.0\.1 --prometheus-port 7002/, name);
    assert.equal(line.includes('--api-key sk-ub-0'), name === 'sglang-router', name);
  }
});

void test('figures are multiples of ours in the same scenario, and nothing is said without ours', () => {
  const measures = [
    measure('litellm', { p50Us: 520, rssMib: 400, cpuUs: 90_000 }),
    measure('direct', { p50Us: 20, rssMib: 0, cpuUs: 0 }),
    measure('underbid', { p50Us: 120, rssMib: 200, cpuUs: 30_000 }),
  ];
  const rows = summarise(measures, ['direct', 'underbid', 'litellm']);
  assert.deepEqual(
    rows.map(({ system, rss_mib }) => [system, rss_mib]),
    [
      ['direct', 0],
      ['underbid', 200],
      ['litellm', 400],
    ],
  );
  assert.deepEqual(ratiosToOurs(rows), [
    { scenario: 'json-c1', system: 'litellm', requests_per_s: 1, added_p50: 5, added_p99: 5, cpu: 3, rss: 2 },
  ]);
  assert.deepEqual(ratiosToOurs(rows.filter(({ system }) => system !== 'underbid')), []);
});

void test('the report says who accounts for what, and why one is missing', () => {
  const rows = summarise([measure('direct', {}), measure('underbid', { p50Us: 120 }), measure('litellm', {})]);
  const [, ours] = OURS;
  const absent = [{ name: 'portkey', version: '1.15.2', why: 'the disk is full' }];
  const report = formatRivals(rows, [ours, rivalOf('litellm')], absent);
  assert.match(report, /^ {2}underbid: checks key, .*; accounts for each answer held .* ledger/m);
  assert.match(report, /^ {2}litellm 1\.106\.12: checks one master key; accounts for .* does not keep$/m);
  assert.match(report, /^left out: portkey 1\.15\.2: the disk is full$/m);
  // As fast as direct: nothing was added, and 0 is no multiple.
  assert.match(report, /^json-c1 +litellm \/ underbid +1\.00x +- /m);
});

void test('an installation that failed has its reason in one line', () => {
  const offline = `WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'
ERROR: No matching distribution found for litellm==1.106.12`;
  const unreachable = 'it is not in the cache, and the package registry could not be reached';
  assert.equal(whyNotInstalled(offline, false), unreachable);
  assert.equal(whyNotInstalled('npm error code ECONNREFUSED\nnpm error errno ECONNREFUSED', false), unreachable);
  assert.equal(whyNotInstalled('', true), 'it is not in the cache, and fetching it took too long');
  assert.equal(whyNotInstalled('OSError: [Errno 28] No space left on device', false), 'the disk is full');
  const missing = 'Looking\nERROR: No matching distribution found for litellm-proxy==1.110.2\nWARNING: a newer pip';
  assert.match(whyNotInstalled(missing, false), /^it could not be installed: ERROR: No matching .*1\.110\.2$/);
  assert.equal(whyNotInstalled('', false), 'it could not be installed: no reason was given');
});

void test('a start that failed has its reason in one line', () => {
  const message = `start-server.js did not start: ended with 1
Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'hono'
    at packageResolve

Node.js v24.21.0
`;
  assert.equal(
    whyNotStarted(message),
    "it did not start (ended with 1): Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'hono'",
  );
  assert.equal(whyNotStarted('litellm did not start: not ready in time\n'), 'it did not start (not ready in time)');
});

void test('what is in the cache is taken from there, and half of an installation is not', async (t) => {
  const cache = temporary(t);
  const rival = rivalOf('portkey');
  const folder = join(cache, 'rivals', entryName(rival));
  mkdirSync(folder, { recursive: true });
  const said: string[] = [];
  const env = {
    PATH: process.env['PATH'],
    npm_config_registry: 'http://127.0.0.1:9',
    npm_config_cache: join(cache, 'npm'),
  };
  const options = { cache, env, signal: t.signal, say: (line: string) => void said.push(line) };
  // Nothing listens on port 9: this machine is off the network.
  await assert.rejects(installRival(rival, options), (error) => {
    assert.ok(error instanceof LeftOut);
    assert.equal(error.message, 'it is not in the cache, and the package registry could not be reached');
    return true;
  });
  assert.match(said[0] ?? '', /^fetching portkey 1\.15\.2 .* about 25 MB/);
  assert.deepEqual(readdirSync(join(cache, 'rivals')), [entryName(rival)], 'nothing half done is left');
  writeFileSync(join(folder, 'installed'), rival.version);
  assert.equal(await installRival(rival, options), folder);
  assert.equal(said.length, 1);
  assert.ok(!existsSync(join(folder, 'package.json')));
});

void test('the cache is the one that the gateway uses', () => {
  assert.equal(cacheFolder({ UNDERBID_CACHE: 'a', XDG_CACHE_HOME: 'b' }), 'a');
  assert.equal(cacheFolder({ XDG_CACHE_HOME: 'b' }), join('b', 'underbid'));
  assert.match(cacheFolder({}), /\.cache.underbid$/);
});

void test('systems are chosen by name, and direct is always among them', () => {
  const names = ['direct', 'underbid', 'litellm'];
  assert.deepEqual(parseSettings(['--systems', 'litellm', '--quick'], names).systems, ['direct', 'litellm']);
  assert.deepEqual(parseSettings([], names).systems, names);
  assert.throws(() => parseSettings(['--systems', 'bifrost'], names), /no system is called bifrost/);
});

function rivalOf(name: string): Rival {
  const rival = RIVALS.find((one) => one.name === name);
  assert.ok(rival);
  return rival;
}

function launchOf(name: string, loopback = 'file:///loopback.ts'): Launch {
  const place = { installed: 'venv', port: 7000, sidePort: 7002, mockPort: 7001, key: 'sk-ub-0', loopback };
  return rivalOf(name).launch({ ...place, configPath: 'settings.yaml' });
}

function measure(system: string, figures: Partial<Measure>): Measure {
  const { p50Us = 20 } = figures;
  return {
    system,
    scenario: 'json-c1',
    round: 0,
    p50Us,
    p99Us: 2 * p50Us,
    requests: 100,
    requestsPerS: 50,
    seconds: 2,
    answered: 100,
    failures: 0,
    firstFailure: undefined,
    cpuUs: 5000,
    mainThreadCpuUs: 4000,
    clientCpuUs: 1_000_000,
    rssMib: 80,
    ...figures,
  };
}

function readPins(name: string): string {
  return readFileSync(new URL(`../../bench/rivals/pins/${name}`, import.meta.url), 'utf8');
}

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-test-rivals-'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}
