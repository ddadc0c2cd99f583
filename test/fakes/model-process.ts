/**
 * A model server in a process of its own, so that it lives on when the gateway before it is killed. It makes as many
 * tokens as `max_tokens` says, streamed one each `STEP_MS`, and tells exact counts. `node model-process.ts`
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../../src/clock.ts';
import { eventsOf, wholeOf, type Answer } from './model-replies.ts';

const STEP_MS = 40;

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const body = JSON.parse(Buffer.concat(parts).toString()) as { stream?: boolean; max_tokens?: number };
  const said: Answer = { pieces: Array.from({ length: body.max_tokens ?? 1 }, (_, at) => `t${at} `) };
  if (body.stream !== true) {
    await systemClock.sleep(STEP_MS);
    response.setHeader('content-type', 'application/json').end(JSON.stringify(wholeOf(said)));
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const event of eventsOf(said)) {
    if (response.destroyed) return;
    response.write(event);
    await systemClock.sleep(STEP_MS);
  }
  response.end();
}

const server = createServer({ noDelay: true, keepAliveTimeout: 60_000 }, (request, response) => {
  response.on('error', () => undefined);
  serve(request, response).catch(() => response.destroy());
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`model server ready on http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
// The pipe ends with whoever started this, however that ended.
process.stdin.on('end', () => process.exit(0)).resume();
