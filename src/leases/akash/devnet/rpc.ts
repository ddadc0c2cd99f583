import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Clock } from '../../../clock.ts';
import { describeError } from '../../../errors.ts';
import type { Chain, IndexedTx, TxResult } from './chain.ts';
import { Denial } from './denials.ts';
import { readBody, sendJson } from './http.ts';
import { answerQuery } from './queries.ts';
import type { QueryContext } from './query.ts';
import { abciResult, blockAt, blockResults, eventsJson, statusOf, txJson } from './rpc-shapes.ts';
import { hashOf } from './tx.ts';

/** CometBFT 0.38's JSON-RPC, by POST and by GET (https://docs.cometbft.com/v0.38/rpc/). */

const BODY_MAX = 4 * 1024 * 1024;
const COMMIT_WAIT_MS = 10_000;
const PAGE_MAX = 100;

export type Params = Readonly<Record<string, unknown>>;

/** What the node answers with `error`. */
class RpcError extends Error {
  readonly code: number;
  readonly data: string | undefined;

  constructor(code: number, message: string, data?: string) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

const internal = (data: string): RpcError => new RpcError(-32603, 'Internal error', data);

export function queryContext(chain: Chain): QueryContext {
  const { state, height } = chain.seen;
  return {
    state,
    height,
    mintsHalted: chain.faults.has('mint-halted'),
    simulate: (tx) => chain.simulate(tx),
  };
}

export function createRpcServer(chain: Chain, clock: Clock): Server {
  const server = createServer((request, response) => {
    respond(chain, clock, request, response).catch((error: unknown) =>
      sendJson(response, 500, failure(-1, internal(describeError(error)))),
    );
  });
  return server;
}

async function respond(chain: Chain, clock: Clock, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://node');
  if (request.method === 'GET') {
    const method = url.pathname === '/' ? 'status' : url.pathname.slice(1);
    if (!Object.hasOwn(METHODS, method)) {
      response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('404 page not found\n');
      return;
    }
    const params = Object.fromEntries([...url.searchParams].map(([key, value]) => [key, fromUri(value)]));
    const answer = await call(chain, clock, { id: -1, method, params });
    sendJson(response, 'error' in answer ? 500 : 200, answer);
    return;
  }
  const body = await readBody(request, BODY_MAX);
  const parsed = body === null ? null : tryParse(body.toString('utf8'));
  if (parsed === null) {
    sendJson(response, 500, failure(-1, new RpcError(-32700, 'Parse error. Invalid JSON', 'the body is no JSON')));
    return;
  }
  if (!Array.isArray(parsed)) {
    sendJson(response, 200, await call(chain, clock, parsed));
    return;
  }
  const answers: unknown[] = [];
  for (const one of parsed.slice(0, 100)) answers.push(await call(chain, clock, one));
  sendJson(response, 200, answers);
}

/** In addresses strings are quoted and bytes are 0x…. */
function fromUri(value: string): unknown {
  if (/^".*"$/s.test(value)) return value.slice(1, -1);
  if (/^0x[0-9a-fA-F]*$/.test(value)) return { hex: value.slice(2) };
  return value;
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function failure(id: unknown, { code, message, data }: RpcError): { error: unknown; [key: string]: unknown } {
  return { jsonrpc: '2.0', id, error: { code, message, data } };
}

async function call(chain: Chain, clock: Clock, raw: unknown): Promise<Readonly<Record<string, unknown>>> {
  const request = (typeof raw === 'object' && raw !== null ? raw : {}) as Params;
  const { id = -1, method } = request;
  const params = (
    typeof request['params'] === 'object' && request['params'] !== null ? request['params'] : {}
  ) as Params;
  try {
    const name = typeof method === 'string' ? method : '';
    const handler = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
    if (handler === undefined) throw new RpcError(-32601, 'Method not found');
    return { jsonrpc: '2.0', id, result: await handler({ chain, clock }, params) };
  } catch (error) {
    return failure(id, error instanceof RpcError ? error : internal(describeError(error)));
  }
}

interface Node {
  readonly chain: Chain;
  readonly clock: Clock;
}

type Method = (node: Node, params: Params) => unknown;

const METHODS: Readonly<Record<string, Method>> = {
  health: () => ({}),
  status: ({ chain }) => statusOf(chain),
  abci_info: ({ chain }) => ({
    response: {
      data: 'akash',
      version: 'devnet',
      last_block_height: String(chain.seen.height),
      last_block_app_hash: '',
    },
  }),
  abci_query: ({ chain }, params) => abciQuery(chain, params),
  block: ({ chain }, params) => blockAt(chain, heightOf(chain, params)) ?? missingHeight(chain, params),
  block_results: ({ chain }, params) => blockResults(chain, heightOf(chain, params)) ?? missingHeight(chain, params),
  broadcast_tx_sync: ({ chain }, params) => {
    const tx = bytesOf(params['tx'], 'base64');
    return broadcastReply(submit(chain, tx), tx);
  },
  broadcast_tx_async: ({ chain }, params) => {
    const tx = bytesOf(params['tx'], 'base64');
    submit(chain, tx);
    return { code: 0, data: '', log: '', codespace: '', hash: hashOf(tx) };
  },
  broadcast_tx_commit: (node, params) => broadcastCommit(node, bytesOf(params['tx'], 'base64')),
  tx: ({ chain }, params) => {
    const hash = bytesOf(params['hash'], 'base64').toString('hex').toUpperCase();
    const found = chain.tx(hash);
    if (found === undefined) throw internal(`tx (${hash}) not found`);
    return txJson(found);
  },
  tx_search: ({ chain }, params) => searchTxs(chain, params),
};

function bytesOf(value: unknown, encoding: 'base64'): Buffer {
  if (typeof value === 'string') return Buffer.from(value, encoding);
  if (typeof value === 'object' && value !== null && 'hex' in value) return Buffer.from(String(value.hex), 'hex');
  throw new RpcError(-32602, 'Invalid params', 'bytes are missing');
}

function heightOf(chain: Chain, { height }: Params): number {
  return height === undefined || height === null || height === '' ? chain.seen.height : Number(height);
}

function missingHeight(chain: Chain, params: Params): never {
  const height = heightOf(chain, params);
  throw internal(
    height > chain.seen.height
      ? `height ${height} must be less than or equal to the current blockchain height ${chain.seen.height}`
      : `height ${height} is not available`,
  );
}

function abciQuery(chain: Chain, { path, data }: Params): unknown {
  const request =
    typeof data === 'string'
      ? Buffer.from(data, 'hex')
      : data === undefined
        ? Buffer.alloc(0)
        : bytesOf(data, 'base64');
  const { height } = chain.seen;
  try {
    const value = answerQuery(queryContext(chain), String(path), request);
    return { response: abciResult({ value, height }) };
  } catch (error) {
    if (!(error instanceof Denial)) throw error;
    return { response: abciResult({ value: new Uint8Array(), height, failed: error }) };
  }
}

/** A node refuses bytes that it knows, before it looks at them. */
function submit(chain: Chain, tx: Uint8Array): TxResult {
  if (chain.knows(tx)) throw internal('tx already exists in cache');
  const result = chain.submit(tx);
  if (chain.faults.has('already-in-cache')) throw internal('tx already exists in cache');
  return result;
}

function broadcastReply({ code, log, codespace }: TxResult, tx: Uint8Array): unknown {
  return { code, data: '', log, codespace, hash: hashOf(tx) };
}

async function broadcastCommit({ chain, clock }: Node, tx: Uint8Array): Promise<unknown> {
  const checked = submit(chain, tx);
  const hash = hashOf(tx);
  const checkTx = resultShape(checked);
  if (checked.code !== 0) return { check_tx: checkTx, tx_result: resultShape(null), hash, height: '0' };
  const included = await new Promise<IndexedTx | null>((resolve) => {
    const cancel = clock.timer(COMMIT_WAIT_MS, () => resolve(null));
    chain.onBlock(({ txs }) => {
      const found = txs.find((one) => one.hash === hash);
      if (found === undefined) return;
      cancel();
      resolve(found);
    });
  });
  if (included === null) throw internal('timed out waiting for tx to be included in a block');
  return { check_tx: checkTx, tx_result: resultShape(included.result), hash, height: String(included.height) };
}

function resultShape(result: TxResult | null): unknown {
  if (result === null) return { code: 0, data: '', log: '', gas_wanted: '0', gas_used: '0', events: [], codespace: '' };
  return {
    code: result.code,
    data: Buffer.from(result.data).toString('base64'),
    log: result.log,
    info: '',
    gas_wanted: result.gasWanted.toString(),
    gas_used: result.gasUsed.toString(),
    events: eventsJson(result.events),
    codespace: result.codespace,
  };
}

function searchTxs(chain: Chain, { query, page, per_page: perPage, order_by: orderBy }: Params): unknown {
  const conditions = (typeof query === 'string' ? query : '').split(/\s+AND\s+/);
  const found = chain.txs().filter((tx) => conditions.every((condition) => txMatches(tx, condition)));
  if (orderBy === 'desc') found.reverse();
  const size = Math.min(PAGE_MAX, Number(perPage ?? 30) || 30);
  const from = (Math.max(1, Number(page ?? 1) || 1) - 1) * size;
  return { txs: found.slice(from, from + size).map(txJson), total_count: String(found.length) };
}

/** `tx.height=5`, `tx.height>3`, `tx.hash='…'`, `transfer.recipient='akash1…'`. */
function txMatches(tx: IndexedTx, condition: string): boolean {
  const match = /^\s*([\w.]+)\s*(>=|<=|>|<|=)\s*'?([^']*)'?\s*$/.exec(condition);
  if (!match) throw internal(`failed to parse query: ${condition.slice(0, 200)}`);
  const [, key = '', operator = '=', wanted = ''] = match;
  if (key === 'tx.hash') return tx.hash === wanted.toUpperCase();
  if (key === 'tx.height') return compare(tx.height, operator, Number(wanted));
  const dot = key.lastIndexOf('.');
  return tx.result.events.some(
    (event) =>
      event.type === key.slice(0, dot) &&
      event.attributes.some(([name, value]) => name === key.slice(dot + 1) && value === wanted),
  );
}

function compare(height: number, operator: string, wanted: number): boolean {
  if (operator === '=') return height === wanted;
  if (operator === '>') return height > wanted;
  if (operator === '<') return height < wanted;
  return operator === '>=' ? height >= wanted : height <= wanted;
}
