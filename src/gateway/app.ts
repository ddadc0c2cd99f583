import { Hono, type Context } from 'hono';
import { AppError, describeError } from '../errors.ts';
import { createAdmin } from './admin.ts';
import { handleChat } from './chat.ts';
import { showCredits, showGeneration, showKey } from './credits.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { listModels, showModel } from './models.ts';
import { errorBody, errorHeaders, errorStatus, toAppError } from './openai.ts';

/** The API on one screen: middleware in its order, routes, the one place where errors become replies. */
export function createApp(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  let inFlight = 0;

  app.get('/healthz', (context) => {
    context.header('x-request-id', deps.newId('req-'));
    return context.json({ status: 'ok' });
  });
  app.get('/readyz', (context) => {
    context.header('x-request-id', deps.newId('req-'));
    const why = deps.notReady();
    return why === null ? context.json({ status: 'ready' }) : context.json({ status: 'not_ready', reason: why }, 503);
  });

  app.use('*', async (context, next) => {
    const requestId = deps.newId('req-');
    context.set('requestId', requestId);
    const why = deps.notReady();
    if (why !== null) throw new AppError('no_capacity', why, { retryAfterS: 5 });
    if (inFlight >= deps.limits.requestsMax)
      throw new AppError('queue_full', 'too many requests at once', { retryAfterS: 1 });
    inFlight += 1;
    try {
      await next();
    } finally {
      inFlight -= 1;
    }
    if (context.res.headers.has('x-hono-already-sent')) return;
    context.header('x-request-id', requestId);
    for (const [name, value] of Object.entries(context.get('rateHeaders')?.() ?? {})) context.header(name, value);
  });

  app.post('/v1/chat/completions', (context) => handleChat(context, deps));
  app.get('/v1/models', (context) => listModels(context, deps));
  app.get('/v1/models/*', (context) => showModel(context, deps));
  app.get('/v1/credits', (context) => showCredits(context, deps));
  app.get('/v1/key', (context) => showKey(context, deps));
  app.get('/v1/generation', (context) => showGeneration(context, deps));
  app.route('/admin', createAdmin(deps));

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

/** Bodies that we stop reading: the connection cannot be used again. */
const CUT: ReadonlySet<string> = new Set(['request_too_large', 'client_closed']);

function reply(context: Context<AppEnv>, error: AppError): Response {
  const headers = new Headers({ ...errorHeaders(error), 'x-request-id': context.get('requestId') ?? '' });
  if (CUT.has(error.code)) headers.set('connection', 'close');
  // 499 is nginx's: the client that would read it has gone.
  return new Response(errorBody(error), { status: errorStatus(error), headers });
}
