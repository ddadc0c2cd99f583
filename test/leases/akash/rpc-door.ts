import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { request } from 'undici';

/** A node of the chain that can be shut and opened: while it is shut, connections are cut. */
export interface RpcDoor {
  readonly url: string;
  open: boolean;
}

export async function openDoor(t: TestContext, rpcUrl: string, open: boolean): Promise<RpcDoor> {
  const door = { url: '', open };
  const server = createServer((asked, response) => {
    const parts: Buffer[] = [];
    asked.on('error', () => undefined);
    asked.on('data', (part: Buffer) => parts.push(part));
    asked.on('end', () => {
      if (!door.open) {
        asked.socket.destroy();
        return;
      }
      request(rpcUrl, { method: 'POST', headers: { 'content-type': 'application/json' }, body: Buffer.concat(parts) })
        .then(async ({ statusCode, body }) => response.writeHead(statusCode).end(await body.text()))
        .catch(() => response.destroy());
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  door.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return door;
}
