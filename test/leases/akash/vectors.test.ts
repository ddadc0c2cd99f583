import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { generateManifest, generateManifestVersion } from '@akashnetwork/chain-sdk';
import { GroupSpec, MsgCreateDeployment } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { parse } from 'yaml';
import { messageOf } from '../../../src/leases/akash/chain-messages.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import { signedToken, textOf } from '../../../src/leases/akash/jwt.ts';
import { sortedJson, versionOf, type GroupSpecJson } from '../../../src/leases/akash/sdl.ts';

/** What goes over the wire is what Akash's own code makes: messages to the last byte, hashes, and tokens. */
const FIXTURES = new URL('../../fixtures/akash/', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, FIXTURES), 'utf8');

for (const name of [
  'v2.0-gpu-basic',
  'v2.0-http-options',
  'v2.0-persistent-storage',
  'v2.0-simple',
  'v2.0-storage-classes',
  'v2.1-credentials',
]) {
  test(`the deployment of ${name} is encoded to the bytes that chain-sdk makes of its SDL, with its hash`, async () => {
    const made = generateManifest(parse(read(`${name}/sdl.yaml`)));
    assert.ok(made.ok);
    const groups = JSON.parse(read(`${name}/group-specs.json`)) as GroupSpecJson[];
    const [group] = groups;
    assert.ok(group && groups.length === 1);
    const version = versionOf(sortedJson(JSON.parse(read(`${name}/manifest.json`))));
    const id = { owner: 'akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63', dseq: 2n ** 53n + 1n };
    const { typeUrl, value } = messageOf({ type: 'create_deployment', id, group, version, deposit: 5n }, 'uact');
    assert.equal(typeUrl, '/akash.deployment.v1beta4.MsgCreateDeployment');
    const sent = MsgCreateDeployment.decode(value);
    assert.deepEqual(
      sent.groups.map((one) => hex(GroupSpec.encode(one).finish())),
      made.value.groupSpecs.map((one) => hex(GroupSpec.encode(GroupSpec.fromPartial(one)).finish())),
    );
    assert.equal(hex(sent.hash), hex(await generateManifestVersion(made.value.groups)));
    assert.deepEqual([String(sent.id?.dseq), sent.deposit?.amount?.amount], ['9007199254740993', '5']);
  });
}

interface TokenVector {
  readonly description: string;
  readonly tokenString: string;
  readonly mustFail: boolean;
}

test("a token is the one that Akash's own code signs, to the last character", async () => {
  const wallet = (await OwnKeyring.open(read('jwt-mnemonic.txt'))).wallet(0);
  const tokens = (JSON.parse(read('jwt-es256k.json')) as TokenVector[]).filter(
    ({ description, mustFail }) => description.startsWith('ES256K -') && !mustFail,
  );
  assert.ok(tokens.length > 0);
  for (const { tokenString } of tokens) {
    const [header, claims] = tokenString
      .split('.')
      .slice(0, 2)
      .map((part): unknown => JSON.parse(Buffer.from(part, 'base64url').toString()));
    const text = textOf(header, claims);
    assert.equal(signedToken(text, wallet.sign(Buffer.from(text))), tokenString);
  }
});

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
