import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { describeReadError, readBounded } from './bounded-read.ts';
import { Secret } from './secret.ts';

/** What `underbid devnet` leaves for a gateway to find: where the emulated network is and whose money is spent on it. */
export interface DevnetFile {
  readonly rpc: readonly string[];
  readonly chainId: string;
  readonly key: Secret;
  /** Those whose signature makes a provider an audited one there. */
  readonly auditors: readonly string[] | null;
}

const BYTES_MAX = 65_536;

const devnetSchema = z.object({
  rpc: z.union([z.string(), z.array(z.string()).min(1)]),
  chain_id: z.string().min(1),
  tenant: z.object({ keyfile: z.string().min(1) }),
  auditor: z.string().optional(),
});

/** A string says why the file is of no use. */
export function readDevnetFile(path: string): DevnetFile | string {
  let text: string | null;
  try {
    text = readBounded(path, BYTES_MAX);
  } catch (error) {
    return `the file ${describeReadError(error)}: start \`underbid devnet\` first, which writes it`;
  }
  const parsed = devnetSchema.safeParse(parseJson(text ?? ''));
  if (!parsed.success) return 'is not a file that `underbid devnet` wrote';
  const { rpc, chain_id: chainId, tenant, auditor } = parsed.data;
  try {
    const key = readBounded(resolve(dirname(path), tenant.keyfile), BYTES_MAX);
    if (key === null || key.trim() === '') return 'names a key file that holds no key';
    return {
      rpc: [rpc].flat(),
      chainId,
      key: new Secret(key.trim()),
      auditors: auditor === undefined ? null : [auditor],
    };
  } catch (error) {
    return `names a key file that ${describeReadError(error)}`;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
