import { availableParallelism, totalmem } from 'node:os';
import { InvalidArgumentError } from 'commander';
import { SECRET_ADVICE, secretSchema } from '../config/fields.ts';
import type { Secret } from '../config/secret.ts';
import { resolveSecret } from '../config/secret-references.ts';
import { AppError } from '../errors.ts';
import { parseSize, type LocalProvider, type PricePolicy } from '../spec.ts';
import { GPUS } from '../spec/gpu-table.ts';
import { sizeSchema } from '../spec/size.ts';
import { parseUsd } from '../units.ts';
import type { Surface } from './terminal.ts';

/** What `underbid provide` is given, as text, and what becomes of it. */
export interface ProvideFlags {
  readonly market: string;
  readonly key: string;
  readonly gpu?: readonly string[];
  readonly cpu?: number;
  readonly memory?: string;
  readonly slots: number;
  readonly price?: string;
  readonly cost?: string;
  readonly margin?: number;
  readonly idleDiscount?: number;
  readonly peakMarkup?: number;
  readonly host: string;
  readonly advertise?: string;
  readonly leaveDisputes?: boolean;
  readonly command?: string;
  readonly engine?: 'vllm' | 'sglang' | 'llama.cpp' | 'openai';
  readonly model?: readonly string[];
  readonly startTimeout: number;
}

/** The provider's hardware and how it makes its price. @throws AppError `invalid_request` */
export function providerOf(flags: ProvideFlags): LocalProvider {
  const { slots, cpu = Math.min(384, availableParallelism()), memory } = flags;
  const policy = policyOf(flags);
  return {
    id: 'provider',
    slots,
    cpu,
    memoryBytes: memory === undefined ? Math.floor(totalmem() / slots) : parseSize(memory),
    gpus: (flags.gpu ?? []).flatMap(parseGpus),
    audited: false,
    costNanoUsdPerHour: parseUsd(flags.cost ?? flags.price ?? '0'),
    policy,
    replyMs: 0,
  };
}

function policyOf({ price, cost, margin, idleDiscount, peakMarkup }: ProvideFlags): PricePolicy {
  if ((price === undefined) === (cost === undefined))
    throw new AppError('invalid_request', 'say either --price (an hour, whatever the load) or --cost (and --margin)');
  const bp = (percent: number | undefined): number => Math.round((percent ?? 0) * 100);
  if (price !== undefined) {
    if (margin !== undefined || idleDiscount !== undefined || peakMarkup !== undefined)
      throw new AppError('invalid_request', '--margin, --idle-discount and --peak-markup go with --cost, not --price');
    return { kind: 'fixed', priceNanoUsdPerHour: parseUsd(price) };
  }
  if (idleDiscount === undefined && peakMarkup === undefined) return { kind: 'cost_plus', marginBp: bp(margin) };
  const moves = { discountMaxBp: bp(idleDiscount), peakMarkupBp: bp(peakMarkup) };
  return { kind: 'idle_discount', marginBp: bp(margin), ...moves };
}

/** "rtx4090", or "h100x8" for eight of them. */
function parseGpus(text: string): string[] {
  const match = /^([A-Za-z0-9][A-Za-z0-9._-]{0,60}?)(?:x(\d{1,2}))?$/.exec(text);
  const count = Number(match?.[2] ?? 1);
  if (match?.[1] === undefined || count < 1 || count > 24)
    throw new AppError('invalid_request', '--gpu takes a model, or a model and how many a machine has: h100x8');
  return Array.from({ length: count }, () => match[1] ?? '');
}

/** A GPU's name is compared letter by letter: one that nobody orders would join, and never win. */
export function gpuWarnings({ gpus }: Pick<LocalProvider, 'gpus'>): string[] {
  return [...new Set(gpus)]
    .filter((name) => !GPUS.some(({ model }) => model === name))
    .map((name) => {
      const meant = GPUS.filter(({ model }) => model.endsWith(name.toLowerCase())).map(({ model }) => model);
      const hint = meant.length === 0 ? '' : ` (did you mean ${meant.join(' or ')}?)`;
      return `no GPU model ${name} is known here${hint}: pools name theirs exactly, and one that none names wins no order`;
    });
}

/** Never repeats what was given: it may be the key itself. @throws AppError `invalid_request` or `setup_failed` */
export function keyOf({ key }: Pick<ProvideFlags, 'key'>, { env, cwd }: Pick<Surface, 'env' | 'cwd'>): Secret {
  if (!secretSchema.safeParse(key).success)
    throw new AppError('invalid_request', `--key: ${SECRET_ADVICE.replace('in this file', 'on a command line')}`);
  const secret = resolveSecret(key, { env, folder: cwd });
  if (typeof secret === 'string') throw new AppError('setup_failed', `--key: ${secret}`);
  return secret;
}

/** The market's address without a trailing slash. @throws AppError `invalid_request` */
export function marketOf({ market }: Pick<ProvideFlags, 'market'>): string {
  const url = URL.canParse(market) ? new URL(market) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '')
    throw new AppError('invalid_request', '--market takes the gateway\'s address: "https://gateway.example"');
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

/** Every variable but the one with our key, which is no business of a model server's. */
export function childEnv({ key }: ProvideFlags, env: Surface['env']): Record<string, string | undefined> {
  const name = key.startsWith('env:') ? key.slice('env:'.length) : null;
  return Object.fromEntries(Object.entries(env).filter(([known]) => known !== name && !known.startsWith('UNDERBID_')));
}

export function parsePercent(text: string): number {
  if (!/^\d{1,3}(\.\d{1,2})?$/.test(text)) throw new InvalidArgumentError('It must be a percentage such as 15 or 7.5.');
  return Number(text);
}

/** A discount is at most all of it. */
export function parseDiscount(text: string): number {
  const percent = parsePercent(text);
  if (percent > 100) throw new InvalidArgumentError('It must be at most 100.');
  return percent;
}

export function parseSlots(text: string): number {
  const slots = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (slots < 1 || slots > 64) throw new InvalidArgumentError('It must be a whole number from 1 to 64.');
  return slots;
}

export function parseCores(text: string): number {
  const cores = /^\d{1,3}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  if (cores < 0.1 || cores > 384) throw new InvalidArgumentError('It must be a number from 0.1 to 384.');
  return cores;
}

export function parseMemory(text: string): string {
  if (!sizeSchema.safeParse(text).success) throw new InvalidArgumentError('It must be a size such as 512Mi or 24Gi.');
  return text;
}

export function parseHost(text: string): string {
  if (!/^[A-Za-z0-9.:-]{1,253}$/.test(text))
    throw new InvalidArgumentError('It must be a host name or an address, without port.');
  return text;
}
