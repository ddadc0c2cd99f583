import type { Context } from 'hono';
import type { KeySettings } from '../ledger/operations.ts';
import type { Tokens } from '../units.ts';
import type { Caller } from './auth.ts';
import type { AppDeps, AppEnv, GatewayLimits } from './deps.ts';
import type { Admission, RateLimits } from './limits.ts';

/** Who makes a /v1 request; from here on its reply carries the key's rate limits, whatever it says. */
export function identify(context: Context<AppEnv>, deps: AppDeps): Caller {
  const nowMs = deps.clock.now();
  const caller = deps.keys.authenticate(context.req.header('authorization'), nowMs);
  context.set('rateHeaders', deps.limiter.look(caller.key, rateLimitsOf(caller.settings, deps.limits), nowMs));
  return caller;
}

/**
 * Counts a request and reserves its tokens; `end` corrects them.
 * @throws AppError `rate_limit_exceeded`
 */
export function admit(context: Context<AppEnv>, deps: AppDeps, caller: Caller, tokens: Tokens): Admission {
  const limits = rateLimitsOf(caller.settings, deps.limits);
  const admission = deps.limiter.admit(caller.key, limits, tokens, deps.clock.now());
  context.set('rateHeaders', admission.headers);
  return admission;
}

function rateLimitsOf(settings: KeySettings, defaults: GatewayLimits): RateLimits {
  return {
    requestsPerMinute: settings.rpm ?? defaults.keyRequestsPerMinute,
    tokensPerMinute: settings.tpm ?? defaults.keyTokensPerMinute,
    concurrency: settings.concurrency ?? defaults.keyConcurrency,
  };
}
