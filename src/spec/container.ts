import { z } from 'zod';
import { parseSize, sizeSchema } from './size.ts';
import { wordSchema } from './word.ts';

export const containerSchema = z
  .strictObject({
    command: z.array(wordSchema).max(64).optional().describe("in place of the image's entrypoint"),
    args: z
      .array(wordSchema)
      .max(128)
      .optional()
      .describe('default: those of the engine, from model, context and slots'),
    env: z
      .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'is not the name of a variable'), wordSchema)
      .optional()
      .describe('variables; whoever runs the machine can read them, so no lasting secret belongs here'),
    port: z
      .number()
      .int()
      .min(1)
      .max(65_535)
      .optional()
      .describe('where the model server listens; default: that of the engine'),
    weights: wordSchema.optional().describe('what the engine loads; default: model'),
    revision: wordSchema.optional().describe('of the weights'),
    shm: sizeSchema.optional().describe('shared memory, for several GPUs; counted as memory'),
    volume: z
      .strictObject({
        size: sizeSchema,
        class: z.enum(['beta1', 'beta2', 'beta3']).default('beta3'),
        mount: wordSchema.regex(/^\//, 'must be an absolute path').default('/root/.cache'),
      })
      .optional()
      .describe('storage that survives a restart of the container: where weights are cached'),
    expose: z
      .enum(['port', 'ingress', 'ip'])
      .optional()
      .describe("how this pool's server is reached on the Akash network; default: as markets.akash.expose says"),
    tls: z
      .boolean()
      .optional()
      .describe(
        'an image of engine openai whose command serves TLS with /tmp/underbid-tls/cert.pem and key.pem; the other engines do',
      ),
  })
  .describe('how the image is started; markets without containers ignore it');

/** How an image is started. What is null follows from the engine. */
export interface Container {
  readonly command: readonly string[] | null;
  readonly args: readonly string[] | null;
  readonly env: Readonly<Record<string, string>>;
  readonly port: number | null;
  readonly weights: string | null;
  readonly revision: string | null;
  readonly shmBytes: number;
  readonly volume: { readonly bytes: number; readonly class: string; readonly mount: string } | null;
  readonly expose?: 'port' | 'ingress' | 'ip';
  readonly tls?: boolean;
}

export function parseContainer(container: z.output<typeof containerSchema>): Container {
  const { command, args, env = {}, port, weights, revision, shm, volume, expose, tls } = container;
  return {
    command: command ?? null,
    args: args ?? null,
    env,
    port: port ?? null,
    weights: weights ?? null,
    revision: revision ?? null,
    shmBytes: shm === undefined ? 0 : parseSize(shm),
    volume: volume === undefined ? null : { bytes: parseSize(volume.size), class: volume.class, mount: volume.mount },
    ...(expose === undefined ? {} : { expose }),
    ...(tls === undefined ? {} : { tls }),
  };
}
