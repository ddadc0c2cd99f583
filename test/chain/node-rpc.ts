import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { sha256 } from '@cosmjs/crypto';
import { toHex } from '@cosmjs/encoding';
import { until } from '../fakes/clock.ts';

/** CometBFT's JSON-RPC as it is on the wire, without a client that tidies it. */
export interface RpcReply {
  readonly jsonrpc: string;
  readonly id: unknown;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string; readonly data: string };
}

export async function call(rpcUrl: string, method: string, params: unknown): Promise<RpcReply> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 7, method, params });
  const reply = await fetch(rpcUrl, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
  return (await reply.json()) as RpcReply;
}

export interface CheckResult {
  readonly code: number;
  readonly codespace: string;
  readonly log: string;
  readonly hash: string;
}

export interface TxReply {
  readonly height: string;
  readonly tx_result: {
    readonly code: number;
    readonly codespace: string;
    readonly log: string;
    readonly gas_used: string;
    readonly events: readonly { readonly type: string }[];
  };
}

export const hashOf = (tx: Uint8Array): string => toHex(sha256(tx)).toUpperCase();

export const broadcast = (rpcUrl: string, tx: Uint8Array): Promise<RpcReply> =>
  call(rpcUrl, 'broadcast_tx_sync', { tx: Buffer.from(tx).toString('base64') });

export const lookUp = (rpcUrl: string, hash: string): Promise<RpcReply> =>
  call(rpcUrl, 'tx', { hash: Buffer.from(hash, 'hex').toString('base64'), prove: false });

/** Waits until it is in a block. */
export async function included(rpcUrl: string, hash: string): Promise<TxReply> {
  let found: RpcReply | undefined;
  await until(
    `${hash} is in a block`,
    async () => {
      found = await lookUp(rpcUrl, hash);
      return found.result !== undefined;
    },
    60_000,
  );
  return found?.result as TxReply;
}

export interface Proxy {
  readonly url: string;
  /** What went through, by method. */
  readonly asked: string[];
  /** Null: the reply is lost. */
  change: (method: string, params: Readonly<Record<string, unknown>>, reply: string) => string | null;
}

/** Stands before the node and changes what comes back. */
export async function openProxy(t: TestContext, target: string): Promise<Proxy> {
  const proxy: { url: string } & Proxy = { url: '', asked: [], change: (_method, _params, reply) => reply };
  const server = createServer((incoming, response) => {
    void (async () => {
      const body = await text(incoming);
      const { method, params } = JSON.parse(body) as { method: string; params: Record<string, unknown> };
      proxy.asked.push(method);
      const reply = await fetch(target, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
      const changed = proxy.change(method, params, await reply.text());
      if (changed === null) response.destroy();
      else response.writeHead(200, { 'content-type': 'application/json' }).end(changed);
    })().catch(() => response.destroy());
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return proxy;
}
