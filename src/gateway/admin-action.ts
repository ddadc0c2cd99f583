import type { Context, Hono } from 'hono';
import { describeError } from '../errors.ts';
import type { Admin, AuditNote } from '../ledger/access.ts';
import type { AuditedOp, Ledger, LedgerReplies } from '../ledger/operations.ts';
import { requireRole } from './admin-auth.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { toAppError } from './openai.ts';

const TARGET_MAX = 300;

/** One thing that an admin does, and what the audit log will say of it. */
export class Action {
  readonly #ledger: Ledger;
  readonly #who: Admin;
  readonly #action: string;
  readonly #request: string;
  #target: string | null;
  #detail: Readonly<Record<string, unknown>> = {};
  /** Its row is in the log. */
  logged = false;

  constructor(options: {
    readonly ledger: Ledger;
    readonly who: Admin;
    readonly action: string;
    readonly request: string;
    readonly target: string | null;
  }) {
    this.#ledger = options.ledger;
    this.#who = options.who;
    this.#action = options.action;
    this.#request = options.request;
    this.#target = options.target;
  }

  get actor(): string {
    return this.#who.admin;
  }

  /** What is acted upon, and what is worth keeping of how; never a secret. */
  about(target: string, detail: Readonly<Record<string, unknown>> = {}): void {
    this.#target = target;
    this.#detail = detail;
  }

  /** An action of the ledger's own: its row in the log is in the same commit. */
  async ask<O extends AuditedOp>(operation: O): Promise<LedgerReplies[O['op']]> {
    const reply = await this.#ledger.ask({ ...operation, audit: this.note() });
    if (typeof reply === 'object' && reply !== null && 'ok' in reply && reply.ok) this.logged = true;
    return reply;
  }

  note(): AuditNote {
    const target = this.#target?.slice(0, TARGET_MAX) ?? null;
    return { ...this.#who, action: this.#action, target, detail: this.#detail, request: this.#request };
  }
}

export interface ActionRoute {
  readonly method: 'post' | 'put' | 'delete';
  readonly path: string;
  /** Who may do it, besides operators. */
  readonly role?: 'finance';
  /** As the log names it: `account.created`. */
  readonly action: string;
  readonly run: (context: Context<AppEnv>, action: Action) => Promise<Response>;
}

/** Adds a route that changes something: it has a role, and whatever becomes of it goes into the audit log. */
export function addAction(app: Hono<AppEnv>, deps: AppDeps, route: ActionRoute): void {
  const { ledger, clock, log } = deps;
  app[route.method](route.path, async (context: Context<AppEnv>) => {
    const who = context.get('admin');
    const request = context.get('requestId');
    const target = context.req.param('id') ?? null;
    const action = new Action({ ledger, who, action: route.action, request, target });
    try {
      requireRole(who, route.role ?? 'operator');
      const response = await route.run(context, action);
      if (!action.logged) await ledger.ask({ op: 'audit', note: action.note(), outcome: 'ok', atMs: clock.now() });
      return response;
    } catch (error) {
      const { code } = toAppError(error);
      if (!action.logged) {
        await ledger
          .ask({ op: 'audit', note: action.note(), outcome: code, atMs: clock.now() })
          // What failed is told; that it could not be logged either is the operator's to know.
          .catch((failure: unknown) => log(`${request}: not in the audit log: ${describeError(failure)}`));
      }
      throw error;
    }
  });
}
