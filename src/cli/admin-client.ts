import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { loadEnvironment, type Environment } from '../config/environment.ts';
import { AppError, describeError, ERROR_CODES } from '../errors.ts';
import { sendHttp, streamHttp, type HttpCall, type HttpReply } from './http-call.ts';
import type { Surface } from './terminal.ts';

export interface AdminReply {
  /** As it came: what `--json` prints. */
  readonly text: string;
  readonly body: unknown;
}

export interface AdminCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below the address: `/admin/pools`. */
  readonly path: string;
  readonly body?: unknown;
  readonly idempotencyKey?: string;
}

// A lease that is closed waits for its market.
const TIMEOUT_MS = 120_000;
const PROBE_TIMEOUT_MS = 5_000;

const errorBody = z.object({ error: z.object({ message: z.string(), code: z.string().nullish() }) });

/** A running gateway's admin API. */
export class AdminClient {
  readonly #environment: Environment;
  readonly #clock: Clock;

  constructor({ env, cwd, clock }: Pick<Surface, 'env' | 'cwd' | 'clock'>) {
    this.#environment = loadEnvironment({ env, cwd });
    this.#clock = clock;
  }

  get url(): string {
    return addressOf(this.#environment);
  }

  /** Whether anything answers there at all. */
  async isUp(): Promise<boolean> {
    if (this.#environment.port === 0) return false;
    try {
      await this.#send('/healthz', { method: 'GET' }, PROBE_TIMEOUT_MS);
      return true;
    } catch (error) {
      if (isNobodyThere(error)) return false;
      throw this.#failureOf(error);
    }
  }

  /** What `/readyz` says, ready or not. */
  async readiness(): Promise<unknown> {
    let reply: HttpReply;
    try {
      reply = await this.#send('/readyz', { method: 'GET' }, PROBE_TIMEOUT_MS);
    } catch (error) {
      throw this.#failureOf(error);
    }
    const body = parseJson(reply.text);
    if (reply.status === 200 || (reply.status === 503 && body !== undefined)) return body;
    throw this.#refusalOf(reply.status, body);
  }

  /** Throws an AppError with the server's own message; `metadata.outcome` is 'unknown' when it may have been done. */
  async call({ method, path, body, idempotencyKey }: AdminCall): Promise<AdminReply> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = {
      authorization: `Bearer ${await this.#findKey()}`,
      accept: 'application/json',
      ...(text === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': `${Buffer.byteLength(text)}` }),
      ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
    };
    let reply: HttpReply;
    try {
      reply = await this.#send(path, { method, headers, body: text }, TIMEOUT_MS);
    } catch (error) {
      throw this.#failureOf(error);
    }
    const parsed = parseJson(reply.text);
    if (reply.status >= 200 && reply.status < 300 && parsed !== undefined) return { text: reply.text, body: parsed };
    throw this.#refusalOf(reply.status, parsed);
  }

  /** A reply that goes on, by its lines; there is no limit in time but the gateway's own. */
  async *lines(path: string): AsyncGenerator<string, void> {
    const headers = { authorization: `Bearer ${await this.#findKey()}`, accept: 'application/x-ndjson' };
    const signal = new AbortController().signal;
    let refused: HttpReply | null;
    try {
      refused = yield* streamHttp(`${this.url}${path}`, { method: 'GET', headers, signal });
    } catch (error) {
      throw this.#failureOf(error);
    }
    if (refused) throw this.#refusalOf(refused.status, parseJson(refused.text));
  }

  async #findKey(): Promise<string> {
    const { adminKey, dataDir } = this.#environment;
    if (adminKey !== null) return adminKey.reveal();
    try {
      const key = readFileSync(join(dataDir, 'admin.key'), 'utf8').trim();
      if (key !== '') return key;
    } catch (error) {
      // Without a gateway there is no key yet, and that is the thing to say.
      if (!(await this.isUp())) throw this.#nobodyThere(error);
    }
    const where = join(dataDir, 'admin.key');
    throw new AppError('setup_failed', `no operator's key in ${where}: set UNDERBID_ADMIN_KEY or UNDERBID_DATA`);
  }

  async #send(path: string, call: Omit<HttpCall, 'signal'>, timeoutMs: number): Promise<HttpReply> {
    const deadline = new AbortController();
    const cancel = this.#clock.timer(timeoutMs, () => deadline.abort(new Error(`no answer in ${timeoutMs / 1000} s`)));
    try {
      return await sendHttp(`${this.url}${path}`, { ...call, signal: deadline.signal });
    } finally {
      cancel();
    }
  }

  #refusalOf(status: number, body: unknown): AppError {
    const parsed = errorBody.safeParse(body);
    if (!parsed.success) {
      return new AppError(
        'setup_failed',
        `what answers on ${this.url} is no Underbid gateway, or another version (status ${status})`,
      );
    }
    const { message, code } = parsed.data.error;
    const known = ERROR_CODES.find((one) => one === code) ?? 'internal_error';
    const metadata = status >= 500 ? { outcome: 'unknown' } : undefined;
    return new AppError(known, `${message} (${status}${code ? ` ${code}` : ''})`, { metadata });
  }

  #failureOf(error: unknown): AppError {
    if (isNobodyThere(error)) return this.#nobodyThere(error);
    const message = `the connection to ${this.url} failed: ${describeError(error)}`;
    return new AppError('setup_failed', message, { cause: error, metadata: { outcome: 'unknown' } });
  }

  #nobodyThere(cause: unknown): AppError {
    return new AppError('setup_failed', `no gateway answers on ${this.url}: start it with npm start`, { cause });
  }
}

/** A gateway that listens on every address is reached on the loopback one. */
function addressOf({ host, port }: Environment): string {
  if (port === 0) throw new AppError('setup_failed', 'UNDERBID_PORT is 0: set the port that the gateway printed');
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

/** Undefined when it is no JSON; null when there is nothing. */
function parseJson(text: string): unknown {
  try {
    return text.trim() === '' ? null : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isNobodyThere(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return ['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'EADDRNOTAVAIL'].includes(String(code));
}
