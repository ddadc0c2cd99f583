import { Client } from 'undici';
import { z } from 'zod';
import { deadline, readLimited } from './limits.ts';
import { providerConnector, type ConnectOptions, type ShownCertificate } from './provider-connect.ts';

export interface Visit extends ShownCertificate {
  /** Leases that it has; null: it does not say. */
  readonly leases: number | null;
}

const REPLY_BYTES_MAX = 1_000_000;

const statusSchema = z.object({ cluster: z.object({ leases: z.number().nullish() }).nullish() });

/** Whether a provider answers as the one that the chain names: its certificate, then `GET /status`, with no token. @throws Error */
export async function visitProvider(hostUri: string, options: ConnectOptions): Promise<Visit> {
  const { origin, protocol } = new URL(hostUri);
  if (protocol !== 'https:') throw new Error("the provider's address is not an https:// one");
  const shown: ShownCertificate[] = [];
  const connect = providerConnector({ ...options, onCertificate: (certificate) => shown.push(certificate) });
  const client = new Client(origin, { connect, headersTimeout: 0, bodyTimeout: 0 });
  const late = deadline(options.clock, options.connectMs, options.signal, 'the provider did not answer in time');
  try {
    const reply = await client.request({ method: 'GET', path: '/status', signal: late.signal });
    const text = await readLimited(reply.body, REPLY_BYTES_MAX);
    if (reply.statusCode !== 200) throw new Error(`the provider answered ${reply.statusCode}`);
    const parsed = statusSchema.safeParse(JSON.parse(text));
    const [certificate] = shown;
    if (!certificate || !parsed.success) throw new Error('what answers is no provider');
    return { ...certificate, leases: parsed.data.cluster?.leases ?? null };
  } finally {
    late.cancel();
    await client.destroy();
  }
}
