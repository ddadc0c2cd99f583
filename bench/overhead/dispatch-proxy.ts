/**
 * The floor for a gateway on Node: a bare node:http server and undici's `dispatch`, status, headers and bytes passed on
 * and nothing else: no key, no limits, no account, no deadlines, not even a routing table.
 * `node dispatch-proxy.ts UPSTREAM_URL [PORT [CONNECTIONS]]`
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Pool, type Dispatcher } from 'undici';

const upstream = process.argv[2] ?? '';
const connections = Number(process.argv[4] ?? 1024);
const pool = new Pool(upstream, { connections, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 });
const server = createServer({ noDelay: true, keepAliveTimeout: 60_000 }, forward);

server.listen({ port: Number(process.argv[3] ?? 0), host: '127.0.0.1', backlog: 2048 }, () => {
  const address = server.address();
  if (address !== null && typeof address === 'object') console.log(`proxy ready on http://127.0.0.1:${address.port}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
process.once('SIGTERM', () => process.exit(0));

function forward(request: IncomingMessage, response: ServerResponse): void {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    const body = parts.length === 1 ? (parts[0] ?? null) : Buffer.concat(parts);
    const { url: path = '/', method = 'GET' } = request;
    const type = request.headers['content-type'];
    const headers = type === undefined ? {} : { 'content-type': type };
    pool.dispatch({ path, method, headers, body }, new Pass(response));
  });
}

class Pass implements Dispatcher.DispatchHandler {
  readonly response: ServerResponse;

  constructor(response: ServerResponse) {
    this.response = response;
  }

  // undici takes an object for a handler only if it has this.
  onRequestStart(): void {}

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: Record<string, string | string[]>): void {
    this.response.writeHead(status, headers);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.response.write(chunk)) return;
    controller.pause();
    this.response.once('drain', () => controller.resume());
  }

  onResponseEnd(): void {
    this.response.end();
  }

  onResponseError(): void {
    if (this.response.headersSent) this.response.destroy();
    else this.response.writeHead(502).end();
  }
}
