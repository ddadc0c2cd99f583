import type { Engine } from '../../spec.ts';
import type { Weights } from '../../spec/weights.ts';
import type { Workload } from '../market.ts';

/** Pure: how the image of an engine is started, and how its weights and its certificate come to be where it looks for them. */

export interface Start {
  readonly command: readonly string[];
  readonly args: readonly string[];
  /** "KEY=value". */
  readonly env: readonly string[];
  readonly port: number;
}

/** Where a persistent volume of weights is mounted. */
export const WEIGHTS_MOUNT = '/weights';
/** Where a container that speaks TLS finds its certificate and key: files are all that the engines take. */
const TLS_FOLDER = '/tmp/underbid-tls';
const [CERTIFICATE_FILE, KEY_FILE] = [`${TLS_FOLDER}/cert.pem`, `${TLS_FOLDER}/key.pem`];
/** In the environment, as PEM in one line. */
export const TLS_VARIABLES = { certificate: 'TLS_CERTIFICATE', key: 'TLS_KEY' } as const;

interface EngineStart {
  readonly port: number;
  /** In place of the image's entrypoint. */
  readonly command: readonly string[];
  /** The image's entrypoint, to be run after a check of the weights. */
  readonly server: readonly string[];
  /** The variable that its bearer key is read from; null: it takes it as an argument only. */
  readonly keyVariable: string | null;
  readonly args: (given: Given) => readonly string[];
  /** Has it speak TLS. */
  readonly tlsArgs: readonly string[];
}

interface Given {
  readonly workload: Workload;
  readonly weights: string;
  readonly revision: string | null;
  readonly port: number;
  readonly gpus: number;
  readonly apiKey: string;
}

const ENGINES: Record<Exclude<Engine, 'openai'>, EngineStart> = {
  vllm: {
    port: 8000,
    command: [],
    server: ['python3', '-m', 'vllm.entrypoints.openai.api_server'],
    keyVariable: 'VLLM_API_KEY',
    args: ({ workload, weights, revision, port, gpus }) => [
      ...['--model', weights, '--served-model-name', workload.model],
      ...(revision === null ? [] : ['--revision', revision]),
      ...['--host', '0.0.0.0', '--port', String(port)],
      ...['--max-model-len', String(workload.contextTokens), '--max-num-seqs', String(workload.slots)],
      ...(gpus > 1 ? ['--tensor-parallel-size', String(gpus)] : []),
    ],
    tlsArgs: ['--ssl-certfile', CERTIFICATE_FILE, '--ssl-keyfile', KEY_FILE],
  },
  sglang: {
    port: 30_000,
    command: ['python3', '-m', 'sglang.launch_server'],
    server: ['python3', '-m', 'sglang.launch_server'],
    keyVariable: null,
    args: ({ workload, weights, revision, port, gpus, apiKey }) => [
      ...['--model-path', weights, '--served-model-name', workload.model],
      ...(revision === null ? [] : ['--revision', revision]),
      ...['--host', '0.0.0.0', '--port', String(port), '--api-key', apiKey],
      ...['--context-length', String(workload.contextTokens), '--max-running-requests', String(workload.slots)],
      ...(gpus > 1 ? ['--tp', String(gpus)] : []),
    ],
    // Since 0.5.9 (sglang#18973). It warms itself up over its own address, and shall believe its own certificate.
    tlsArgs: ['--ssl-certfile', CERTIFICATE_FILE, '--ssl-keyfile', KEY_FILE, '--ssl-ca-certs', CERTIFICATE_FILE],
  },
  'llama.cpp': {
    port: 8080,
    command: [],
    server: ['/app/llama-server'],
    keyVariable: 'LLAMA_API_KEY',
    // Its context is shared by its slots.
    args: ({ workload, weights, port, gpus }) => [
      ...[weights.startsWith('/') ? '-m' : '-hf', weights, '--alias', workload.model],
      ...['--host', '0.0.0.0', '--port', String(port)],
      ...['-c', String(workload.contextTokens * workload.slots), '-np', String(workload.slots)],
      ...(gpus > 0 ? ['-ngl', '999'] : []),
    ],
    // Where it was built with OpenSSL, as its images are since llama.cpp#16290.
    tlsArgs: ['--ssl-cert-file', CERTIFICATE_FILE, '--ssl-key-file', KEY_FILE],
  },
};

export interface StartGiven {
  readonly gpus: number;
  readonly apiKey: string;
  /** Of its weights. */
  readonly token: string | null;
  /** Certificate and key that it shows, as PEM in one line; null: it speaks plain HTTP, behind an ingress. */
  readonly tls: { readonly certificate: string; readonly key: string } | null;
}

/** A string says why the workload cannot be started so. */
export function startOf(workload: Workload, given: StartGiven): Start | string {
  const { container, engine, weights = null } = workload;
  const { gpus, apiKey, token, tls } = given;
  const own = Object.entries(container?.env ?? {}).map(([name, value]) => `${name}=${value}`);
  const env = [...own, ...variablesOf(weights, engine, token), ...tlsVariables(tls)];
  if (engine === 'openai') return startOther(workload, env, given);
  const start = ENGINES[engine];
  const file = weights && isUrl(weights.source) ? fileOf(weights) : null;
  const problem = weightsProblem(weights, engine);
  if (problem !== null) return problem;
  const port = container?.port ?? start.port;
  const name = file ?? weights?.source ?? container?.weights ?? workload.model;
  const revision = weights?.revision ?? container?.revision ?? null;
  const args = [
    ...(container?.args ?? start.args({ workload, weights: name, revision, port, gpus, apiKey })),
    ...(tls === null ? [] : start.tlsArgs),
  ];
  const keyed = [...env, `${start.keyVariable ?? 'API_KEY'}=${apiKey}`];
  const server = [...(container?.command ?? start.server), ...args];
  if (weights && (file !== null || weights.sha256)) {
    const [script, ...parameters] = file === null ? snapshotCheck(weights) : fileCheck(weights, file);
    const sums = weights.sha256 ? [`WEIGHTS_SHA256=${sumsOf(weights.sha256)}`] : [];
    return inShell(tls === null ? script : `${TLS_FILES}; ${script}`, [...parameters, ...server], {
      env: [...keyed, ...sums],
      port,
    });
  }
  if (tls !== null) return inShell(`${TLS_FILES}; exec "$@"`, server, { env: keyed, port });
  return { command: container?.command ?? start.command, args, env: keyed, port };
}

/** An image that nothing is known of but that it answers as OpenAI does. */
function startOther(
  { container, weights = null }: Workload,
  env: readonly string[],
  { apiKey, tls }: StartGiven,
): Start | string {
  if (!container?.port) return 'a pool of engine openai must say how its image is started: container.port at least';
  if (weights?.sha256) return 'weights.sha256 cannot be checked in an image of engine openai: pin weights.revision';
  const { command, args, port } = container;
  const keyed = [...env, `API_KEY=${apiKey}`];
  if (tls === null) return { command: command ?? [], args: args ?? [], env: keyed, port };
  if (container.tls !== true || command === null || command.length === 0) {
    return (
      'prompts would go to its port in the clear: container.expose: ingress has the provider speak TLS for it, or ' +
      `container.tls with container.command, where the image serves TLS with ${CERTIFICATE_FILE} and ${KEY_FILE}`
    );
  }
  return inShell(`${TLS_FILES}; exec "$@"`, [...command, ...(args ?? [])], { env: keyed, port });
}

/** What the script is given: its own parameters, then the server and its arguments. */
function inShell(script: string, parameters: readonly string[], rest: Pick<Start, 'env' | 'port'>): Start {
  return { command: ['/bin/sh', '-c', script, 'start'], args: parameters, ...rest };
}

/** A manifest holds no control characters: lines end in | there. */
export function inOneLine(pem: string): string {
  return pem.trimEnd().replaceAll('\n', '|');
}

function tlsVariables(tls: StartGiven['tls']): string[] {
  if (tls === null) return [];
  return [`${TLS_VARIABLES.certificate}=${tls.certificate}`, `${TLS_VARIABLES.key}=${tls.key}`];
}

/** The key is in a file of the server's own, and no more in its environment. */
const TLS_FILES = [
  `set -e; (umask 077; mkdir -p ${TLS_FOLDER}`,
  `printf '%s|' "$${TLS_VARIABLES.certificate}" | tr '|' '\\n' > ${CERTIFICATE_FILE}`,
  `printf '%s|' "$${TLS_VARIABLES.key}" | tr '|' '\\n' > ${KEY_FILE}); unset ${TLS_VARIABLES.key}`,
].join('; ');

function isUrl(source: string): boolean {
  return source.startsWith('https://');
}

function weightsProblem(weights: Weights | null, engine: Engine): string | null {
  if (!weights) return null;
  const { source, revision, sha256 } = weights;
  if (isUrl(source)) {
    if (engine !== 'llama.cpp') return 'weights.source is an address: only llama.cpp loads a file by its address';
    if (revision !== null) return 'weights.revision does not go with an address: the address names the revision itself';
    return null;
  }
  if (source.includes('://')) return 'weights.source must be org/model, or an https:// address';
  if (engine !== 'llama.cpp' || (revision === null && !sha256)) return null;
  return 'llama.cpp pins no revision of org/model: name the file, https://huggingface.co/ORG/MODEL/resolve/REVISION/FILE';
}

/** Where the engine keeps what it fetched, and the token it fetches it with. */
function variablesOf(weights: Weights | null, engine: Engine, token: string | null): string[] {
  const cache = engine === 'llama.cpp' ? [`LLAMA_CACHE=${WEIGHTS_MOUNT}`] : hubCache(engine);
  return [...(weights?.volume ? cache : []), ...(token === null ? [] : [`HF_TOKEN=${token}`])];
}

/** Text Embeddings Inference, an engine of the kind openai, has a variable of its own. */
function hubCache(engine: Engine): string[] {
  const home = `HF_HOME=${WEIGHTS_MOUNT}/huggingface`;
  return engine === 'openai' ? [home, `HUGGINGFACE_HUB_CACHE=${WEIGHTS_MOUNT}/huggingface/hub`] : [home];
}

function fileOf({ source, volume }: Weights): string {
  const name = new URL(source).pathname.split('/').at(-1) ?? 'model.gguf';
  return `${volume ? WEIGHTS_MOUNT : '/tmp/weights'}/${name === '' ? 'model.gguf' : name}`;
}

/** "hash  name" by lines, with | for their ends: a manifest holds no control characters. */
function sumsOf(sha256: Readonly<Record<string, string>>): string {
  return Object.entries(sha256)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, hash]) => `${hash}  ${name}`)
    .join('|');
}

const CHECK = `printf %s "$WEIGHTS_SHA256" | tr '|' '\\n' | sha256sum -c -`;

/** vLLM's and SGLang's images have Python and huggingface_hub: the very files that the engine will load are checked. */
function snapshotCheck({ source, revision }: Weights): [string, ...string[]] {
  const fetch =
    'import sys, huggingface_hub as h; ' +
    'print(h.snapshot_download(sys.argv[1], revision=sys.argv[2] or None, ignore_patterns=["original/*"]))';
  const script = `set -e; d="$(python3 -c '${fetch}' "$1" "$2")"; shift 2; (cd "$d" && ${CHECK}); exec "$@"`;
  return [script, source, revision ?? ''];
}

/** llama.cpp's image has curl. A file whose hash is another is thrown away, so that the next start fetches it anew. */
function fileCheck({ source, sha256 }: Weights, file: string): [string, ...string[]] {
  const folder = 'd="$(dirname "$2")"; mkdir -p "$d"';
  const auth = '${HF_TOKEN:+-H "Authorization: Bearer $HF_TOKEN"}';
  const fetch = `[ -s "$2" ] || { curl -fsSL --retry 5 ${auth} -o "$2.part" "$1"; mv "$2.part" "$2"; }`;
  const check = sha256 ? `; (cd "$d" && ${CHECK}) || { rm -f "$2"; exit 1; }` : '';
  return [`set -e; ${folder}; ${fetch}${check}; shift 2; exec "$@"`, source, file];
}
