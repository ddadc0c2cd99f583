import { Hono } from 'hono';
import { addAccounts } from './admin-accounts.ts';
import { addApiKeys } from './admin-api-keys.ts';
import { authenticateAdmin } from './admin-auth.ts';
import { addBooks } from './admin-books.ts';
import { addFleet } from './admin-fleet.ts';
import { addAdminKeys } from './admin-keys.ts';
import { addMoney } from './admin-money.ts';
import { addReports } from './admin-reports.ts';
import type { AppDeps, AppEnv } from './deps.ts';

/**
 * Routes for operators, behind an admin key. Every role may read; whatever changes something goes through `addAction`,
 * which asks for a role and keeps the audit log.
 */
export function createAdmin(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use('*', async (context, next) => {
    context.set('admin', await authenticateAdmin(deps, context.req.header('authorization')));
    await next();
  });
  addAccounts(app, deps);
  addApiKeys(app, deps);
  addAdminKeys(app, deps);
  addBooks(app, deps);
  if (deps.fleet) {
    addFleet(app, deps, deps.fleet);
    addMoney(app, deps, deps.fleet);
    addReports(app, deps, deps.fleet);
  }
  return app;
}
