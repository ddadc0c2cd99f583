import { join } from 'node:path';
import { POOL, type Headers } from '../overhead/chat.ts';
import { PRICE_NANO_USD } from '../overhead/gateway.ts';

/**
 * The gateways beside ours: where each comes from, how it is started, and what it does for a request. Pure: text and
 * paths only.
 */
export interface Rival {
  readonly name: string;
  readonly version: string;
  readonly source: Source;
  /** On the disk once installed, roughly. */
  readonly megabytes: number;
  /** What a request is checked for before it is passed on, as it is configured here. */
  readonly checks: string;
  /** What is known of it afterwards. */
  readonly accounts: string;
  launch(place: Place): Launch;
}

/** Every package below it is pinned too, in `pins/NAME.txt` or `pins/NAME.json`. */
export type Source =
  | { readonly registry: 'pypi'; readonly requirement: string }
  | { readonly registry: 'npm'; readonly manifest: Readonly<Record<string, unknown>> };

export interface Place {
  readonly installed: string;
  readonly port: number;
  /** For what it listens to besides. */
  readonly sidePort: number;
  readonly mockPort: number;
  /** What clients send. */
  readonly key: string;
  /** Where its configuration file will be. */
  readonly configPath: string;
  /** The URL of `loopback.ts`. */
  readonly loopback: string;
}

export interface Launch {
  /** Undefined: Node. */
  readonly command?: string;
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Text of the configuration file. */
  readonly config?: string;
  readonly headers?: Headers;
}

/** A program of a virtual environment, given to its Python: run itself it would look for where it was installed. */
function pythonProgram(
  { installed }: Place,
  name: string,
  args: readonly string[],
  env: Launch['env'] = {},
): Pick<Launch, 'command' | 'file' | 'args' | 'env'> {
  return { command: join(installed, 'bin', 'python'), file: join(installed, 'bin', name), args, env };
}

/** Not 2e-8, which some YAML readers take for text. */
const usd = (nanoUsd: number): string => (nanoUsd / 1e9).toFixed(9);
const model = ({ mockPort }: Place): string => `http://127.0.0.1:${mockPort}`;

/**
 * 1.106.12 and not 1.110.2: the `[proxy]` of 1.108.14, 1.109.3 and 1.110.2 names parts that were not on the registry. As its
 * page on production has it: a master key, one Uvicorn worker for a core, JSON logs, errors only. With the prices that
 * ours charges, so that it prices each answer too. Customers' keys, budgets and stored spend need its Postgres, whose
 * client fetches engines from elsewhere than the registry. What a model costs is read from its package and not fetched.
 */
const LITELLM: Rival = {
  name: 'litellm',
  version: '1.106.12',
  source: { registry: 'pypi', requirement: 'litellm[proxy]==1.106.12' },
  megabytes: 740,
  checks: 'one master key',
  accounts: "each answer's price, which it tells and does not keep",
  launch: (place) => ({
    ...pythonProgram(
      place,
      'litellm',
      ['--config', place.configPath, '--host', '127.0.0.1', '--port', String(place.port), '--num_workers', '1'],
      { LITELLM_MODE: 'PRODUCTION', LITELLM_LOG: 'ERROR', LITELLM_LOCAL_MODEL_COST_MAP: 'True' },
    ),
    config: `model_list:
  - model_name: ${POOL}
    litellm_params:
      model: openai/mock
      api_base: ${model(place)}/v1
      api_key: sk-mock
      input_cost_per_token: ${usd(PRICE_NANO_USD.input)}
      output_cost_per_token: ${usd(PRICE_NANO_USD.output)}
general_settings:
  master_key: ${place.key}
litellm_settings:
  request_timeout: 600
  set_verbose: false
  json_logs: true
`,
  }),
};

/**
 * Its open version has no keys and no configuration file: each request says in headers where it goes. The server for
 * Node that its own range resolves to today makes every stream fail ("immutable"), hence the older one.
 */
const PORTKEY: Rival = {
  name: 'portkey',
  version: '1.15.2',
  source: {
    registry: 'npm',
    manifest: {
      private: true,
      dependencies: { '@portkey-ai/gateway': '1.15.2' },
      overrides: { '@hono/node-server': '1.12.2' },
    },
  },
  megabytes: 25,
  checks: 'nothing',
  accounts: 'nothing',
  launch: (place) => ({
    file: join(place.installed, 'node_modules', '@portkey-ai', 'gateway', 'build', 'start-server.js'),
    args: [`--port=${place.port}`, '--headless'],
    env: { NODE_ENV: 'production', NODE_OPTIONS: `--import=${place.loopback}` },
    headers: { 'x-portkey-provider': 'openai', 'x-portkey-custom-host': `${model(place)}/v1` },
  }),
};

/** Both routers keep their defaults: cache-aware routing, circuit breakers, metrics on a port of their own. */
const routerArgs = (place: Place): string[] => [
  ...['--host', '127.0.0.1', '--port', String(place.port)],
  ...['--prometheus-host', '127.0.0.1', '--prometheus-port', String(place.sidePort)],
  ...['--worker-urls', model(place), '--log-level', 'error'],
];

/** Not a gateway for strangers: it stands before one's own model servers. In Rust, as the next. */
const VLLM_ROUTER: Rival = {
  name: 'vllm-router',
  version: '0.1.17',
  source: { registry: 'pypi', requirement: 'vllm-router==0.1.17' },
  megabytes: 130,
  checks: 'nothing',
  accounts: 'nothing',
  launch: (place) => pythonProgram(place, 'vllm-router', routerArgs(place)),
};

const SGLANG_ROUTER: Rival = {
  name: 'sglang-router',
  version: '0.3.2',
  source: { registry: 'pypi', requirement: 'sglang-router==0.3.2' },
  megabytes: 150,
  checks: 'one key',
  accounts: 'nothing',
  launch: (place) => pythonProgram(place, 'sglang-router', ['launch', ...routerArgs(place), '--api-key', place.key]),
};

export const RIVALS: readonly Rival[] = [LITELLM, PORTKEY, VLLM_ROUTER, SGLANG_ROUTER];

/** The same of ours and of the floor. */
export const OURS = [
  { name: 'dispatch', version: '', checks: 'nothing', accounts: 'nothing' },
  {
    name: 'underbid',
    version: '',
    checks: 'key, model, rate limits, credit',
    accounts: 'each answer held before and charged after, in a double-entry ledger on the disk',
  },
] as const;
