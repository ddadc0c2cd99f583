import { Client, type Dispatcher } from 'undici';
import { describeError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import type { LogRequest } from '../market.ts';
import { signedToken, tokenText, type Scope } from './jwt.ts';
import { deadline, readLimited } from './limits.ts';
import { streamFrames } from './provider-stream.ts';
import { readLeaseStatus, type ProviderLease } from './provider-reply.ts';
import { providerConnector, type ConnectOptions } from './provider-connect.ts';

export interface LeaseAt {
  readonly dseq: bigint;
  readonly gseq: number;
  readonly oseq: number;
}

export interface ProviderOptions extends Omit<ConnectOptions, 'connectMs'> {
  readonly hostUri: string;
  /** Who asks: the tenant's address, and its signature. */
  readonly tenant: { readonly address: string; sign(bytes: Uint8Array): Uint8Array | Promise<Uint8Array> };
  readonly timeoutMs?: Ms;
  /** Between two tries of a manifest. */
  readonly retryMs?: Ms;
}

/** `unknown`: it may have arrived. Putting the same manifest again is harmless. */
export type PutOutcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string };

const CONNECT_MS = 10_000;
const TIMEOUT_MS = 15_000;
/** A provider may take so long to put a manifest into its cluster (akash.md 2). */
const MANIFEST_MS = 130_000;
const MANIFEST_TRIES = 6;
const RETRY_MS = 6000;
const REPLY_BYTES_MAX = 1_000_000;

/** One provider's API, for one tenant. */
export class Provider {
  readonly #options: ProviderOptions;

  constructor(options: ProviderOptions) {
    this.#options = options;
  }

  /**
   * Sends the manifest, the very text that was hashed. A provider whose node lags says that there is no lease: it is
   * asked again.
   */
  async putManifest(
    at: LeaseAt,
    manifest: string,
    onTry: (reason: string) => void = () => undefined,
  ): Promise<PutOutcome> {
    const { clock, signal, retryMs = RETRY_MS } = this.#options;
    let last = { kind: 'unknown' as const, reason: 'the provider was not asked' };
    for (let tries = 0; tries < MANIFEST_TRIES; tries += 1) {
      if (tries > 0) {
        onTry(last.reason);
        await clock.sleep(retryMs, signal);
      }
      try {
        const path = `/deployment/${at.dseq}/manifest`;
        const { status, text } = await this.#ask({ at, method: 'PUT', path, scope: 'send-manifest', body: manifest });
        if (status >= 200 && status < 300) return { kind: 'done' };
        const reason = `the provider refused the manifest (${status}): ${text.slice(0, 300)}`;
        if (!mayPass(status, text)) return { kind: 'refused', reason };
        last = { kind: 'unknown', reason };
      } catch (error) {
        if (signal.aborted) throw error;
        last = { kind: 'unknown', reason: describeError(error) };
      }
    }
    return last;
  }

  /** Null: the provider knows no such lease, or not yet. @throws Error when it cannot be asked */
  async leaseStatus(at: LeaseAt): Promise<ProviderLease | null> {
    const path = `/lease/${at.dseq}/${at.gseq}/${at.oseq}/status`;
    const { status, text } = await this.#ask({ at, method: 'GET', path, scope: 'status' });
    if (status === 404) return null;
    if (status !== 200) throw new Error(`the provider answered ${status}: ${text.slice(0, 300)}`);
    return readLeaseStatus(text);
  }

  /** What the containers print, or what the cluster says of them, as frames of JSON until `end`. @throws Error when the provider cannot be asked */
  async *stream(at: LeaseAt, request: LogRequest, end: AbortSignal): AsyncGenerator<string, void> {
    const { hostUri, signal } = this.#options;
    const { what, follow, tail, service } = request;
    const name = what === 'logs' ? 'logs' : 'kubeevents';
    const url = new URL(`/lease/${at.dseq}/${at.gseq}/${at.oseq}/${name}`, hostUri);
    url.searchParams.set('follow', String(follow));
    url.searchParams.set('tail', String(tail));
    if (service !== null) url.searchParams.set('service', service);
    url.protocol = 'wss:';
    const stop = AbortSignal.any([signal, end]);
    const token = await this.#token(at, what);
    yield* streamFrames(url, { client: this.#client(), token, signal: stop });
  }

  async #ask(call: {
    readonly at: LeaseAt;
    readonly method: Dispatcher.HttpMethod;
    readonly path: string;
    readonly scope: Scope;
    readonly body?: string;
  }): Promise<{ readonly status: number; readonly text: string }> {
    const { clock, signal, timeoutMs = TIMEOUT_MS } = this.#options;
    const { at, method, path, scope, body = null } = call;
    const withinMs = body === null ? timeoutMs : Math.max(MANIFEST_MS, timeoutMs);
    const late = deadline(clock, withinMs, signal, `the provider did not answer within ${withinMs / 1000} s`);
    const client = this.#client();
    try {
      const token = await this.#token(at, scope);
      const reply = await client.request({
        method,
        path,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === null ? {} : { 'content-type': 'application/json' }),
        },
        body,
        signal: late.signal,
      });
      return { status: reply.statusCode, text: await readLimited(reply.body, REPLY_BYTES_MAX) };
    } finally {
      late.cancel();
      await client.destroy();
    }
  }

  /** One connection, for one call: each has its certificate checked. */
  #client(): Client {
    const { origin, protocol } = new URL(this.#options.hostUri);
    if (protocol !== 'https:') throw new Error("the provider's address is not an https:// one");
    const connect = providerConnector({ ...this.#options, connectMs: CONNECT_MS });
    return new Client(origin, { connect, headersTimeout: 0, bodyTimeout: 0 });
  }

  async #token({ dseq }: LeaseAt, scope: Scope): Promise<string> {
    const { tenant, trust, clock } = this.#options;
    const text = tokenText({ issuer: tenant.address, provider: trust.owner, dseq, scope: [scope], nowMs: clock.now() });
    return signedToken(text, await tenant.sign(Buffer.from(text)));
  }
}

/** Whether the same manifest may be taken a little later: a node that lags, a cluster that is busy. */
function mayPass(status: number, text: string): boolean {
  if (/version validation|hash/i.test(text)) return false;
  return status === 404 || status === 408 || status === 429 || status >= 500 || /no lease/i.test(text);
}
