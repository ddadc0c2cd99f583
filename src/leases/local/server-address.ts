import { AppError } from '../../errors.ts';

/**
 * Where a provider that joined says its model server answers. The gateway will send requests there, so it may only be the
 * machine that talks to us, or one that the operator named: otherwise a provider could have us call whatever we reach.
 * @param peer the address that the provider's requests come from; null when it cannot be known
 * @param hosts names and addresses that the operator allows instead
 * @returns the address without a path
 * @throws AppError `invalid_request`
 */
export function checkServerAddress(text: string, peer: string | null, hosts: readonly string[]): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) throw refusal('must be an http:// or https:// address');
  if (url.username !== '' || url.password !== '') throw refusal('must hold no user or password');
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '' || /[?#]/.test(text))
    throw refusal('must be an address without a path');
  const host = normalizeHost(url.hostname);
  if (hosts.length > 0) {
    if (!hosts.some((allowed) => normalizeHost(allowed) === host))
      throw refusal("names a host that is not among this provider's hosts in the configuration");
  } else if (peer === null) {
    throw refusal('cannot be checked, as a proxy hides where you are: have your hosts added to the configuration');
  } else if (normalizeHost(peer) !== host) {
    throw refusal(`must be at ${peer}, from where you call, or at one of your hosts in the configuration`);
  }
  return url.origin;
}

function refusal(why: string): AppError {
  return new AppError('invalid_request', `url: ${why}`, { param: 'url' });
}

/** One spelling per host: brackets off, IPv6 shortened, an IPv4 address in IPv6's clothes as what it is. */
export function normalizeHost(host: string): string {
  const bare = host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(bare)?.[1];
  if (mapped !== undefined) return mapped;
  const literal = bare.includes(':') ? `http://[${bare}]` : `http://${bare}`;
  if (!URL.canParse(literal)) return bare;
  const parsed = new URL(literal).hostname.replace(/^\[(.*)\]$/, '$1');
  const hex = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(parsed);
  if (hex === null) return parsed;
  const [high, low] = [Number.parseInt(hex[1] ?? '0', 16), Number.parseInt(hex[2] ?? '0', 16)];
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}
