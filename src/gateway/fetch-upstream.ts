import type { Upstream } from './upstream.ts';

/** The same over `fetch`, for workerd and for tests without sockets. */
export function createFetchUpstream(fetcher: typeof fetch): Upstream {
  return {
    send: ({ url, certificate = null, path, method, headers, body }, handler) => {
      const controller = new AbortController();
      let paused: Promise<void> | null = null;
      let unpause: () => void = () => undefined;
      const run = async (): Promise<void> => {
        // `fetch` takes no certificate but those of public authorities.
        if (certificate !== null) throw new Error('the model server has a certificate of its own');
        handler.onSent?.();
        const response = await fetcher(`${url.replace(/\/+$/, '')}${path}`, {
          method,
          headers,
          body,
          signal: controller.signal,
          // A model server must not send our key and the prompt elsewhere.
          redirect: 'manual',
        });
        handler.onHead(response.status, Object.fromEntries(response.headers));
        const reader = response.body?.getReader();
        while (reader) {
          await paused;
          const { done, value } = await reader.read();
          if (controller.signal.aborted || done) break;
          handler.onData(value);
        }
        if (!controller.signal.aborted) handler.onEnd();
      };
      run().catch((error: unknown) => {
        if (!controller.signal.aborted) handler.onError(error instanceof Error ? error : new Error(String(error)));
      });
      return {
        pause: () => {
          paused ??= new Promise((resolve) => {
            unpause = resolve;
          });
        },
        resume: () => {
          paused = null;
          unpause();
        },
        abort: () => {
          controller.abort();
          unpause();
        },
      };
    },
    close: () => Promise.resolve(),
  };
}
