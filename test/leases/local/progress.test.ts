import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawProgress, type Progress } from '../../../src/leases/local/progress.ts';

test('draws one bar on a terminal, over and over on the same line', () => {
  const { text, stream } = setup(true);
  const drawing = drawProgress(stream);
  for (const doneBytes of [0, 50e6, 100e6]) drawing.report(download(doneBytes));
  drawing.end();
  const frames = text().split('\r\u001B[2K').slice(1);
  assert.deepEqual(
    frames.map((frame) => frame.replaceAll(/[^#-]/g, '')),
    ['-'.repeat(30), '#'.repeat(15) + '-'.repeat(15), '#'.repeat(30)],
  );
  assert.match(frames[1] ?? '', /50 % {2}50 of 100 MB$/);
});

test('never draws a line that wraps', () => {
  for (const columns of [20, 40, 60, 80]) {
    const { text, stream } = setup(true, columns);
    drawProgress(stream).report(download(50e6));
    assert.ok(text().replace('\r\u001B[2K', '').length < columns);
  }
});

test('writes a line for each step and each quarter of it where there is no terminal', () => {
  const { text, stream } = setup(false);
  const drawing = drawProgress(stream);
  for (let doneBytes = 0; doneBytes <= 100e6; doneBytes += 1e6) drawing.report(download(doneBytes));
  drawing.report({ step: 'check', doneBytes: 0, totalBytes: 0 });
  drawing.end();
  assert.deepEqual(text().trimEnd().split('\n'), [
    'Downloading the model and its server',
    'Downloading the model and its server: 25 of 100 MB',
    'Downloading the model and its server: 50 of 100 MB',
    'Downloading the model and its server: 75 of 100 MB',
    'Downloading the model and its server: 100 of 100 MB',
    'Checking the model and its server',
  ]);
});

function download(doneBytes: number): Progress {
  return { step: 'download', doneBytes, totalBytes: 100e6 };
}

function setup(isTTY: boolean, columns = 120) {
  const written: string[] = [];
  return { text: () => written.join(''), stream: { isTTY, columns, write: (text: string) => written.push(text) } };
}
