import type { Clock } from '../../clock.ts';
import type { Ms } from '../../units.ts';

/** A signal that ends with `signal` or after `ms`, whichever comes first. `cancel` when the work is done. */
export function deadline(
  clock: Clock,
  ms: Ms,
  signal: AbortSignal,
  message: string,
): { readonly signal: AbortSignal; readonly cancel: () => void } {
  const late = new AbortController();
  const cancel = clock.timer(ms, () => late.abort(new Error(message)));
  return { signal: AbortSignal.any([signal, late.signal]), cancel };
}

/** A body as text; one that is too long is refused before it is held. */
export async function readLimited(
  body: AsyncIterable<Uint8Array> & { destroy?: (error?: Error) => unknown },
  bytesMax: number,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      body.destroy?.();
      throw new Error(`the answer has more than ${bytesMax} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
