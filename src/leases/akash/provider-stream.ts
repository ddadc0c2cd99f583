import { WebSocket, type Client } from 'undici';

/** Lines that wait for a slow reader; older ones are dropped, and that is said. */
const QUEUE_MAX = 2000;
const FRAME_BYTES_MAX = 64_000;
/** Akash's own codes begin here: 4000 no running pods, 4001 no such lease. */
const FAILED = 4000;

/**
 * Frames of a provider's stream, as they come, until it ends or `signal` says so. The client is the stream's own and is
 * gone with it.
 * @throws Error when the provider cannot be reached or ends the stream with an error
 */
export async function* streamFrames(
  url: URL,
  { client, token, signal }: { readonly client: Client; readonly token: string; readonly signal: AbortSignal },
): AsyncGenerator<string, void> {
  const socket = new WebSocket(url, { dispatcher: client, headers: { authorization: `Bearer ${token}` } });
  const waiting: string[] = [];
  let dropped = 0;
  let end: { readonly error: Error | null } | null = null;
  let wake = (): void => undefined;
  const finish = (error: Error | null): void => {
    end ??= { error };
    wake();
  };
  const cut = (): void => finish(null);
  signal.addEventListener('abort', cut, { once: true });
  if (signal.aborted) cut();
  socket.addEventListener('close', ({ code, reason }) => finish(code < FAILED ? null : closing(code, reason)));
  socket.addEventListener('error', ({ error }: { error?: unknown }) =>
    finish(error instanceof Error ? error : new Error('the provider closed the stream')),
  );
  socket.addEventListener('message', ({ data }: { data: unknown }) => {
    waiting.push(String(data).slice(0, FRAME_BYTES_MAX));
    if (waiting.length > QUEUE_MAX) {
      waiting.shift();
      dropped += 1;
    }
    wake();
  });
  try {
    for (;;) {
      if (dropped > 0) {
        const message = `${dropped} lines were dropped: they came faster than they were read`;
        dropped = 0;
        yield JSON.stringify({ name: 'underbid', message });
      }
      const next = waiting.shift();
      if (next !== undefined) yield next;
      else if (end !== null) break;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
    const { error } = end as { error: Error | null };
    if (error !== null) throw error;
  } finally {
    signal.removeEventListener('abort', cut);
    socket.close();
    await client.destroy();
  }
}

function closing(code: number, reason: string): Error {
  return new Error(`the provider closed the stream (${code}): ${reason.slice(0, 200) || 'no reason given'}`);
}
