import type { Context } from 'hono';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import { SPEND_RESETS, type RefusalCode } from '../ledger/access.ts';
import type { EpochMs } from '../units.ts';
import { formatUsd, parseUsd, type NanoUsd } from '../units.ts';
import { hashKey } from './auth.ts';
import { BodyShare } from './body-room.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { readIdempotencyKey } from './idempotency.ts';
import { parseJsonBody } from './openai.ts';

/** What the admin routes read and show alike: names, amounts, times. */

const BODY_MAX = 1024 * 1024;

const words = (most: number) =>
  z
    .string()
    .min(1)
    .max(most)
    .refine((text) => !/\p{Cc}/u.test(text), 'has control characters');

export const name = words(200);
export const reason = words(500);
export const usd = z.string().refine((text) => {
  try {
    return parseUsd(text) > 0n;
  } catch {
    return false;
  }
}, 'is an amount in USD above zero, as a string such as "5.00"');
const TIME = 'is a time such as "2030-01-31T00:00:00Z", or seconds since 1970';
/** Until the year 9999: milliseconds given by mistake are refused. */
export const expiry = z.union(
  [z.iso.datetime({ offset: true, error: TIME }), z.number(TIME).int(TIME).positive(TIME).max(253_402_300_799, TIME)],
  TIME,
);
export const reset = z.enum(SPEND_RESETS);
export const project = words(100);

export async function bodyOf<T>(context: Context<AppEnv>, deps: AppDeps, schema: z.ZodType<T>): Promise<T> {
  return parseJsonBody(await readText(context, deps), schema);
}

async function readText(context: Context<AppEnv>, deps: AppDeps): Promise<string> {
  const share = new BodyShare(deps.bodyRoom, 'operators');
  try {
    const { text } = await deps.transport(context as unknown as Context).readBody(BODY_MAX, share);
    return text;
  } finally {
    share.give();
  }
}

/** A body that may be left out. */
export async function bodyOrNothing<T>(context: Context<AppEnv>, deps: AppDeps, schema: z.ZodType<T>): Promise<T> {
  const text = await readText(context, deps);
  return parseJsonBody(text.trim() === '' ? '{}' : text, schema);
}

/** With an Idempotency-Key the id follows from it, so a repeat finds what the first one made. */
export function idempotent(context: Context<AppEnv>, prefix: string, scope?: string): string | null {
  const key = readIdempotencyKey(context.req.header('idempotency-key'));
  if (key === null) return null;
  return `${prefix}${hashKey(scope === undefined ? key : JSON.stringify([scope, key])).slice(0, 32)}`;
}

/** A whole number of the query string. */
export function countOf(context: Context<AppEnv>, param: string, most: number): number | null {
  const text = context.req.query(param);
  if (text === undefined) return null;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > most)
    throw new AppError('invalid_request', `${param}: is a whole number from 1 to ${most}`, { param });
  return value;
}

export function timeOf(value: string | number | null | undefined): EpochMs | null {
  if (value === null || value === undefined) return null;
  return typeof value === 'number' ? value * 1000 : Date.parse(value);
}

/** When a key ends. @throws AppError `invalid_request` for a time that is over: such a key would never work */
export function endTimeOf(value: string | number | null | undefined, nowMs: EpochMs): EpochMs | null {
  const endMs = timeOf(value);
  if (endMs === null || endMs > nowMs) return endMs;
  throw new AppError('invalid_request', 'expires_at: is in the past', { param: 'expires_at' });
}

export const amountOf = (text: string | null | undefined): NanoUsd | null =>
  text === null || text === undefined ? null : parseUsd(text);
export const usdOrNull = (amount: NanoUsd | null): string | null => (amount === null ? null : formatUsd(amount));
export const iso = (ms: EpochMs | null): string | null => (ms === null ? null : new Date(ms).toISOString());

/** What the ledger refused, as an error. */
export function refused(
  { code, why }: { readonly why: string; readonly code?: RefusalCode },
  metadata?: Record<string, unknown>,
): AppError {
  return new AppError(code ?? 'invalid_request', why, code === 'idempotency_completed' ? { metadata } : {});
}

export function noAccount(id: string): AppError {
  return new AppError('not_found', `there is no account ${id.slice(0, 128)}`);
}
