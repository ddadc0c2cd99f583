import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gpuWarnings } from '../../src/cli/provide-options.ts';

test('a provider is told of a GPU that no pool can name, once, and of what it may be called', () => {
  assert.deepEqual(gpuWarnings({ gpus: [] }), []);
  assert.deepEqual(gpuWarnings({ gpus: ['rtx4090', 'rtx4090'] }), []);
  const [warning, ...more] = gpuWarnings({ gpus: ['4090', '4090'] });
  assert.match(warning ?? '', /^no GPU model 4090 is known here \(did you mean rtx4090\?\): pools name theirs exactly/);
  assert.deepEqual(more, []);
  assert.match(gpuWarnings({ gpus: ['abacus'] })[0] ?? '', /abacus is known here: pools/);
});
