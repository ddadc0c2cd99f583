import { AppError } from '../errors.ts';
import type { KeySettings } from '../ledger/access.ts';
import type { PoolSpec } from '../spec.ts';
import {
  allNeeds,
  asksNothing,
  contradiction,
  describeNeeds,
  NO_NEEDS,
  poolNeeds,
  TRUST_LEVELS,
  type Needs,
} from '../spec/trust.ts';

const NAMES_MAX = 16;

/** Whether the configured markets could ever give a pool a machine like this; a sentence says why not. */
export type Reach = (spec: PoolSpec, needs: Needs) => string | null;

export interface Asking {
  readonly header: (name: string) => string | undefined;
  readonly settings: Pick<KeySettings, 'trust' | 'regions' | 'providers'>;
  readonly spec: PoolSpec;
  readonly reach?: Reach | undefined;
}

/**
 * What this request's machine has to be: all that its pool, its key and its own headers ask. Each can only make it stricter.
 * Undefined: anything goes.
 * @throws AppError `invalid_request` for a header that says nothing known, `permission_denied` where no machine of the pool
 *   can ever be like that
 */
export function needsOf({ header, settings, spec, reach }: Asking): Needs | undefined {
  const own = {
    trust: settings.trust ?? 'any',
    regions: settings.regions ?? null,
    providers: settings.providers ?? null,
  };
  const needs = allNeeds(poolNeeds(spec), own, needsOfHeaders(header));
  if (asksNothing(needs)) return undefined;
  const why = contradiction(needs) ?? reach?.(spec, needs) ?? null;
  if (why === null) return needs;
  throw new AppError('permission_denied', `${spec.id} cannot be had with ${describeNeeds(needs) || 'this'}: ${why}`, {
    param: 'model',
  });
}

function needsOfHeaders(header: Asking['header']): Needs {
  const trust = header('x-underbid-trust');
  const regions = header('x-underbid-region');
  const providers = header('x-underbid-provider');
  if (trust === undefined && regions === undefined && providers === undefined) return NO_NEEDS;
  return {
    trust: trust === undefined ? 'any' : levelOf(trust),
    regions: regions === undefined ? null : namesOf('x-underbid-region', regions),
    providers: providers === undefined ? null : namesOf('x-underbid-provider', providers),
  };
}

function levelOf(text: string): Needs['trust'] {
  const level = TRUST_LEVELS.find((known) => known === text.trim());
  if (level !== undefined) return level;
  const param = 'x-underbid-trust';
  throw new AppError('invalid_request', `${param} is one of ${TRUST_LEVELS.join(', ')}`, { param });
}

function namesOf(param: string, text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.length <= NAMES_MAX && names.every((name) => /^[\x21-\x7e]{1,128}$/.test(name))) return names;
  throw new AppError('invalid_request', `${param} is a name, or several with commas between`, { param });
}
