import type { Delivery, Lease, LeaseStatus, Market } from '../leases/market.ts';
import type { PoolSpec } from '../spec.ts';
import { breachOf } from '../spec/dispute.ts';
import { formatUsd, type Ms, type NanoUsd } from '../units.ts';
import { Checking } from './checking.ts';
import { fileDispute } from './disputing.ts';
import type { Ending } from './ending.ts';
import { backoffKey } from './failures.ts';
import { meterReplica } from './metering.ts';
import { Measuring } from './measuring.ts';
import { isCurrent } from './turnover.ts';
import { marketOf, type Parts } from './parts.ts';
import type { Blame } from './provider-book.ts';
import { missingRunway } from './place.ts';
import type { Pool } from './pool/pools.ts';
import type { Target } from './pool/slot.ts';
import type { ReplicaRecord } from './records.ts';
import { workloadOf } from './tender.ts';

const FUND_AGAIN_MS: Ms = 30_000;

/** A leased replica: its model server comes up and is probed, then its lease is watched and its escrow filled. */
export class Serving {
  readonly #parts: Parts;
  readonly #ending: Ending;
  readonly #checking: Checking;
  readonly #measuring: Measuring;

  constructor(parts: Parts, ending: Ending) {
    this.#parts = parts;
    this.#ending = ending;
    this.#checking = new Checking(parts, ending);
    this.#measuring = new Measuring(parts);
  }

  async start(record: ReplicaRecord): Promise<void> {
    const { clock, fleet } = this.#parts;
    const found = await this.#look(record);
    if (!found) return;
    const { pool, market, status } = found;
    const { lease, delivery } = status;
    const { spec } = pool.router;
    const notes = fleet.notes(record.id);
    const sinceMs = notes.startSinceMs ?? record.leasedMs ?? record.orderedMs;
    if (clock.now() - sinceMs > spec.limits.startMs) {
      return this.#tooLate(record, { spec, problem: notes.problem ?? delivery.detail });
    }
    if (delivery.state === 'none' && lease.state === 'active' && !notes.deployed) {
      const outcome = await market.deploy(lease.id, workloadOf(spec));
      // Unknown: the next look at the delivery says whether it began.
      if (outcome.kind === 'unknown') return this.#noteProblem(record, `not deployed yet: ${outcome.reason}`);
      if (outcome.kind === 'refused') return this.#ending.fail(record, `not deployed: ${outcome.reason}`, null);
      notes.deployed = true;
      pool.router.setPhase('loading model');
      return;
    }
    if (delivery.state !== 'running' || delivery.url === null) return;
    const running = record.runningMs === null ? await fleet.save({ ...record, runningMs: clock.now() }) : record;
    const target = targetOf(running, status, spec, delivery.url);
    const { problem, answered } = await this.#checking.problemOf(target, spec, record.id);
    if (problem === null) return this.#ready(running, pool, target);
    const heard = answered && !running.answeredMs;
    const heardFrom = heard ? await fleet.save({ ...running, answeredMs: clock.now() }) : running;
    return this.#noteProblem(heardFrom, `not answering yet: ${problem}`);
  }

  /** What keeps a start-up waiting: shown while it lasts, and told when its time is over. */
  async #noteProblem(record: ReplicaRecord, problem: string): Promise<void> {
    const reason = problem.slice(0, 500);
    this.#parts.fleet.notes(record.id).problem = reason;
    if (reason !== record.reason) await this.#parts.fleet.save({ ...record, reason });
  }

  /** A replica at work: is its lease alive, and does its escrow reach? */
  async watch(before: ReplicaRecord): Promise<void> {
    const found = await this.#look(before);
    if (!found) return;
    const record = await this.#foresee(before, found.status.lease);
    const { pool, market, status } = found;
    const { lease, delivery } = status;
    if (delivery.state !== 'running') return this.#died(record, pool, status);
    await this.#ending.cancelElsewhere(record);
    if (record.state !== 'ready') return;
    await meterReplica(this.#parts, record, false);
    await this.#fund(record, pool, market, lease);
    if (delivery.url === null) return;
    const target = targetOf(record, status, pool.router.spec, delivery.url);
    await this.#checking.suspect(record, pool, target);
    await this.#checking.listen(record, pool, target);
    await this.#measuring.look(pool);
    this.#measuring.ask(record, pool, target);
    // The pool's description may have changed since this replica showed it; one of before proves nothing of it.
    if (!isCurrent(record, pool.router.spec)) return;
    void this.#checking.prove(record, pool, target);
    await this.#checking.honesty(record, pool, target);
  }

  /** What there is of a leased replica; null when that was its end. */
  async #look(record: ReplicaRecord): Promise<{ pool: Pool; market: Market; status: LeaseStatus } | null> {
    const pool = this.#parts.pools.find(record.pool);
    const market = marketOf(this.#parts, record);
    if (!pool || !market || record.leaseId === null) {
      await this.#ending.end(record, 'its pool or market is gone');
      return null;
    }
    const status = await market.status(record.leaseId);
    if (!status) {
      await this.#ending.fail(record, 'its lease is unknown to the market', null);
      return null;
    }
    const { lease, delivery } = status;
    const { closeReason, provider } = lease;
    if (delivery.state === 'failed') {
      if (record.readyMs !== null) await this.#died(record, pool, status);
      else await this.#ending.fail(record, gone(delivery), { provider, cause: 'delivery_failed' });
      return null;
    }
    if (lease.state === 'closed') {
      await this.#ending.fail(record, `its lease ended: ${closeReason ?? 'unknown'}`, blameOf(lease));
      return null;
    }
    return { pool, market, status };
  }

  /** It served, and is gone: from the first request that it failed on, where there was one. */
  async #died(record: ReplicaRecord, pool: Pool, { lease, delivery }: LeaseStatus): Promise<void> {
    const reason = gone(delivery);
    const toMs = this.#parts.clock.now();
    const load = pool.router.load(record.id);
    const fromMs = Math.min(delivery.sinceMs ?? toMs, load?.suspectMs ?? toMs);
    const measured = [{ what: 'model server', value: reason, promised: 'running', atMs: delivery.sinceMs ?? toMs }];
    const requests = load?.hit() ?? [];
    await fileDispute(this.#parts, record, breachOf({ kind: 'down', reason, fromMs, toMs, measured, requests }));
    return this.#ending.fail(record, reason, { provider: lease.provider, cause: 'died' });
  }

  /** A machine that its provider takes back is known to go: the plan finds another one first. */
  async #foresee(record: ReplicaRecord, lease: Lease): Promise<ReplicaRecord> {
    const endsMs = lease.reclaimMs ?? null;
    if (endsMs === (record.endsMs ?? null)) return record;
    const saved = await this.#parts.fleet.save({ ...record, endsMs });
    const until = endsMs === null ? null : new Date(endsMs).toISOString();
    const reason =
      until === null ? 'its provider leaves it the machine' : `its provider takes the machine back at ${until}`;
    const detail = { replica: record.id, lease: lease.id, provider: lease.provider, ends_at: until };
    await this.#parts.decide({ pool: record.pool, kind: 'lease.reclaimed', reason, detail });
    return saved;
  }

  async #tooLate(
    record: ReplicaRecord,
    { spec, problem }: { readonly spec: PoolSpec; readonly problem: string },
  ): Promise<void> {
    const seconds = spec.limits.startMs / 1000;
    const because = problem === '' ? '' : `: ${problem}`;
    const { provider } = record;
    const blame = provider === null ? null : ({ provider, cause: 'not_ready' } as const);
    const [fromMs, toMs] = [record.leasedMs ?? record.orderedMs, this.#parts.clock.now()];
    const breach = breachOf({ kind: 'down', reason: `not ready within ${seconds} s${because}`, fromMs, toMs });
    await fileDispute(this.#parts, record, breach);
    return this.#ending.fail(record, `it was not ready within ${seconds} s${because}`, blame);
  }

  async #ready(record: ReplicaRecord, pool: Pool, target: Target): Promise<void> {
    const { clock, fleet, decide } = this.#parts;
    const now = clock.now();
    const reason = 'answered its probe';
    // A replica that was found again keeps the times of its first start.
    const readyMs = record.readyMs ?? now;
    const startMs = readyMs - record.orderedMs;
    const ready: ReplicaRecord = { ...record, state: 'ready', readyMs, reason };
    if (record.readyMs === null && !target.tokenPrice) fleet.book.ready(ready);
    await fleet.save(ready);
    const notes = fleet.notes(record.id);
    notes.tokenPrice = target.tokenPrice ?? null;
    fleet.failures.succeeded(backoffKey(record, notes.reserve));
    const { replaces, why = 'changed' } = record.beside ?? {};
    if (replaces !== undefined && why === 'changed') fleet.rollouts.succeeded(record.pool);
    if (replaces !== undefined && why === 'cheaper') fleet.moves.succeeded(record.pool);
    pool.router.add(target, startMs);
    pool.router.setPhase('ready');
    const detail = { replica: record.id, lease: target.leaseId, provider: target.provider, start_ms: startMs };
    await decide({ pool: record.pool, kind: 'replica.ready', reason, detail });
    // Beside its first requests, which need not wait for it.
    if (isCurrent(record, pool.router.spec)) void this.#checking.prove(record, pool, target);
  }

  async #fund(record: ReplicaRecord, pool: Pool, market: Market, lease: Lease): Promise<void> {
    const { clock, fleet, decide } = this.#parts;
    // What lies in the escrow of a machine that goes soon is locked for nothing.
    const runwayMs = Math.min(pool.router.spec.runwayMs, Math.max(0, (lease.reclaimMs ?? Infinity) - clock.now()));
    const notes = fleet.notes(record.id);
    const missing: NanoUsd = missingRunway(lease, runwayMs, { terms: market.terms(), block: market.block() });
    if (missing === 0n || clock.now() < notes.fundAgainMs) return;
    const fundings = record.fundings + 1;
    const outcome = await market.fund(lease.id, missing, `fund-${fundings}`);
    // Unknown: the same id again, which adds nothing if it went through.
    if (outcome.kind === 'unknown') return;
    const detail = { lease: lease.id, amount_usd: formatUsd(missing) };
    if (outcome.kind === 'done') {
      await fleet.save({ ...record, fundings });
      notes.told = null;
      // An earlier try with this id went through after all: nothing was added now, the next look sees what is missing.
      if (outcome.value.depositNanoUsd === lease.depositNanoUsd) return;
      const reason = `runway below ${runwayMs / 2000} s`;
      return decide({ pool: record.pool, kind: 'lease.funded', reason, detail });
    }
    notes.fundAgainMs = clock.now() + FUND_AGAIN_MS;
    if (notes.told === outcome.reason) return;
    notes.told = outcome.reason;
    return decide({ pool: record.pool, kind: 'lease.not_funded', reason: outcome.reason, detail });
  }
}

/** An escrow that ran dry, our own close and a market that began anew are no fault of the provider's. */
function blameOf({ closeReason, provider }: Lease): Blame | null {
  if (closeReason === 'provider') return { provider, cause: 'closed_by_provider' };
  return closeReason === 'delivery_failed' ? { provider, cause: 'delivery_failed' } : null;
}

function gone({ state, detail }: Delivery): string {
  return detail === '' ? `its delivery is ${state}` : detail;
}

function targetOf(record: ReplicaRecord, { lease, delivery }: LeaseStatus, spec: PoolSpec, url: string): Target {
  const runs = record.runs ?? spec;
  const [engine, model] = [delivery.engine ?? runs.engine, delivery.model ?? runs.model];
  const slots = delivery.slots ?? spec.slots;
  const { id, market } = record;
  const { provider, id: leaseId } = lease;
  return {
    ...{ id, url, apiKey: delivery.apiKey, engine, model, slots, market: market ?? 'local', provider, leaseId },
    certificate: delivery.certificate ?? null,
    tokenPrice: delivery.tokenPrice ?? null,
    costNanoUsdPerHour: record.costNanoUsdPerHour,
    trust: record.trust ?? spec.trust,
    region: record.region === undefined ? spec.region : record.region,
    version: record.runs?.version ?? null,
  };
}
