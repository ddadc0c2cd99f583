import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { fillCommand, isPlainModel, splitCommand } from '../../../src/leases/local/command-line.ts';
import { testOrder } from '../../fakes/market-samples.ts';

const { workload } = testOrder('any');
const values = { workload, host: '0.0.0.0', port: 8000, key: 'k', index: 1 };

test('a command is taken apart as a shell would, and nothing in it is run', () => {
  const cases: [string, string[]][] = [
    ['vllm serve  {model}', ['vllm', 'serve', '{model}']],
    [`a 'b c' "d e" f\\ g`, ['a', 'b c', 'd e', 'f g']],
    [`a '' "" b`, ['a', '', '', 'b']],
    [`a '\\' "\\"" x"y"'z'`, ['a', '\\', '"', 'xyz']],
    ['a $(id) `id` $HOME ; rm * | x > y &', ['a', '$(id)', '`id`', '$HOME', ';', 'rm', '*', '|', 'x', '>', 'y', '&']],
    ['\ta\n b ', ['a', 'b']],
    ['a \\', ['a', '\\']],
  ];
  for (const [command, words] of cases) assert.deepEqual(splitCommand(command), words, command);
  for (const bad of ['', '  ', `a 'b`, 'a "b', "''", 'a {what}', 'x'.repeat(9000)])
    assert.throws(() => splitCommand(bad), /the command/, bad.slice(0, 20));
});

test('placeholders are filled word by word', () => {
  const words = splitCommand('run {model} --at={host}:{port} -c {context} -n {slots} -k {key} -g {index}{index}');
  const filled = ['run', 'tiny-model', '--at=0.0.0.0:8000', '-c', '1024', '-n', '2', '-k', 'k', '-g', '11'];
  assert.deepEqual(fillCommand(words, values), filled);
});

test("a model's name cannot become an option, a path or another placeholder", () => {
  for (const model of ['--trust-remote-code', '/etc/passwd', '../up', 'a/../b', 'a b', 'a;b', '{key}', '', 'a\n--x']) {
    assert.equal(isPlainModel(model), false, model);
    assert.throws(() => fillCommand(['run', '{model}'], { ...values, workload: { ...workload, model } }));
  }
  assert.ok(isPlainModel('meta-llama/Llama-3.1-8B-Instruct'));
});

test('words that are quoted come back as they were', () => {
  const word = fc.string({ minLength: 1, maxLength: 20 }).filter((text) => !/[{}]/.test(text));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), (words) => {
      const quoted = words.map((text) => `'${text.replaceAll("'", `'"'"'`)}'`).join(' ');
      assert.deepEqual(splitCommand(quoted), words);
    }),
  );
});
