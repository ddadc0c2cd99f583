import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { request } from 'undici';

/** A node of the chain that can be shut and opened: while it is shut, connections are cut. */
export interface RpcDoor {
  readonly url: string;
  open: boolean;
  /** So many blocks it says that it is behind. */
  behind: number;
}

export async function openDoor(t: TestContext, rpcUrl: string, open: boolean): Promise<RpcDoor> {
  const door: RpcDoor & { url: string } = { url: '', open, behind: 0 };
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
        .then(async ({ statusCode, body }) => response.writeHead(statusCode).end(older(await body.text(), door.behind)))
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

function older(text: string, behind: number): string {
  return text.replace(/("latest_block_height":")(\d+)/, (_, name: string, height: string) => {
    return `${name}${Math.max(1, Number(height) - behind)}`;
  });
}
