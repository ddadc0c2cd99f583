import { Hono, type Context } from 'hono';
import { AppError, describeError } from '../errors.ts';
import { createAdmin } from './admin.ts';
import { failureHeaders, Gate, HonoCall } from './call.ts';
import { CHAT_PATH, runChat } from './chat.ts';
import { showCredits, showGeneration, showKey } from './credits.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { EMBEDDINGS_PATH, runEmbeddings } from './embeddings.ts';
import { listModels, showModel } from './models.ts';
import { errorBody, errorStatus, toAppError } from './openai.ts';
import { createProviderRoutes, PROVIDER_REQUESTS_MAX } from './provider-routes.ts';

/** Requests of operators at a time. */
const OPERATORS_MAX = 64;

/** The API on one screen: middleware in its order, routes, the one place where errors become replies. */
export function createApp(deps: AppDeps, gate: Gate = new Gate(deps)): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  // When everything is full, an operator must still get in.
  const operators = new Gate({ notReady: deps.notReady, limits: { requestsMax: OPERATORS_MAX } });

  // Most of them wait for tasks: they take up no room of apps.
  const providers = new Gate({ notReady: deps.notReady, limits: { requestsMax: PROVIDER_REQUESTS_MAX } });
  const gateOf = (path: string): Gate => {
    if (path.startsWith('/admin/')) return operators;
    return path.startsWith('/provider/') ? providers : gate;
  };

  app.get('/healthz', (context) => {
    context.header('x-request-id', deps.newId('req-'));
    return context.json({ status: 'ok' });
  });
  app.get('/readyz', (context) => {
    context.header('x-request-id', deps.newId('req-'));
    const why = deps.notReady();
    if (why !== null) return context.json({ status: 'not_ready', reason: why }, 503);
    // Names only: anybody may ask. Why, operators see under /admin/markets.
    const degraded = deps.degraded?.() ?? [];
    const epoch = deps.leader && { epoch: deps.leader().epoch };
    return context.json({ status: 'ready', ...epoch, ...(degraded.length > 0 ? { degraded } : {}) });
  });

  app.use('*', async (context, next) => {
    const requestId = deps.newId('req-');
    context.set('requestId', requestId);
    const own = gateOf(context.req.path);
    own.enter();
    try {
      await next();
    } finally {
      own.leave();
    }
    if (context.res.headers.has('x-hono-already-sent')) return;
    context.header('x-request-id', requestId);
    for (const [name, value] of Object.entries(context.get('rateHeaders')?.() ?? {})) context.header(name, value);
  });

  app.post(CHAT_PATH, (context) => {
    const call = new HonoCall(context, deps);
    return call.exchange.respond(runChat(call, deps));
  });
  app.post(EMBEDDINGS_PATH, (context) => {
    const call = new HonoCall(context, deps);
    return call.exchange.respond(runEmbeddings(call, deps));
  });
  app.get('/v1/models', (context) => listModels(context, deps));
  app.get('/v1/models/*', (context) => showModel(context, deps));
  app.get('/v1/credits', (context) => showCredits(context, deps));
  app.get('/v1/key', (context) => showKey(context, deps));
  app.get('/v1/generation', (context) => showGeneration(context, deps));
  app.route('/admin', createAdmin(deps));
  if (deps.joining) app.route('/provider/v1', createProviderRoutes(deps, deps.joining));

  app.notFound((context) =>
    reply(context, new AppError('not_found', `there is no ${context.req.method} ${context.req.path.slice(0, 200)}`)),
  );
  app.onError((error, context) => {
    const failure = toAppError(error);
    if (failure.code === 'internal_error') deps.log(`${context.get('requestId')}: ${describeError(failure)}`);
    return reply(context, failure);
  });
  return app;
}

function reply(context: Context<AppEnv>, error: AppError): Response {
  const headers = failureHeaders(error, context.get('requestId') ?? '');
  // 499 is nginx's: the client that would read it has gone.
  return new Response(errorBody(error), { status: errorStatus(error), headers });
}
