import type { Chain } from './chain.ts';
import { readFault } from './faults.ts';
import type { RestReply } from './rest-page.ts';

/** What no real node has: the switches over HTTP, for whoever runs the devnet as a program of its own. */
export const FAULTS_PATH = '/devnet/faults';

/** `{"fault": "provider-gone=prairie", "on": true}`; any answer lists what is on. */
export function switchFault(chain: Chain, body: Buffer | null): RestReply {
  const { fault: text, on } = parse(body);
  const fault = typeof text === 'string' ? readFault(text) : null;
  if (fault === null || typeof on !== 'boolean') {
    return { status: 400, body: { code: 3, message: 'takes {"fault": name or name=provider, "on": true or false}' } };
  }
  chain.faults.set(fault.name, on, fault.provider);
  return listFaults(chain);
}

export const listFaults = (chain: Chain): RestReply => ({ status: 200, body: { faults: chain.faults.list() } });

function parse(body: Buffer | null): { readonly fault?: unknown; readonly on?: unknown } {
  try {
    const parsed: unknown = JSON.parse(body?.toString('utf8') ?? '');
    return typeof parsed === 'object' && parsed !== null ? parsed : {};
  } catch {
    return {};
  }
}
