import { ripemd160, sha256 } from '@cosmjs/crypto';
import { fromBech32, toBech32, toUtf8 } from '@cosmjs/encoding';

const PREFIX = 'akash';
/** BIP 173. Without a limit cosmjs 0.39 asks @scure/base for an infinite one, which that refuses. */
const LENGTH_MAX = 90;

export const moduleAddress = (name: string): string => toBech32(PREFIX, sha256(toUtf8(name)).slice(0, 20));

export const addressOfPubkey = (compressed: Uint8Array): string => toBech32(PREFIX, ripemd160(sha256(compressed)));

export function isAddress(text: string): boolean {
  try {
    const { prefix, data } = fromBech32(text, LENGTH_MAX);
    return prefix === PREFIX && (data.length === 20 || data.length === 32);
  } catch {
    return false;
  }
}
