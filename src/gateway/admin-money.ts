import type { Hono } from 'hono';
import { z } from 'zod';
import { addAction } from './admin-action.ts';
import { bodyOf, reason as reasonSchema } from './admin-body.ts';
import type { AppDeps, AppEnv, FleetOperations } from './deps.ts';

/** What has to be said for it, so that no slip of a hand and no stray script closes everything. */
const CONFIRMATION = 'close every lease';

const panicSchema = z.strictObject({
  confirm: z.literal(CONFIRMATION, { error: `must be ${JSON.stringify(CONFIRMATION)}` }),
  reason: reasonSchema.default('an operator pressed the button'),
});

/** The treasury, and the button that stops all spending. */
export function addMoney(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  app.get('/treasury', async (context) => context.json((await fleet.treasury()) as object));
  app.get('/panic', async (context) => context.json((await fleet.panic()) as object));
  addAction(app, deps, {
    method: 'post',
    path: '/panic',
    action: 'panic.started',
    run: async (context, action) => {
      const { reason } = await bodyOf(context, deps, panicSchema);
      action.about('all leases', { reason });
      return context.json((await fleet.startPanic(reason)) as object, 202);
    },
  });
  addAction(app, deps, {
    method: 'delete',
    path: '/panic',
    action: 'panic.ended',
    run: async (context, action) => {
      action.about('all leases');
      return context.json((await fleet.endPanic()) as object);
    },
  });
}
