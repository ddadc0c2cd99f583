import { z } from 'zod';
import type { EpochMs } from '../units.ts';
import { parseSize, sizeSchema } from './size.ts';
import { TRUST_LEVELS, higherTrust, type Trust } from './trust.ts';
import { wordSchema } from './word.ts';

/** A secret is named, never written: its text is read when an order is made, so that a new one serves the next lease. */
const secretReference = z
  .string()
  .regex(
    /^(env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:.{1,4096})$/,
    'a secret does not belong in this file: write env:NAME (a variable) or file:PATH (a file that holds it)',
  )
  .meta({ writeOnly: true });

const visibleTo = z
  .enum(TRUST_LEVELS)
  .describe('the least trust that a provider must have to be given the secret; default: the trust of the pool');

/** Names of files below the folder of the weights; they go through a shell, so no blanks and no quotes. */
const fileName = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9._/-]{0,255}$/, 'is not a plain name of a file')
  .refine((name) => !name.includes('..'), 'must stay below the folder of the weights');

export const weightsSchema = z
  .strictObject({
    source: wordSchema
      .regex(/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,511}$/, 'is not a name such as org/model or an https:// address')
      .describe('org/model of Hugging Face; for llama.cpp also the https:// address of a GGUF file'),
    revision: wordSchema
      .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/, 'is not a revision')
      .optional()
      .describe('a commit of the source: a branch can change what is served'),
    sha256: z
      .record(fileName, z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits'))
      .optional()
      .describe('files and their hashes, checked in the container before the engine starts'),
    cache: z
      .enum(['persistent', 'ephemeral'])
      .default('ephemeral')
      .describe('persistent: on a volume that outlives restarts of the container; ephemeral: on its own disk'),
    cache_size: sizeSchema.optional().describe("the persistent volume's size"),
    cache_class: z.enum(['beta1', 'beta2', 'beta3']).default('beta3').describe("the persistent volume's class"),
    secret: secretReference
      .optional()
      .describe('token of gated weights, as env:NAME or file:PATH; whoever runs the machine can read it'),
    expires: z.iso
      .datetime({ offset: true, error: 'is a time such as 2030-01-31T00:00:00Z' })
      .optional()
      .describe('when the secret ends; after that no order is made'),
    visible_to: visibleTo.optional(),
  })
  .refine(({ cache, cache_size: size }) => (cache === 'persistent') === (size !== undefined), {
    path: ['cache_size'],
    message: 'goes with cache: persistent, and only with it',
  })
  .describe('where the weights come from and where the engine keeps them; markets without containers ignore it');

export const registrySchema = z
  .strictObject({
    host: wordSchema.min(1).describe('of the registry: ghcr.io'),
    username: wordSchema.min(1),
    password: secretReference.describe('as env:NAME or file:PATH; a token that can do nothing but pull this image'),
    visible_to: visibleTo.optional(),
  })
  .describe('for a private image');

export interface Weights {
  readonly source: string;
  readonly revision: string | null;
  /** By file. */
  readonly sha256: Readonly<Record<string, string>> | null;
  /** Null: on the container's own disk. */
  readonly volume: { readonly bytes: number; readonly class: string } | null;
  /** `env:NAME` or `file:PATH`. */
  readonly secret: string | null;
  readonly expiresMs: EpochMs | null;
  readonly visibleTo: Trust;
}

export interface Registry {
  readonly host: string;
  readonly username: string;
  /** `env:NAME` or `file:PATH`. */
  readonly password: string;
  readonly visibleTo: Trust;
}

export function parseWeights(weights: z.output<typeof weightsSchema>, trust: Trust): Weights {
  const { source, revision, sha256, cache_size: size, cache_class: storageClass, secret, expires } = weights;
  return {
    source,
    revision: revision ?? null,
    sha256: sha256 ?? null,
    volume: size === undefined ? null : { bytes: parseSize(size), class: storageClass },
    secret: secret ?? null,
    expiresMs: expires === undefined ? null : Date.parse(expires),
    visibleTo: weights.visible_to ?? trust,
  };
}

export function parseRegistry(registry: z.output<typeof registrySchema>, trust: Trust): Registry {
  const { host, username, password, visible_to: visible } = registry;
  return { host, username, password, visibleTo: visible ?? trust };
}

interface Secretive {
  readonly trust: Trust;
  readonly weights?: Pick<Weights, 'secret' | 'visibleTo'> | null | undefined;
  readonly registry?: Pick<Registry, 'visibleTo'> | null | undefined;
}

/** What a provider must be to be given this pool's work: its prompts, and the secrets that come with it. */
export function orderTrust({ trust, weights, registry }: Secretive): Trust {
  const forWeights = weights?.secret ? weights.visibleTo : 'any';
  return higherTrust(trust, higherTrust(forWeights, registry?.visibleTo ?? 'any'));
}

/** What keeps a pool's secrets from being given out now; null: nothing. */
export function secretProblem(weights: Weights | null | undefined, nowMs: EpochMs): string | null {
  if (!weights?.secret || weights.expiresMs === null || weights.expiresMs > nowMs) return null;
  return 'the secret of its weights has expired: put a new one in its place, with its end in weights.expires';
}
