import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { stringify } from 'yaml';
import { describeSettings } from '../src/config/describe.ts';
import { settingsHelp } from '../src/config/help.ts';
import { configJsonSchema } from '../src/config/json-schema.ts';
import { loadSettings, type Settings } from '../src/config.ts';
import { AppError } from '../src/errors.ts';
import { askingPrice } from '../src/leases/local/auction.ts';
import { parsePool, type PoolInput } from '../src/spec.ts';
import { PRICE_MAX, formatPricePerMillion, formatUsd, perBlockFromPerHour } from '../src/units.ts';

void test('without a file there is one pool, and an embedded market whose providers can and cannot meet its ceiling', (t) => {
  const { load, cwd } = setup(t);
  const settings = load();
  assert.deepEqual(
    [settings.host, settings.port, settings.configFile, settings.adminKey],
    ['127.0.0.1', 8080, null, null],
  );
  assert.equal(settings.dataDir, join(cwd, '.underbid'));
  assert.equal(settings.limits.bodyBytes, 20_000_000);
  const [pool, ...others] = settings.pools;
  assert.equal(others.length, 0);
  assert.equal(pool?.id, 'smollm2-135m');
  assert.equal(pool.ceilingNanoUsdPerHour, 100_000_000n);
  assert.deepEqual([pool.replicasMin, pool.replicasMax, pool.idleMs, pool.runwayMs], [0, 2, 120_000, 600_000]);
  const local = settings.markets.local;
  assert.equal(settings.markets.owned, null);
  assert.deepEqual([local?.blockMs, local?.takeFeeBp, local?.treasuryNanoUsd], [6000, 2000, 100_000_000_000n]);
  assert.deepEqual(
    local?.providers.map(({ id, policy }) => `${id} ${policy.kind}`),
    ['basement fixed', 'datahall cost_plus', 'campus idle_discount', 'colo cost_plus'],
  );
});

void test('the embedded providers make a real auction: who is cheapest depends on their load', (t) => {
  const local = setup(t).load().markets.local;
  const cheapest = (usedBp: Record<string, number>): string[] =>
    (local?.providers ?? [])
      .map((provider) => ({ provider, ...askingPrice(provider, usedBp[provider.id] ?? 0, 6000) }))
      .filter(({ price }) => price <= perBlockFromPerHour(83_333_333n, 6000))
      .sort((a, b) => Number(a.price - b.price))
      .map(({ provider }) => provider.id);
  assert.deepEqual(cheapest({}), ['campus', 'datahall', 'basement']);
  assert.deepEqual(cheapest({ campus: 5000 }), ['datahall', 'campus', 'basement']);
});

void test('reads the environment: paths become absolute, what is empty is not set', (t) => {
  const { load, cwd } = setup(t);
  const env = { UNDERBID_HOST: '::1', UNDERBID_PORT: '0', UNDERBID_DATA: 'd', UNDERBID_CACHE: '', HOME: '/home/ann' };
  const settings = load(null, { ...env, XDG_CACHE_HOME: 'relative' });
  assert.deepEqual([settings.host, settings.port, settings.dataDir], ['::1', 0, join(cwd, 'd')]);
  assert.equal(settings.cacheDir, '/home/ann/.cache/underbid');
  assert.equal(load(null, { XDG_CACHE_HOME: '/xdg' }).cacheDir, '/xdg/underbid');
  assert.deepEqual([settings.standby, load(null, { UNDERBID_STANDBY: '1' }).standby], [false, true]);
  assert.equal(load(null, { UNDERBID_CACHE: 'c' }).cacheDir, join(cwd, 'c'));
  assert.equal(load(null, { UNDERBID_ADMIN_KEY: 'hunter2' }).adminKey?.reveal(), 'hunter2');
});

void test('reports mistakes of the environment and of the file together', (t) => {
  const { mistakes } = setup(t);
  const env = {
    ...{ UNDERBID_PORT: '70000', UNDERBID_HOST: 'http://here', UNDERBID_ADMIN_KEY: 'hunter 2' },
    UNDERBID_STANDBY: 'yes',
  };
  assert.deepEqual(mistakes('pools: 3', env), [
    'UNDERBID_HOST: must be a host name or an address, without port',
    'UNDERBID_PORT: must be a whole number from 0 to 65535',
    'UNDERBID_STANDBY: must be 0 or 1',
    'UNDERBID_ADMIN_KEY: must be 1 to 512 visible ASCII characters without blanks',
    'underbid.yaml:1:8 pools: must be a map of settings',
  ]);
});

void test('says what is wrong with a file that cannot be read', (t) => {
  const { mistakes } = setup(t);
  assert.deepEqual(mistakes(null, { UNDERBID_CONFIG: 'no.yaml' }), [
    'no.yaml does not exist (UNDERBID_CONFIG names it)',
  ]);
  assert.deepEqual(mistakes(null, { UNDERBID_CONFIG: '.' }), ['. is a folder (UNDERBID_CONFIG names it)']);
  assert.deepEqual(mistakes(`#${'x'.repeat(1_000_000)}`), ['underbid.yaml has more than 1000000 bytes']);
});

void test('reports every mistake of a file at once, each at its line and column', (t) => {
  const { mistakes } = setup(t);
  assert.deepEqual(mistakes(BROKEN).join('\n'), BROKEN_EXPECTED);
});

const POOL = `engine: vllm, model: m, context: 2048, price: {input: "1", output: "1"}, ceiling_usd_per_hour: "1"`;

/** Each: what is wrong, the file, the one mistake in it. */
const SINGLE: readonly [what: string, file: string, mistake: string][] = [
  [
    'a number as money',
    'markets: {local: {treasury_usd: 1.50}}',
    '1:33 markets.local.treasury_usd: must be text: put it in quotes, "1.50"',
  ],
  [
    'too fine a price',
    `pools: {m: {${POOL.replace('"1"', '"0.0000001"')}}}`,
    '1:67 pools.m.price.input: a price in USD per million tokens has more than 6 decimals: 0.0000001',
  ],
  [
    'a price whose requests would not fit into the books',
    `pools: {m: {${POOL.replace('"1"', '"4000.000001"')}}}`,
    '1:67 pools.m.price.input: a price in USD per million tokens is at most 4000, not 4000.000001',
  ],
  ['a syntax error', 'pools:\n  a: [1\n', '3:1 the indentation does not fit, or a bracket is not closed'],
  ['a tab', 'pools:\n\ta: 1\n', '2:1 tabs cannot indent: use blanks'],
  ['two documents', 'cors: []\n---\ncors: []\n', '2:1 only one document is allowed: remove the ---'],
  ['a tag', 'cors: !env ABC\n', '1:7 tags (!name) are not supported'],
  ['a duplicate key', 'cors: []\nlimits: {}\ncors: []\n', '3:1 cors: is set twice, first on line 1'],
  [
    'a merge key',
    'limits: {<<: {headers: 20}}',
    '1:10 limits.<<: merge keys are not supported: write the settings out',
  ],
  ['a dangerous key', 'limits: {__proto__: {headers: 20}}', '1:10 limits.__proto__: is not a possible key'],
  ['an empty section', 'markets:\n  local:\n', '2:3 markets.local: is empty: give it a value, or remove the key'],
  ['no market', 'markets: {}', '1:1 markets: name at least one market'],
  ['a list instead of settings', '- a\n', '1:1 must be a map of settings'],
  [
    'a devnet that is not there',
    'markets: {akash: {devnet: d.json}}',
    '1:27 markets.akash.devnet: the file does not exist: start `underbid devnet` first, which writes it',
  ],
  [
    'an Akash market without a node',
    'markets: {akash: {key: "file:underbid.yaml"}}',
    '1:11 markets.akash: name at least one node under rpc, or the file of a devnet',
  ],
  [
    'an Akash market without a key',
    'markets: {akash: {rpc: ["https://rpc.example"]}}',
    '1:11 markets.akash: needs keyfile, key or signer: whose money is it?',
  ],
  [
    'a key in the file itself',
    'markets: {akash: {rpc: ["https://rpc.example"], key: addict worth drip violin}}',
    '1:54 markets.akash.key: a secret does not belong in this file: write env:NAME (a variable) or file:PATH (a file that holds it)',
  ],
  [
    'a key file that is not there',
    'markets: {akash: {rpc: ["https://rpc.example"], keyfile: k.txt}}',
    '1:58 markets.akash.keyfile: the file k.txt does not exist',
  ],
  [
    'a key that is given twice',
    'markets: {akash: {rpc: ["https://rpc.example"], keyfile: underbid.yaml, key: "file:underbid.yaml"}}',
    '1:78 markets.akash.key: is given twice: keyfile and key',
  ],
  [
    'a signer beside a key',
    'markets: {akash: {rpc: ["https://rpc.example"], key: "file:underbid.yaml", signer: {url: "unix:/run/signer"}}}',
    '1:84 markets.akash.signer: is given twice: key and signer',
  ],
  [
    'a signer on another machine, in the clear',
    'markets: {akash: {rpc: ["https://rpc.example"], signer: {url: "http://10.0.0.1:7000"}}}',
    '1:63 markets.akash.signer.url: must be unix:/PATH, http:// on this machine, or https://, without a path',
  ],
  [
    'a devnet file that is none',
    'markets: {akash: {devnet: underbid.yaml}}',
    '1:27 markets.akash.devnet: is not a file that `underbid devnet` wrote',
  ],
  [
    'a gas price that is none',
    'markets: {akash: {rpc: ["https://rpc.example"], key: "file:underbid.yaml", gas_price: cheap}}',
    '1:87 markets.akash.gas_price: must be uakt per unit of gas, such as "0.025"',
  ],
  [
    'an API for a pool that is not there',
    `pools: {m: {${POOL}}}
markets: {api: {endpoints: [{url: "https://api.example/v1", pool: n, model: x, usd_per_million: {input: "1", output: "1"}}]}}`,
    '2:67 markets.api.endpoints[0].pool: there is no such pool: did you mean m?',
  ],
  [
    'a market that is not configured',
    `pools: {m: {${POOL}, markets: [local, owned]}}`,
    '1:130 pools.m.markets[1]: the market owned is not configured: add it under markets',
  ],
  [
    'a bad policy',
    'markets: {local: {providers: [{id: a, cost_usd_per_hour: "1", policy: {kind: fixd}}]}}',
    '1:78 markets.local.providers[0].policy.kind: must be one of cost_plus, idle_discount, fixed: did you mean fixed?',
  ],
  [
    'a proxy that is no network',
    'trusted_proxies: [10.0.0.0/33]',
    '1:19 trusted_proxies[0]: must be an address or a network: 10.0.0.0/8',
  ],
  ['a text for a list', `pools: {m: {${POOL}, wake: {needs: allowance}}}`, '1:127 pools.m.wake.needs: must be a list'],
  [
    'a name without its unit',
    `pools: {m: {${POOL}, idle: 60}}`,
    '1:113 pools.m.idle: unknown key: did you mean idle_s?',
  ],
];

void test('has one clear line for each kind of mistake', (t) => {
  const { mistakes } = setup(t);
  for (const [what, file, mistake] of SINGLE) {
    // What is not a possible key is an unknown one besides.
    const [first, second] = mistakes(file);
    assert.equal(first, `underbid.yaml:${mistake}`, what);
    assert.equal(second?.endsWith('unknown key') ?? true, true, `${what}: ${second}`);
  }
});

void test('refuses files that are made to exhaust it', (t) => {
  const { mistakes } = setup(t);
  const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]'];
  for (const [index, name] of 'bcdefgh'.split('').entries()) {
    bomb.push(`${name}: &${name} [${Array(9).fill(`*${'abcdefg'[index]}`).join(', ')}]`);
  }
  assert.match(mistakes(bomb.join('\n')).join('\n'), /^underbid.yaml:1:1 its aliases .* at most 100/);
  assert.match(mistakes('['.repeat(5000)).join('\n'), /nested too deeply/);
  assert.equal(mistakes(Array.from({ length: 500 }, (_, index) => `k${index}: 1`).join('\n')).length, 101);
});

void test('takes anchors, empty files and model names that look like numbers', (t) => {
  const { load } = setup(t);
  assert.equal(load('# nothing\n').pools[0]?.id, 'smollm2-135m');
  const settings = load(`pools:\n  3.10: &same { ${POOL} }\n  org/model: *same\n`);
  assert.deepEqual(
    settings.pools.map(({ id }) => id),
    ['3.10', 'org/model'],
  );
});

void test('fetches secrets from variables and from files beside the configuration', (t) => {
  const { load, cwd } = setup(t);
  writeFileSync(join(cwd, 'key.txt'), 'sk-from-file\n');
  const settings = load(serversFile('key: "env:MY_KEY"', 'key: "file:key.txt"', ''), { MY_KEY: 'sk-from-env' });
  const servers = settings.markets.owned?.servers ?? [];
  assert.deepEqual(
    servers.map(({ id, url, key }) => [id, url, key?.reveal() ?? null]),
    [
      ['owned-1', 'http://h0:8000', 'sk-from-env'],
      ['owned-2', 'http://h1:8000', 'sk-from-file'],
      ['owned-3', 'http://h2:8000', null],
    ],
  );
  assert.equal(settings.markets.local, null);
});

void test('a key of a canary reference that cannot be read is seen at the start, not at the first question', (t) => {
  const { mistakes } = setup(t);
  const reference = '{ url: "http://10.0.0.5:8000", key: "env:NONE" }';
  const pool = `{ engine: vllm, model: m, context: 100, price: { input: "1", output: "1" }, ceiling_usd_per_hour: "1", canary: { reference: ${reference} } }`;
  assert.match(mistakes(`pools: { m: ${pool} }`).join(), /canary\.reference\.key: the variable NONE is not set/);
});

void test('providers who may join have names and keys of their own', (t) => {
  const { load, mistakes, cwd } = setup(t);
  const file = (...joining: string[]): string =>
    `markets: { local: { providers: [], joining: [${joining.map((entry) => `{ ${entry} }`).join(', ')}] } }`;
  const env = { KEY_7: 'seven-7-seven-7-seven', KEY_8: 'eight-8-eight-8-eight', KEY_SHORT: 'short' };
  const rack7 = 'id: rack-7, key: "env:KEY_7"';
  const { local } = load(
    file(rack7, 'id: rack-8, key: "env:KEY_8", audited: true, region: eu, hosts: [gpu.example]'),
    env,
  ).markets;
  assert.deepEqual(
    local?.joining.map(({ id, key, audited, region, hosts }) => [id, key.reveal(), audited, region, hosts]),
    [
      ['rack-7', env.KEY_7, false, null, []],
      ['rack-8', env.KEY_8, true, 'eu', ['gpu.example']],
    ],
  );
  assert.deepEqual(local?.providers, []);
  writeFileSync(join(cwd, 'seven'), env.KEY_7);
  const cases: [string, RegExp][] = [
    [file(rack7, 'id: rack-7, key: "env:KEY_8"'), /joining\[1\]\.id: is taken, on line 1/],
    [file('id: rack-7, key: "env:NONE"'), /the variable NONE is not set/],
    [file(`id: rack-7, key: ${env.KEY_7}`), /a secret does not belong in this file/],
    [file(rack7, 'id: rack-8, key: "file:seven"'), /the key of rack-8 is that of rack-7: each has its own/],
    [file('id: rack-9, key: "env:KEY_SHORT"'), /the key of rack-9 has fewer than 16 characters/],
    [file(`${rack7}, hosts: ["http://gpu.example"]`), /must be a host name or an address, without port/],
  ];
  for (const [text, message] of cases) {
    const said = mistakes(text, env).join('\n');
    assert.match(said, message);
    assert.ok(!said.includes(env.KEY_7), said);
  }
});

void test('takes node, chain and key of a devnet from the file that it wrote', (t) => {
  const { load, mistakes, cwd } = setup(t);
  writeFileSync(join(cwd, 'tenant.key'), `${MNEMONIC}\n`);
  const written = {
    rpc: 'http://127.0.0.1:1',
    chain_id: 'devnet-7',
    tenant: { keyfile: 'tenant.key' },
    auditor: 'akash1a',
  };
  writeFileSync(join(cwd, 'devnet.json'), JSON.stringify(written));
  const { akash } = load('markets: {akash: {devnet: devnet.json}}').markets;
  assert.ok(akash);
  const { rpc, chainId, auditors, allowPrivate, devnet, key } = akash;
  assert.deepEqual([rpc, chainId, auditors], [['http://127.0.0.1:1'], 'devnet-7', ['akash1a']]);
  assert.deepEqual([allowPrivate, devnet, key?.reveal()], [true, true, MNEMONIC]);
  const twice = mistakes('markets: {akash: {devnet: devnet.json, rpc: ["https://rpc.example"]}}');
  assert.deepEqual(twice, [
    'underbid.yaml:1:45 markets.akash.rpc: stands in the file of the devnet already: remove one of the two',
  ]);
  writeFileSync(join(cwd, 'tenant.key'), '');
  const empty = mistakes('markets: {akash: {devnet: devnet.json}}');
  assert.deepEqual(empty, ['underbid.yaml:1:27 markets.akash.devnet: names a key file that holds no key']);
});

void test('shows no wallet key in settings or descriptions', (t) => {
  const { load, cwd } = setup(t);
  writeFileSync(join(cwd, 'wallet.txt'), `${MNEMONIC}\n`);
  for (const given of ['keyfile: wallet.txt', 'key: "file:wallet.txt"', 'key: "env:WALLET"']) {
    const settings = load(`markets: {akash: {rpc: ["https://rpc.example"], ${given}}}`, { WALLET: MNEMONIC });
    assert.equal(settings.markets.akash?.key?.reveal(), MNEMONIC);
    assert.doesNotMatch(inspect(settings, { depth: null, showHidden: true }), /addict/);
    assert.doesNotMatch(JSON.stringify(describeSettings(settings)), /addict/);
  }
});

void test('shows no secret in settings, descriptions or errors', (t) => {
  const { load, mistakes, cwd } = setup(t);
  const secret = 'sk-a1b2c3';
  const settings = load(serversFile('key: "env:MY_KEY"'), { MY_KEY: secret, UNDERBID_ADMIN_KEY: secret });
  const shown = [
    inspect(settings, { depth: null, showHidden: true }),
    JSON.stringify(settings, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
    JSON.stringify(describeSettings(settings)),
    String(settings.adminKey),
  ];
  for (const text of shown) assert.equal(text.includes(secret), false, text);
  assert.equal(shown[2]?.includes('[secret]'), true);
  writeFileSync(join(cwd, 'two-lines'), `${secret}\nx-header: ${secret}`);
  const broken = [
    serversFile(`key: ${secret}`),
    serversFile(`key: "${secret}" ${secret}`),
    serversFile(`key: [${secret}]`),
    serversFile(`key: !tag ${secret}`),
    serversFile(`key: *${secret}`),
    serversFile(`key: a: ${secret}`),
    serversFile(`api_key: ${secret}`),
    serversFile(`key: "file:two-lines"`),
    serversFile(`key: "env:MY_KEY"`),
    serversFile().replace('http://h0', `http://user:${secret}@h0`),
    serversFile().replace('8000/v1', `8000/v1?key=${secret}`),
    `cors: ["https://${secret}@x"]`,
    `- ${secret}`,
  ];
  for (const file of broken) {
    const text = mistakes(file, { MY_KEY: `${secret}\n${secret}` }).join('\n');
    assert.equal(text.includes(secret), false, `${file}\n${text}`);
  }
  assert.deepEqual(mistakes(serversFile('key: "env:MY_KEY"', 'key: "file:no"', 'key: 7')), [
    'underbid.yaml:4:42 markets.owned.servers[0].key: the variable MY_KEY is not set',
    'underbid.yaml:5:42 markets.owned.servers[1].key: the file no does not exist',
    'underbid.yaml:6:42 markets.owned.servers[2].key: a secret does not belong in this file: write env:NAME (a variable) or file:PATH (a file that holds it)',
  ]);
});

void test('what it describes as in force can be written into a file and is the same', (t) => {
  const { load } = setup(t);
  const settings = load('markets: {local: {settlement: akt}}\nlimits: {headers: 50}\ncors: ["https://a.example"]\n');
  assert.equal(settings.markets.local?.takeFeeBp, 400);
  assert.deepEqual(sharedBy(load(asFile(settings))), sharedBy(settings));
});

void test('any valid pools come back from a file as they were', (t) => {
  const { load } = setup(t);
  const property = fc.property(fc.dictionary(modelId, pool, { minKeys: 1, maxKeys: 3 }), (pools) => {
    const file = stringify({ pools, markets: { local: {}, owned: { servers: [serverFor(Object.keys(pools)[0])] } } });
    const settings = load(file, {}, 7);
    assert.deepEqual(
      settings.pools,
      Object.entries(pools).map(([id, input]) => parsePool(id, input, 7)),
    );
    assert.deepEqual(load(asFile(settings), {}, 7).pools, settings.pools);
  });
  // On failure fast-check prints its seed.
  fc.assert(property, { numRuns: 60 });
});

void test('the committed JSON Schema is the current one', () => {
  const committed: unknown = JSON.parse(readFileSync(new URL('../underbid.schema.json', import.meta.url), 'utf8'));
  assert.deepEqual(
    committed,
    configJsonSchema(),
    'run: npm run -s underbid -- config schema > underbid.schema.json && npm run -s format',
  );
});

void test('the help names every variable and every key, with defaults', () => {
  const help = settingsHelp();
  for (const name of ['HOST', 'PORT', 'DATA', 'CACHE', 'CONFIG', 'ADMIN_KEY'])
    assert.match(help, RegExp(`UNDERBID_${name} `));
  assert.match(help, /^ {2}pools\.<id>\.price\.input \* /m);
  assert.match(help, /^ {2}markets\.local\.providers\[\]\.reply_ms .*default: 300$/m);
  assert.match(help, /^ {2}markets\.owned\.servers\[\]\.key +<secret> /m);
  assert.match(help, /^ {2}limits\.body_bytes .*default: 20000000$/m);
  for (const line of help.split('\n')) assert.ok(line.length <= 120, line);
});

const BROKEN = `# a comment
pools:
  llama-3.1-8b:
    engin: vllm
    context: "2048"
    price: { input: 0.020, output: "x" }
    replicas: { min: 3, max: 1 }
    markets: [owned, akash, locall]
    ceiling_usd_per_hour: "0.60"
    idle_s: 1.5
    n_max:
  "a b": { ${POOL} }
markets:
  owned:
    servers:
      - { url: "http://10.0.0.5:8000/v1", pool: llama-3.1-8, slots: 70000 }
      - { url: "http://10.0.0.6", pool: llama-3.1-8b }
      - { url: "http://10.0.0.6/v1/", pool: llama-3.1-8b }
corz: []
`;

const BROKEN_EXPECTED = `underbid.yaml:3:3 pools.llama-3.1-8b.engine: is required (whose dialect the model server speaks)
underbid.yaml:3:3 pools.llama-3.1-8b.model: is required (what the model server calls it)
underbid.yaml:4:5 pools.llama-3.1-8b.engin: unknown key: did you mean engine?
underbid.yaml:5:14 pools.llama-3.1-8b.context: must be a number, without quotes
underbid.yaml:6:21 pools.llama-3.1-8b.price.input: must be text: put it in quotes, "0.020"
underbid.yaml:6:36 pools.llama-3.1-8b.price.output: a price in USD per million tokens must be a plain decimal such as "5.00", not "x"
underbid.yaml:7:15 pools.llama-3.1-8b.replicas: min is above max
underbid.yaml:8:22 pools.llama-3.1-8b.markets[1]: the market akash is not configured: add it under markets
underbid.yaml:8:29 pools.llama-3.1-8b.markets[2]: must be one of local, owned, akash, api: did you mean local?
underbid.yaml:10:13 pools.llama-3.1-8b.idle_s: must be a whole number
underbid.yaml:11:5 pools.llama-3.1-8b.n_max: is empty: give it a value, or remove the key
underbid.yaml:12:3 pools.a b: is not a model id
underbid.yaml:16:49 markets.owned.servers[0].pool: there is no such pool: did you mean llama-3.1-8b?
underbid.yaml:16:69 markets.owned.servers[0].slots: must be at most 4096
underbid.yaml:18:16 markets.owned.servers[2].url: a server with the same url and pool stands on line 17
underbid.yaml:19:1 corz: unknown key: did you mean cors?`;

function serversFile(...keys: string[]): string {
  const servers = (keys.length === 0 ? [''] : keys).map((key, index) => {
    const url = `url: "http://h${index}:8000/v1"`;
    return `      - { ${url}, ${key === '' ? '' : `${key}, `}pool: smollm2-135m }`;
  });
  return ['markets:', '  owned:', '    servers:', ...servers, ''].join('\n');
}

function serverFor(pool: string | undefined): unknown {
  return { url: 'http://10.0.0.5', pool };
}

/** The parts of a description that a file has. */
function asFile(settings: Settings): string {
  const { pools, markets, budget, limits, cors, trusted_proxies } = describeSettings(settings) as Record<
    string,
    unknown
  >;
  return stringify({ pools, markets, budget, limits, cors, trusted_proxies });
}

function sharedBy({ pools, markets, budget, limits, cors, trustedProxies }: Settings): unknown {
  return { pools, markets, budget, limits, cors, trustedProxies };
}

const integer = (min: number, max: number) => fc.integer({ min, max });
const money = fc.bigInt({ min: 0n, max: 10n ** 15n }).map(formatUsd);
const price = fc.bigInt({ min: 0n, max: PRICE_MAX }).map(formatPricePerMillion);
const wait = (max: number) => integer(1, max * 1000).map((ms) => ms / 1000);
const size = fc
  .tuple(integer(1, 4096), fc.constantFrom('', '.5', '.25'), fc.constantFrom('Ki', 'Mi', 'Gi', 'Ti'))
  .map((parts) => parts.join(''));
const modelId = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,30}$/);
const gpu = fc.record(
  { vendor: fc.constant('nvidia'), model: fc.stringMatching(/^[a-z0-9]{1,8}$/), ram: size },
  { requiredKeys: ['model'] },
);

const pool: fc.Arbitrary<PoolInput> = fc.record(
  {
    engine: fc.constantFrom('vllm', 'sglang', 'llama.cpp', 'openai'),
    model: fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }),
    context: integer(64, 1_000_000),
    quantization: fc.string({ maxLength: 12 }),
    price: fc.record({ input: price, cached_input: price, output: price }, { requiredKeys: ['input', 'output'] }),
    markets: fc.subarray(['local', 'owned'] as const, { minLength: 1 }),
    replicas: integer(0, 50).map((max) => ({ min: Math.floor(max / 2), max })),
    slots: integer(1, 64),
    ceiling_usd_per_hour: money,
    budget: fc.record({ usd_per_hour: money, usd_per_day: money }, { requiredKeys: [] }),
    hardware: fc.record(
      {
        gpus: integer(1, 8),
        gpu: fc.array(gpu, { minLength: 1, maxLength: 3 }),
        cpu: integer(1, 64),
        memory: size,
        storage: size,
      },
      { requiredKeys: ['gpus', 'gpu'] },
    ),
    image: fc.constant('vllm/vllm-openai@sha256:0'),
    trust: fc.constantFrom('any', 'audited', 'tee'),
    bid_window_s: wait(300),
    slo: fc.record({ ttft_ms: integer(1, 10_000), tokens_per_second: integer(1, 1000) }, { requiredKeys: [] }),
    limits: fc.record(
      { max_wait_s: wait(600), connect_s: wait(60), waiting_max: integer(0, 100) },
      { requiredKeys: [] },
    ),
    show_prices: fc.boolean(),
  },
  { requiredKeys: ['engine', 'model', 'context', 'price', 'ceiling_usd_per_hour'] },
);

/** A published test phrase: it holds nothing. */
const MNEMONIC =
  'addict worth drip violin note olive final pelican perfect feel goat game horror brass fence deposit dutch improve setup stuff frost spirit smart alien';

function setup(t: TestContext) {
  const cwd = mkdtempSync(join(tmpdir(), 'underbid-config-'));
  t.after(() => rmSync(cwd, { recursive: true }));
  const load = (file: string | null = null, env: Record<string, string> = {}, nowMs = 1): Settings => {
    if (file !== null) writeFileSync(join(cwd, 'underbid.yaml'), file);
    return loadSettings({ env, cwd, nowMs });
  };
  const mistakes = (file: string | null, env: Record<string, string> = {}): string[] => {
    let lines: string[] = [];
    assert.throws(
      () => load(file, env),
      (error) => {
        assert.ok(error instanceof AppError && error.code === 'invalid_config', String(error));
        lines = error.message.split('\n');
        return true;
      },
      `no mistake was found in: ${file}`,
    );
    return lines;
  };
  return { cwd, load, mistakes };
}
