import assert from 'node:assert/strict';
import type { FleetOperations } from '../../src/gateway/deps.ts';
import type { AdminRole } from '../../src/ledger/access.ts';
import type { Gateway } from './gateway.ts';

export const ROOT = 'sk-ub-admin';

/** One who calls the admin API with a key of theirs. */
export interface AdminCaller {
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
  /** The body of a reply of that status. */
  ask(method: string, path: string, body?: unknown, status?: number): Promise<Record<string, unknown>>;
}

export function adminOf(gateway: Gateway, key = ROOT): AdminCaller {
  const send: AdminCaller['send'] = (method, path, body, headers = {}) =>
    gateway.fetch(path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    });
  const ask: AdminCaller['ask'] = async (method, path, body, status = 200) => {
    const response = await send(method, path, body);
    const text = await response.text();
    assert.equal(response.status, status, text);
    return (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
  };
  return { send, ask };
}

export async function adminKey(root: AdminCaller, role: AdminRole, more: Record<string, unknown> = {}) {
  const { id, key } = await root.ask('POST', '/admin/admin-keys', { name: `a ${role}`, role, ...more }, 201);
  return { id: String(id), key: String(key) };
}

/** A fleet that has nothing and can do everything. */
export const emptyFleet: FleetOperations = {
  pools: () => [],
  advice: () => [],
  pool: () => ({}),
  putPool: async () => ({ created: false, pool: {} }),
  deletePool: async () => undefined,
  pausePool: async () => ({}),
  resumePool: async () => ({}),
  wakeAllowance: () => ({}),
  setWakeAllowance: async () => ({}),
  replicas: () => [],
  orders: async () => [],
  leases: async () => [],
  lease: async () => ({}),
  leaseLogs: async () => (async function* () {})(),
  closeLease: async () => ({}),
  disputeLease: async () => ({}),
  disputes: async () => [],
  dispute: async () => ({}),
  judgeDispute: async () => ({}),
  markets: () => [],
  providers: async () => [],
  margin: async () => ({ data: [], total: {} }),
  treasury: async () => ({ data: [] }),
  panic: async () => ({}),
  startPanic: async () => ({}),
  endPanic: async () => ({}),
  decisions: async () => [],
};
