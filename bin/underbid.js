#!/usr/bin/env node
// Plain JavaScript that any Node can read: an old one shall say that it is old, not stumble over TypeScript.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const old = major < 22 || (major === 22 && minor < 18);
/** The Node that `npm ci` brings on Linux; npm puts it first in the PATH of its scripts, but not every npm links it. */
const bundled = fileURLToPath(new URL(`../node_modules/node-linux-${process.arch}/bin/node`, import.meta.url));

if (!old) {
  const source = new URL('../src/cli.ts', import.meta.url);
  await import(existsSync(source) ? source.href : new URL('../dist/src/cli.js', import.meta.url).href);
} else if (existsSync(bundled)) {
  const child = spawn(bundled, process.argv.slice(1), { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(code ?? (signal ? 1 : 0)));
} else {
  console.error(
    `underbid needs Node 22.18 or newer, this is ${process.versions.node}. On Linux "npm ci" brings one; elsewhere, or when it left its optional packages out, install a newer Node.`,
  );
  process.exit(1);
}
