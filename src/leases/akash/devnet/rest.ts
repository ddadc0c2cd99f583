import { createServer, type Server } from 'node:http';
import type { Chain } from './chain.ts';
import { sendJson } from './http.ts';

export function createRestServer(chain: Chain): Server {
  return createServer((_request, response) =>
    sendJson(response, 501, { code: 12, message: chain.chainId, details: [] }),
  );
}
