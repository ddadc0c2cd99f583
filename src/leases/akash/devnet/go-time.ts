/** Times as the chain's logs have them. */

/** `2026-11-23 03:42:26.950708153 +0000 UTC`: Go's own text of a time, of nanoseconds since 1970. */
export function goTime(ns: bigint): string {
  const [day, time] = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19).split('T');
  const nanos = String(ns % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${day} ${time}${nanos === '' ? '' : `.${nanos}`} +0000 UTC`;
}

/** `2026-11-23T03:42:26Z`, of seconds since 1970. */
export const rfc3339 = (seconds: bigint): string => `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}Z`;
