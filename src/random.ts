/** The only door to randomness: passed in as an argument, so tests can seed it. */
export type RandomBytes = (length: number) => Uint8Array<ArrayBuffer>;

export const systemRandom: RandomBytes = (length) => crypto.getRandomValues(new Uint8Array(length));

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Base 62, without bias: bytes of 248 and above are drawn again. 22 characters hold 131 bits. */
export function randomText(random: RandomBytes, length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of random(length - text.length + 8)) {
      if (byte < 248 && text.length < length) text += ALPHABET[byte % 62];
    }
  }
  return text;
}

/** Cheap unique ids for one process: a random prefix and a counter, so that no request waits for entropy. */
export function createIds(random: RandomBytes): (prefix: string) => string {
  const run = randomText(random, 14);
  let count = 0;
  return (prefix) => {
    count += 1;
    return `${prefix}${run}${count.toString(36).padStart(8, '0')}`;
  };
}
