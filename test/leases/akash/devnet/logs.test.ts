import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent, WebSocket } from 'undici';
import { until } from '../../../fakes/clock.ts';
import { askProvider, chainCertificate, rawToken, type TokenOptions } from './provider-client.ts';
import {
  closeDeployment,
  createDeployment,
  createLease,
  openDevnet,
  openTenant,
  providerNamed,
  readSdl,
} from './setup.ts';

test('logs and events come as frames; without follow the stream ends by itself', async (t) => {
  const { listen } = await running(t);
  const logs = await listen('logs?follow=false&tail=10');
  await until('the end', () => logs.closed !== null);
  assert.equal(logs.closed, 1000);
  assert.deepEqual(logs.frames, [{ name: 'model-0', message: 'the model server answers' }]);
  const events = await listen('kubeevents');
  await until('the end', () => events.closed !== null);
  assert.deepEqual(
    events.frames.map((frame) => frame['reason']),
    ['Scheduled', 'Pulling', 'Started'],
  );
  const none = await listen('logs?service=other');
  await until('the end', () => none.closed !== null);
  assert.equal(none.closed, 4000, 'no running pods');
});

test('a stream that follows shows what happens next and ends with the lease', async (t) => {
  const { listen, close, crash } = await running(t);
  const logs = await listen('logs?follow=true&tail=0');
  crash('killed by a test');
  await until('a line', () => logs.frames.length > 0);
  assert.match(String(logs.frames[0]?.['message']), /^the model server ended: killed by a test$/);
  assert.equal(logs.closed, null);
  await close();
  await until('the end', () => logs.closed !== null);
});

test('streams need their own scopes, and an unknown lease says so by its close code', async (t) => {
  const { listen, listenTo } = await running(t);
  const scoped = (scope: 'logs' | 'events'): TokenOptions => ({ leases: { access: 'scoped', scope: [scope] } });
  await assert.rejects(listen('logs', scoped('events')));
  await assert.rejects(listen('kubeevents', scoped('logs')));
  const unknown = await listenTo('/lease/99/1/1/logs');
  await until('the end', () => unknown.closed !== null);
  assert.equal(unknown.closed, 4001);
});

interface Listening {
  readonly frames: Record<string, unknown>[];
  closed: number | null;
}

async function running(t: TestContext) {
  let crash = (_detail: string): void => undefined;
  const exited = new Promise<{ detail: string }>((resolve) => {
    crash = (detail) => resolve({ detail });
  });
  const devnet = await openDevnet(t, {
    startContainer: () => Promise.resolve({ url: 'http://127.0.0.1:9', exited, stop: () => Promise.resolve() }),
  });
  const { address, send } = await openTenant(t, devnet);
  const order = await readSdl();
  const prairie = providerNamed(devnet, 'prairie');
  await send([createDeployment(address, 7, order)]);
  devnet.nextBlock();
  await send([createLease(address, 7, prairie.address)]);
  const token = rawToken(devnet);
  const put = { method: 'PUT', path: '/deployment/7/manifest', token, body: order.manifest } as const;
  assert.equal((await askProvider(devnet, prairie, put)).status, 200);
  const dispatcher = new Agent({ connect: { ca: chainCertificate(devnet, prairie.address) } });
  t.after(() => dispatcher.destroy());
  const listenTo = async (path: string, options: TokenOptions = {}): Promise<Listening> => {
    const url = new URL(path, prairie.hostUri);
    url.protocol = 'wss:';
    const headers = { authorization: `Bearer ${rawToken(devnet, options)}` };
    const socket = new WebSocket(url, { dispatcher, headers });
    const listening: Listening = { frames: [], closed: null };
    socket.addEventListener('message', ({ data }: { data: unknown }) => {
      listening.frames.push(JSON.parse(String(data)) as Record<string, unknown>);
    });
    socket.addEventListener('close', ({ code }: { code: number }) => {
      listening.closed = code;
    });
    t.after(() => socket.close());
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', () => reject(new Error('refused')));
    });
    return listening;
  };
  await until('the container runs', async () => {
    const { text } = await askProvider(devnet, prairie, { method: 'GET', path: '/lease/7/1/1/status', token });
    return text.includes('"available":1');
  });
  return {
    crash: (detail: string) => crash(detail),
    listenTo,
    listen: (what: string, options?: TokenOptions) => listenTo(`/lease/7/1/1/${what}`, options),
    close: () => send([closeDeployment(address, 7)]),
  };
}
