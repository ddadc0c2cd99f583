import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { LeaseUsage } from '../../ledger/lease-usage.ts';
import type { Ledger } from '../../ledger/operations.ts';
import type { PoolSpec } from '../../spec.ts';
import { counted, type EpochMs, type Ms, type NanoUsd } from '../../units.ts';
import type { Pools } from '../pool/pools.ts';
import { isAffected, isCredited, leasesOf, planCredits } from './credit-plan.ts';
import type { CreditRows, CreditRun, DisputedLease } from './credit-rows.ts';

export interface SlaCreditsOptions {
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly rows: CreditRows;
  readonly pools: Pools;
  readonly log: (line: string) => void;
}

const LOOK_MS: Ms = 30_000;
/** An older dispute that nothing was planned for was filed when its pool promised nothing. */
const PAST_MS: Ms = 7 * 86_400_000;
/** That the requests of one breach were worked on by: far more than there are. */
const LEASES_MAX = 10_000;
/** Of a breach's time in one question to the ledger, questions, and requests in all. */
const STEP_MS: Ms = 600_000;
const STEPS_MAX = 5000;
const USAGE_MAX = 100_000;

/**
 * Credit for what a breach did to customers, by the promise that their pool publishes; whatever becomes of the dispute with
 * the provider. The plan is on disk before the first grant, and a grant's id is made of dispute and account: a crash at any
 * point leaves nothing granted twice or forgotten.
 */
export class SlaCredits {
  readonly #options: SlaCreditsOptions;
  #stopTimer: (() => void) | null = null;
  #working: Promise<void> = Promise.resolve();

  constructor(options: SlaCreditsOptions) {
    this.#options = options;
  }

  start(): void {
    const { clock, log } = this.#options;
    this.#stopTimer = clock.timer(LOOK_MS, () => {
      this.#working = this.look()
        .catch((error: unknown) => log(`credit for breaches: ${describeError(error)}`))
        .then(() => {
          if (this.#stopTimer) this.start();
        });
    });
  }

  async stop(): Promise<void> {
    this.#stopTimer?.();
    this.#stopTimer = null;
    await this.#working;
  }

  /** Grants what is planned, and plans for the disputes whose requests have all ended. */
  async look(): Promise<void> {
    const { clock, rows, pools } = this.#options;
    for (const run of await rows.planned()) await this.#grant(run);
    const nowMs = clock.now();
    const known = [...pools.list(), ...pools.retired()];
    const promising = known.flatMap(({ router: { spec } }) => (spec.sla ? [spec.id] : []));
    for (const dispute of await rows.unplanned(promising, nowMs - PAST_MS, nowMs)) {
      const spec = pools.find(dispute.pool)?.router.spec;
      const { sla = null } = spec ?? {};
      if (!spec || sla === null || nowMs < endsMs(dispute, spec)) continue;
      const { id, lease, pool, breach } = dispute;
      const toMs = endsMs(dispute, spec);
      const usage = await this.#usageOf(lease, breach.fromMs, toMs);
      const affected = usage.filter((one) => isAffected(one, lease, breach.kind, sla));
      const leases = [...new Set([lease, ...affected.flatMap(leasesOf)])].slice(0, LEASES_MAX);
      const before = (await rows.plannedOf(leases)).map((one) => ({ ...one, toMs: endsMs(one, spec) }));
      const owed = affected.filter((one) => !isCredited(one, before, sla));
      const granted = await this.#grantedSince(monthOf(nowMs));
      const run: CreditRun = {
        ...{ dispute: id, pool, kind: sla.credit, atMs: nowMs, reason: reasonOf(dispute) },
        expiresMs: sla.credit === 'promo' ? nowMs + sla.expiresMs : null,
        credits: planCredits(owed, sla, (account) => granted.get(account) ?? 0n),
      };
      await rows.save(run, 'planned');
      await this.#grant(run);
    }
  }

  /** Step by step: the ledger's writer reads every request of that time, and others wait to be charged. */
  async #usageOf(lease: string, fromMs: EpochMs, toMs: EpochMs): Promise<LeaseUsage[]> {
    const stepMs = Math.max(STEP_MS, Math.ceil((toMs - fromMs) / STEPS_MAX));
    const found: LeaseUsage[] = [];
    for (let atMs = fromMs; atMs <= toMs && found.length < USAGE_MAX; atMs += stepMs) {
      const step = { lease, fromMs: atMs, toMs: Math.min(toMs, atMs + stepMs - 1) };
      for (const one of await this.#options.ledger.ask({ op: 'leaseUsage', ...step })) found.push(one);
    }
    return found;
  }

  async #grant(run: CreditRun): Promise<void> {
    const { ledger, rows, log } = this.#options;
    const { dispute, kind, reason, atMs, expiresMs, credits } = run;
    for (const { account, amountNanoUsd: amount, requests } of credits) {
      const grant = { id: `sla:${dispute}:${account}`, customer: account, kind, given: true, amount, expiresMs, atMs };
      const told = `${reason}: ${counted(requests, 'request')}`;
      const result = await ledger.ask({ op: 'grant', ...grant, actor: 'sla', reason: told });
      // Its account may be gone; the others get theirs.
      if (!result.ok) log(`credit of ${account} for ${dispute}: ${result.why}`);
    }
    await rows.save(run, 'granted');
  }

  async #grantedSince(ms: EpochMs): Promise<Map<string, NanoUsd>> {
    const sums = new Map<string, NanoUsd>();
    for (const { credits } of await this.#options.rows.since(ms))
      for (const { account, amountNanoUsd } of credits) sums.set(account, (sums.get(account) ?? 0n) + amountNanoUsd);
    return sums;
  }
}

/** When the last request has ended that was there when a dispute was filed: it may wait for another machine first. */
function endsMs({ filedMs }: { readonly filedMs: EpochMs }, { limits }: PoolSpec): EpochMs {
  return filedMs + limits.maxWaitMs + limits.totalMs;
}

/** Its beginning, UTC. */
function monthOf(ms: EpochMs): EpochMs {
  const date = new Date(ms);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
}

function reasonOf({ id, breach }: DisputedLease): string {
  return `a breach of the promised service (${breach.kind}), ${id}`;
}
