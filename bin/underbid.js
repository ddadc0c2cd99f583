#!/usr/bin/env node
// Plain JavaScript that any Node can read: an old one shall say that it is old, not stumble over TypeScript.
import { existsSync } from 'node:fs';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `underbid needs Node 22.18 or newer, this is ${process.versions.node}. On Linux "npm ci" brings one that every npm script runs on: use "npm start" or "npm run -s underbid -- …". Elsewhere install a newer Node.`,
  );
  process.exit(1);
}
const source = new URL('../src/cli.ts', import.meta.url);
await import(existsSync(source) ? source.href : new URL('../dist/src/cli.js', import.meta.url).href);
