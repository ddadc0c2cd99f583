import type { KeySettings } from '../ledger/access.ts';
import type { Caller } from './auth.ts';
import type { Call } from './call.ts';
import type { AppDeps, GatewayLimits } from './deps.ts';
import type { Admission, RateLimits } from './limits.ts';

/** Who makes a /v1 request; from here on its reply carries the key's rate limits, whatever it says. */
export function identify(call: Pick<Call, 'header' | 'rateHeaders'>, deps: AppDeps): Caller {
  const nowMs = deps.clock.now();
  const caller = deps.keys.authenticate(call.header('authorization'), nowMs);
  call.rateHeaders = () => deps.limiter.look(caller.meter, rateLimitsOf(caller.settings, deps.limits), nowMs);
  return caller;
}

/**
 * Counts a request before its body is read, so that what a key sends too much of costs nobody a parse; its tokens are
 * reserved when the body is known, `end` corrects them.
 * @throws AppError `rate_limit_exceeded`
 */
export function admit(deps: AppDeps, caller: Caller): Admission {
  return deps.limiter.admit(caller.meter, rateLimitsOf(caller.settings, deps.limits), 0, deps.clock.now());
}

export function rateLimitsOf(settings: KeySettings, defaults: GatewayLimits): RateLimits {
  return {
    requestsPerMinute: settings.rpm ?? defaults.keyRequestsPerMinute,
    tokensPerMinute: settings.tpm ?? defaults.keyTokensPerMinute,
    concurrency: settings.concurrency ?? defaults.keyConcurrency,
  };
}
