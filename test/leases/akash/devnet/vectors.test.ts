import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { generateManifest, generateManifestVersion } from '@akashnetwork/chain-sdk';
import { parse } from 'yaml';
import { adr36Document, isSignedBy } from '../../../../src/leases/akash/devnet/jwt.ts';
import { canonicalText, crossFault, manifestHash, readManifest } from '../../../../src/leases/akash/devnet/manifest.ts';
import { openWallet } from '../../../../src/leases/akash/devnet/wallet.ts';

/** What Akash's own Go code made (test/fixtures/akash): the emulated provider has to agree with it. */
const FIXTURES = new URL('../../../fixtures/akash/', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, FIXTURES), 'utf8');

const SDLS = [
  'v2.0-simple',
  'v2.0-gpu-basic',
  'v2.0-http-options',
  'v2.0-persistent-storage',
  'v2.0-storage-classes',
  'v2.1-credentials',
];

for (const name of SDLS) {
  test(`${name}: the hash of Akash's manifest is the one that chain-sdk gives its SDL, and it fits the groups`, async () => {
    const manifest = readManifest(read(`${name}/manifest.json`));
    assert.ok(manifest);
    const made = generateManifest(parse(read(`${name}/sdl.yaml`)));
    assert.ok(made.ok);
    const wanted = await generateManifestVersion(made.value.groups);
    assert.deepEqual(Buffer.from(manifestHash(manifest)), Buffer.from(wanted));
    assert.equal(crossFault(manifest, made.value.groupSpecs), null);
    const [first] = made.value.groupSpecs;
    assert.ok(first);
    const other = made.value.groupSpecs.map((spec) => ({ ...spec, name: 'elsewhere' }));
    assert.match(crossFault(manifest, other) ?? '', /^manifest cross-validation error: unknown deployment group/);
    const twice = made.value.groupSpecs.map((spec) => ({
      ...spec,
      resources: spec.resources.map((unit) => ({ ...unit, count: unit.count + 1 })),
    }));
    assert.match(crossFault(manifest, twice) ?? '', /^manifest cross-validation error: .*count/);
  });
}

test('a manifest is written as Go writes it: keys sorted, empty fields left out, <>& escaped, the unknown lost', () => {
  const json = JSON.parse(read('v2.0-simple/manifest.json')) as {
    services: { env: string[] | null; future?: number }[];
  }[];
  const plain = canonicalText(readManifest(JSON.stringify(json)) ?? []);
  const [service] = json[0]?.services ?? [];
  assert.ok(service);
  service.future = 1;
  assert.equal(canonicalText(readManifest(JSON.stringify(json)) ?? []), plain);
  service.env = ['A=<b>&c'];
  const text = canonicalText(readManifest(JSON.stringify(json)) ?? []);
  assert.match(text, /"env":\["A=\\u003cb\\u003e\\u0026c"\]/);
  assert.match(text, /^\[\{"name":"westcoast","services":\[\{"args":null,"command":null,"count":2,"credentials":null,/);
  assert.equal(readManifest('{"name":"x"}'), null);
});

interface TokenVector {
  readonly description: string;
  readonly tokenString: string;
  readonly mustFail: boolean;
}

for (const { description, tokenString, mustFail } of JSON.parse(read('jwt-es256k.json')) as TokenVector[]) {
  test(`token: ${description}`, async () => {
    const { address, publicKey } = await openWallet(read('jwt-mnemonic.txt').trim());
    assert.equal(isSignedBy(tokenString, address, publicKey), !mustFail);
    const flipped = tokenString.replace(/\.(.)/, (_all, one: string) => `.${one === 'e' ? 'f' : 'e'}`);
    assert.equal(isSignedBy(flipped, address, publicKey), false);
  });
}

test('the document around a wallet’s token has its keys in amino’s order', () => {
  const text = Buffer.from(adr36Document('akash1x', Buffer.from('data'))).toString();
  assert.match(text, /^\{"account_number":"0","chain_id":"","fee":\{"amount":\[\],"gas":"0"\},"memo":"","msgs":/);
});
