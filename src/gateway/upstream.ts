/** Requests to model servers. undici's `dispatch` keeps this on Node, `fetch` on workerd; the relay knows neither. */
export interface UpstreamRequest {
  readonly url: string;
  /** PEM of the one certificate that is taken, whatever name it bears; null: what public authorities vouch for. */
  readonly certificate?: string | null;
  readonly path: string;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
}

/** Who is asked: a replica, or one that is to become one. */
export interface Addressed {
  readonly url: string;
  readonly apiKey: string | null;
  readonly certificate?: string | null;
}

/** A POST with its key. */
export function requestTo(
  { url, apiKey, certificate = null }: Addressed,
  { path, body, streamed = false }: { readonly path: string; readonly body: string; readonly streamed?: boolean },
): UpstreamRequest {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    accept: streamed ? 'text/event-stream' : 'application/json',
  };
  if (apiKey !== null) headers['authorization'] = `Bearer ${apiKey}`;
  return { url, certificate, path, method: 'POST', headers, body };
}

/** What a call reports, in this order: at most one `onHead`, then data, then exactly one of `onEnd` and `onError`. */
export interface UpstreamHandler {
  /** There is a connection, and the request goes out on it; not called where that cannot be known. */
  onSent?(): void;
  onHead(status: number, headers: Readonly<Record<string, string>>): void;
  onData(bytes: Uint8Array): void;
  onEnd(): void;
  /** Connection refused, reset, cut or aborted. Nothing comes after it. */
  onError(error: Error): void;
}

export interface UpstreamCall {
  /** Stops reading, so that the sender's buffers fill and it slows down. */
  pause(): void;
  resume(): void;
  /** Ends the connection; the model server sees it and stops. No handler is called any more. */
  abort(): void;
}

export interface Upstream {
  send(request: UpstreamRequest, handler: UpstreamHandler): UpstreamCall;
  close(): Promise<void>;
}

export interface WholeReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** A whole reply, at most `bytesMax` long. */
export function readWhole(
  upstream: Upstream,
  request: UpstreamRequest,
  options: { readonly bytesMax: number; readonly signal: AbortSignal; readonly onBytes?: (bytes: Uint8Array) => void },
): Promise<WholeReply> {
  return new Promise((resolve, reject) => {
    const { bytesMax, signal } = options;
    const decoder = new TextDecoder();
    let head: { status: number; headers: Readonly<Record<string, string>> } | null = null;
    let text = '';
    const onAbort = (): void => {
      call.abort();
      reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    };
    const finish = (): void => signal.removeEventListener('abort', onAbort);
    const call = upstream.send(request, {
      onHead: (status, headers) => {
        head = { status, headers };
      },
      onData: (bytes) => {
        text += decoder.decode(bytes, { stream: true });
        options.onBytes?.(bytes);
        if (text.length <= bytesMax) return;
        call.abort();
        finish();
        reject(new RangeError('the reply is too large'));
      },
      onEnd: () => {
        finish();
        resolve({ status: head?.status ?? 0, headers: head?.headers ?? {}, text });
      },
      onError: (error) => {
        finish();
        reject(error);
      },
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
