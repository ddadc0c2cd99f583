import { createServer, type IncomingMessage, type Server } from 'node:http';
import { describeError } from '../../../errors.ts';
import type { Chain, TxResult } from './chain.ts';
import { Denial } from './denials.ts';
import { readBody, sendJson } from './http.ts';
import { FAULTS_PATH, listFaults, switchFault } from './rest-faults.ts';
import { pageOf, type RestReply } from './rest-page.ts';
import { REST_ROUTES } from './rest-routes.ts';
import { eventsJson, timeText } from './rpc-shapes.ts';
import { hashOf } from './tx.ts';

/** The REST API that nodes make of their gRPC queries (grpc-gateway), and the two calls that take transactions. */

const BODY_MAX = 2 * 1024 * 1024;

export function createRestServer(chain: Chain): Server {
  return createServer((request, response) => {
    answer(chain, request).then(
      ({ status, body }) => sendJson(response, status, body),
      (error: unknown) => sendJson(response, 500, { code: 13, message: describeError(error), details: [] }),
    );
  });
}

async function answer(chain: Chain, request: IncomingMessage): Promise<RestReply> {
  const url = new URL(request.url ?? '/', 'http://node');
  if (request.method === 'POST') {
    const body = await readBody(request, BODY_MAX);
    return url.pathname === FAULTS_PATH ? switchFault(chain, body) : takeTx(chain, url.pathname, body);
  }
  if (request.method !== 'GET') return failure(501, 12, 'Method Not Allowed');
  if (url.pathname === FAULTS_PATH) return listFaults(chain);
  const tx = /^\/cosmos\/tx\/v1beta1\/txs\/([0-9a-fA-F]{64})$/.exec(url.pathname);
  if (tx) return txAt(chain, tx[1] ?? '');
  for (const { pattern, run } of REST_ROUTES) {
    const match = pattern.exec(url.pathname);
    if (!match) continue;
    const found = run(
      { chain, state: chain.seen.state, query: url.searchParams, page: pageOf(url.searchParams) },
      match,
    );
    return found === null ? failure(404, 5, 'not found') : { status: 200, body: found };
  }
  return failure(501, 12, 'Not Implemented');
}

function failure(status: number, code: number, message: string): RestReply {
  return { status, body: { code, message, details: [] } };
}

function takeTx(chain: Chain, path: string, body: Buffer | null): RestReply {
  const bytes = txBytesOf(body);
  if (bytes === null) return failure(400, 3, 'tx_bytes are missing');
  if (path === '/cosmos/tx/v1beta1/simulate') {
    const result = chain.simulate(bytes);
    if (result.code !== 0) return failure(500, 2, `${result.log} with gas used: '${result.gasUsed}'`);
    const gas = { gas_wanted: '0', gas_used: result.gasUsed.toString() };
    return { status: 200, body: { gas_info: gas, result: { data: '', log: '', events: eventsJson(result.events) } } };
  }
  if (path !== '/cosmos/tx/v1beta1/txs') return failure(501, 12, 'Not Implemented');
  if (chain.knows(bytes)) {
    const log = new Denial('sdk', 19, 'tx already in mempool').message;
    return { status: 200, body: { tx_response: { code: 19, codespace: 'sdk', raw_log: log, txhash: hashOf(bytes) } } };
  }
  return { status: 200, body: { tx_response: txResponse(chain.submit(bytes), { hash: hashOf(bytes), height: 0 }) } };
}

function txBytesOf(body: Buffer | null): Uint8Array | null {
  try {
    const parsed: unknown = JSON.parse(body?.toString('utf8') ?? '');
    const text = typeof parsed === 'object' && parsed !== null && 'tx_bytes' in parsed ? parsed.tx_bytes : null;
    return typeof text === 'string' && text !== '' ? Buffer.from(text, 'base64') : null;
  } catch {
    return null;
  }
}

function txAt(chain: Chain, hash: string): RestReply {
  const tx = chain.tx(hash);
  if (tx === undefined) return failure(404, 5, `tx not found: ${hash}`);
  const timestamp = timeText(chain.block(tx.height)?.timeMs ?? chain.timeMs);
  return { status: 200, body: { tx_response: { ...txResponse(tx.result, tx), timestamp } } };
}

function txResponse(result: TxResult, { hash, height }: { readonly hash: string; readonly height: number }) {
  return {
    height: String(height),
    txhash: hash,
    codespace: result.codespace,
    code: result.code,
    data: Buffer.from(result.data).toString('hex').toUpperCase(),
    raw_log: result.log,
    logs: [],
    info: '',
    gas_wanted: result.gasWanted.toString(),
    gas_used: result.gasUsed.toString(),
    tx: null,
    events: eventsJson(result.events),
  };
}
