import { fitGpus } from '../spec/fit.ts';
import type { PoolSpec } from '../spec.ts';
import { secretProblem } from '../spec/weights.ts';
import type { EpochMs } from '../units.ts';
import type { AkashMarketSettings } from './akash.ts';

/** What is allowed and hardly meant: a line for each, for `config check` and the log. */

interface Checked {
  readonly pools: readonly PoolSpec[];
  readonly markets: { readonly akash: AkashMarketSettings | null };
}

export function warnSettings({ pools, markets: { akash } }: Checked, nowMs: EpochMs): string[] {
  return pools.flatMap((pool) => {
    const rented = pool.markets?.includes('akash') ?? akash !== null;
    const warnings = [...fitWarnings(pool), ...(rented ? containerWarnings(pool, akash, nowMs) : [])];
    return warnings.map((warning) => `pools.${pool.id}: ${warning}`);
  });
}

function fitWarnings(pool: PoolSpec): string[] {
  if (!pool.shape) return [];
  const { problem } = fitGpus(pool.shape, pool);
  return problem === null ? [] : [problem];
}

/** What becomes of a pool on machines of strangers. */
function containerWarnings(pool: PoolSpec, akash: AkashMarketSettings | null, nowMs: EpochMs): string[] {
  const { image, weights, trust, limits, container } = pool;
  const warnings: string[] = [];
  if (image === null && akash?.devnet !== true)
    warnings.push('image is missing: the Akash network rents out containers');
  if (image !== null && !image.includes('@sha256:')) warnings.push(pinAdvice(image));
  if (trust === 'tee') warnings.push("trust: tee is the provider's own word, audited but not attested to us");
  const expired = secretProblem(weights, nowMs);
  if (expired !== null) warnings.push(expired);
  if (weights?.secret && weights.visibleTo === 'any' && weights.expiresMs === null) {
    warnings.push('weights.secret has no end (expires), and any provider can read it: use a token that ends soon');
  }
  if (weights && weights.revision === null && !weights.source.startsWith('https://')) {
    warnings.push('weights.revision is missing: what is served changes when the source does');
  }
  const secretive = Object.keys(container?.env ?? {}).filter((name) => /TOKEN|SECRET|PASSWORD|(^|_)KEY$/i.test(name));
  if (secretive.length > 0) {
    warnings.push(`container.env: ${secretive.join(', ')} can be read by whoever runs the machine: use weights.secret`);
  }
  const expose = container?.expose ?? akash?.expose;
  if (pool.engine === 'openai' && container?.port && expose !== 'ingress' && container.tls !== true) {
    warnings.push('an image of engine openai speaks no TLS by itself: container.expose: ingress, or container.tls');
  }
  if (expose === 'ingress' && limits.firstTokenMs > INGRESS_SILENT_MS) {
    warnings.push('limits.first_token_s is above 60, but an ingress ends an answer that is silent for a minute');
  }
  return warnings;
}

const INGRESS_SILENT_MS = 60_000;

function pinAdvice(image: string): string {
  const name = image.replace(/:[^:/]*$/, '');
  return (
    `image ${image} is a tag, which the Akash market does not take: what it stands for can change. ` +
    `Run \`docker buildx imagetools inspect ${image}\` and write ${name}@sha256:… with the digest that it prints`
  );
}
