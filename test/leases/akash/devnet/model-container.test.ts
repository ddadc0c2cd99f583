import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readModelRequest } from '../../../../src/leases/akash/devnet/model-container.ts';
import { bidPrice, DEFAULT_PROVIDERS } from '../../../../src/leases/akash/devnet/provider-spec.ts';
import { readSdl } from './setup.ts';

const none = { command: [], args: [], env: {} };

test('reads the command lines of three engines', () => {
  const llama = ['-hf', 'org/weights', '--alias', 'tiny', '-c', '8192', '-np', '4'];
  assert.deepEqual(readModelRequest({ ...none, args: llama, env: { LLAMA_API_KEY: 'k' } }), {
    alias: 'tiny',
    apiKey: 'k',
    slots: 4,
    contextTokensPerSlot: 2048,
  });
  const vllm = ['--model', 'org/w', '--served-model-name=big', '--max-model-len', '131072', '--max-num-seqs', '64'];
  assert.deepEqual(readModelRequest({ ...none, args: vllm, env: { VLLM_API_KEY: 'k' } }), {
    alias: 'big',
    apiKey: 'k',
    slots: 16,
    contextTokensPerSlot: 8192,
  });
  const sglang = { command: ['python3', '-m', 'sglang.launch_server'], args: ['--model-path', 'w', '--api-key', 'k'] };
  assert.deepEqual(readModelRequest({ ...none, ...sglang }), {
    alias: 'w',
    apiKey: 'k',
    slots: 4,
    contextTokensPerSlot: 2048,
  });
  assert.equal(readModelRequest(none).apiKey, null);
});

test('prices are those of the resources, to the 18th decimal and never below', async () => {
  const [prairie] = DEFAULT_PROVIDERS;
  const [group] = (await readSdl()).groups;
  assert.ok(prairie && group);
  // 2 cores at 2,200, 4 GiB at 1,100 and a GPU at 310,000 uact an hour are 318,800 / 600 blocks.
  assert.equal(bidPrice(prairie, group), (318_800n * 10n ** 18n + 599n) / 600n);
});
