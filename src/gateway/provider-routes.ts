import { Hono, type Context } from 'hono';
import type { z } from 'zod';
import { AppError } from '../errors.ts';
import { bidSchema, disputeAnswerSchema, offerSchema, reportSchema, tasksQuery } from '../spec/provider-wire.ts';
import { bearerOf, hashKey, isSameHash } from './auth.ts';
import { BodyShare } from './body-room.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { decodePath } from './models.ts';
import { parseJsonBody, parseQuery } from './openai.ts';
import type { JoinedProvider, ProviderDoor } from './provider-door.ts';

/** Requests of all providers at a time, the ones that wait for tasks among them. */
export const PROVIDER_REQUESTS_MAX = 1024;
const BODY_MAX = 64 * 1024;
/** Of each: a question for tasks, and reports and bids beside it. */
const LIMITS = { requestsPerMinute: 1200, tokensPerMinute: 1, concurrency: 16 };

type Handler = (context: Context<AppEnv>, provider: JoinedProvider) => Response | Promise<Response>;

/** Routes for providers who join from elsewhere, each with a key of its own. */
export function createProviderRoutes(deps: AppDeps, door: ProviderDoor): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const authenticated =
    (handler: Handler) =>
    async (context: Context<AppEnv>): Promise<Response> => {
      const provider = findProvider(door, context.req.header('authorization'));
      const admission = deps.limiter.admit(`provider:${provider.id}`, LIMITS, 0, deps.clock.now());
      try {
        return await handler(context, provider);
      } finally {
        admission.end(0);
      }
    };
  app.put(
    '/offer',
    authenticated(async (context, provider) => {
      const message = await bodyOf(context, deps, provider, offerSchema);
      return context.json(provider.offer(message, peerOf(context, door)));
    }),
  );
  app.delete(
    '/offer',
    authenticated((context, provider) => {
      const { session } = parseQuery(context.req.query(), tasksQuery.pick({ session: true }));
      provider.leave(session);
      return context.body(null, 204);
    }),
  );
  app.get(
    '/tasks',
    authenticated(async (context, provider) => {
      const query = parseQuery(context.req.query(), tasksQuery);
      return context.json(await provider.tasks(query, context.req.raw.signal));
    }),
  );
  app.post(
    '/bids',
    authenticated(async (context, provider) => {
      provider.bid(await bodyOf(context, deps, provider, bidSchema));
      return context.body(null, 204);
    }),
  );
  app.post(
    '/leases/:id',
    authenticated(async (context, provider) => {
      const message = await bodyOf(context, deps, provider, reportSchema);
      provider.report(decodePath(context.req.param('id') ?? ''), message, peerOf(context, door));
      return context.body(null, 204);
    }),
  );
  app.post(
    '/disputes/:id',
    authenticated(async (context, provider) => {
      const message = await bodyOf(context, deps, provider, disputeAnswerSchema);
      await provider.answerDispute(decodePath(context.req.param('id') ?? ''), message);
      return context.body(null, 204);
    }),
  );
  return app;
}

function findProvider(door: ProviderDoor, authorization: string | undefined): JoinedProvider {
  const key = bearerOf(authorization);
  const hash = key === null ? '' : hashKey(key);
  // All of them are compared: how long it takes says nothing of which one it is.
  const found = door.providers.filter(({ keyHash }) => isSameHash(hash, keyHash))[0];
  if (key === null || found === undefined) {
    throw new AppError('invalid_api_key', "this provider's key is unknown: the market's operator hands them out");
  }
  return found;
}

/** What a proxy says of an address could be said by anyone. */
function peerOf(context: Context<AppEnv>, door: ProviderDoor): string | null {
  const proxied = ['x-forwarded-for', 'forwarded', 'via'].some((name) => context.req.header(name) !== undefined);
  return proxied ? null : door.peerOf(context.env);
}

async function bodyOf<T>(
  context: Context<AppEnv>,
  deps: AppDeps,
  provider: JoinedProvider,
  schema: z.ZodType<T>,
): Promise<T> {
  const share = new BodyShare(deps.bodyRoom, `provider:${provider.id}`);
  try {
    const { text } = await deps.transport(context as unknown as Context).readBody(BODY_MAX, share);
    return parseJsonBody(text, schema);
  } finally {
    share.give();
  }
}
