import { bigintOf, numberOf, numberOrNull, textOf, textOrNull, type Sql } from '../store/sql.ts';
import { formatUsd, parseUsd, type EpochMs, type NanoUsd } from '../units.ts';
import {
  isLive,
  taken,
  UNLIMITED,
  type ActResult,
  type CapView,
  type KeyOp,
  type KeyRecord,
  type KeySettings,
  type ProjectOp,
  type ProjectRecord,
  type RevokeOp,
  type RotateOp,
  type Spending,
  type SpendReset,
} from './access.ts';
import type { Journal } from './journal.ts';
import { Spend, type Cap } from './spend.ts';

export interface Key {
  record: KeyRecord;
  /** Shared by all keys of a chain of rotations: a rotation gives nobody a fresh limit. */
  readonly spend: Spend;
  readonly project: Project | null;
  /** All that limits its holds besides its account's credit. */
  readonly caps: readonly Cap[];
}

export interface Project {
  readonly customer: string;
  readonly name: string;
  readonly cap: Cap;
}

const NO_KEY: ActResult = { ok: false, why: 'there is no such key', code: 'not_found' };

/** Keys and their projects, and what both have spent. */
export class ApiKeys {
  readonly #journal: Journal;
  readonly #hasCustomer: (id: string) => boolean;
  readonly #keys = new Map<string, Key>();
  /** By the first key of a chain. */
  readonly #spends = new Map<string, Spend>();
  /** By customer, then by name. */
  readonly #projects = new Map<string, Map<string, Project>>();

  constructor(options: {
    readonly journal: Journal;
    readonly sql: Sql | null;
    readonly nowMs: EpochMs;
    readonly hasCustomer: (id: string) => boolean;
  }) {
    this.#journal = options.journal;
    this.#hasCustomer = options.hasCustomer;
    if (options.sql) this.#load(options.sql, options.nowMs);
  }

  find(id: string | null): Key | undefined {
    return id === null ? undefined : this.#keys.get(id);
  }

  records(): KeyRecord[] {
    return [...this.#keys.values()].map((key) => key.record);
  }

  /** What was charged by a key before this start, in the windows of `atMs`. */
  restore(id: string, atMs: EpochMs, reset: SpendReset, amount: NanoUsd): void {
    for (const { spend } of this.#keys.get(id)?.caps ?? []) spend.bucket(reset, atMs).spent += amount;
  }

  add({ id, hash, hint, customer, name, settings, atMs }: KeyOp): ActResult {
    if (!this.#hasCustomer(customer)) return { ok: false, why: 'there is no such account', code: 'not_found' };
    const known = this.#keys.get(id)?.record;
    if (known) {
      const same = known.customer === customer && known.name === name && sameSettings(known.settings, settings);
      return same && known.hash === hash ? { ok: true, existed: true } : taken('key', same);
    }
    const ends = { revokedMs: null, endsMs: null, replacedBy: null };
    this.#insert({ id, hash, hint, customer, name, settings, atMs, root: id, ...ends });
    return { ok: true, existed: false };
  }

  rotate({ id, successor, overlapMs, atMs }: RotateOp): ActResult {
    const key = this.#keys.get(id);
    if (!key) return NO_KEY;
    const { record } = key;
    if (record.replacedBy !== null) {
      const again = record.replacedBy === successor.id && this.#keys.get(successor.id)?.record.hash === successor.hash;
      if (again) return { ok: true, existed: true };
      return { ok: false, why: `this key was rotated already: ${record.replacedBy} took its place`, code: 'conflict' };
    }
    if (!isLive(record, atMs)) return { ok: false, why: 'this key has expired or was revoked', code: 'conflict' };
    if (this.#keys.has(successor.id)) return { ok: false, why: 'the new id is taken', code: 'conflict' };
    const endsMs = atMs + overlapMs;
    key.record = { ...record, endsMs, replacedBy: successor.id };
    const values = [BigInt(endsMs), successor.id, id];
    this.#journal.write('UPDATE api_keys SET ends_ms = ?, replaced_by = ? WHERE id = ?', values);
    this.#insert({ ...record, ...successor, atMs });
    return { ok: true, existed: false };
  }

  revoke({ id, atMs }: RevokeOp): ActResult {
    const key = this.#keys.get(id);
    if (!key) return NO_KEY;
    if (key.record.revokedMs !== null) return { ok: true, existed: true };
    key.record = { ...key.record, revokedMs: atMs };
    this.#journal.write('UPDATE api_keys SET revoked_ms = ? WHERE id = ?', [BigInt(atMs), id]);
    return { ok: true, existed: false };
  }

  setProject({ customer, name, spendLimit, reset, atMs }: ProjectOp): ActResult {
    if (!this.#hasCustomer(customer)) return { ok: false, why: 'there is no such account', code: 'not_found' };
    const { cap } = this.#project(customer, name, atMs);
    if (cap.limit === spendLimit && cap.reset === reset) return { ok: true, existed: true };
    cap.limit = spendLimit;
    cap.reset = reset;
    this.#journal.write(UPSERT_PROJECT, [customer, name, spendLimit, reset, BigInt(atMs)]);
    return { ok: true, existed: false };
  }

  /** The projects of an account: those of its keys and those that have a limit. */
  projects(customer: string, atMs: EpochMs): ProjectRecord[] {
    return [...(this.#projects.get(customer)?.values() ?? [])].map((project) => describeProject(project, atMs));
  }

  spending(id: string, atMs: EpochMs): Spending | null {
    const key = this.#keys.get(id);
    if (!key) return null;
    const { spend, caps, project } = key;
    const spent = (reset: SpendReset): NanoUsd => spend.bucket(reset, atMs).spent;
    const [cap] = caps;
    if (!cap) return null;
    const shown = project && describeProject(project, atMs);
    const windows = { day: spent('day'), week: spent('week'), month: spent('month') };
    return { total: spent('none'), ...windows, cap: describeCap(cap, atMs), project: shown };
  }

  #insert(record: KeyRecord): void {
    this.#know(record, record.atMs);
    const { id, hash, hint, customer, name, settings, atMs, root } = record;
    const values = [id, hash, hint, customer, name, writeKeySettings(settings), BigInt(atMs)];
    this.#journal.write(INSERT_KEY, [...values, root === id ? null : root]);
  }

  #know(record: KeyRecord, nowMs: EpochMs): void {
    const { customer, root, settings } = record;
    const spend = this.#spends.get(root) ?? new Spend(nowMs);
    this.#spends.set(root, spend);
    const project = settings.project === null ? null : this.#project(customer, settings.project, nowMs);
    const own: Cap = { source: 'key', limit: settings.spendLimit, reset: settings.limitReset, spend };
    this.#keys.set(record.id, { record, spend, project, caps: project ? [own, project.cap] : [own] });
  }

  #project(customer: string, name: string, nowMs: EpochMs): Project {
    const own = this.#projects.get(customer) ?? new Map<string, Project>();
    this.#projects.set(customer, own);
    const project = own.get(name) ?? {
      customer,
      name,
      cap: { source: 'project', limit: null, reset: 'none', spend: new Spend(nowMs) },
    };
    own.set(name, project);
    return project;
  }

  #load(sql: Sql, nowMs: EpochMs): void {
    for (const row of sql.all('SELECT * FROM projects')) {
      const { cap } = this.#project(textOf(row, 'customer'), textOf(row, 'name'), nowMs);
      cap.limit = row['spend_limit'] === null ? null : bigintOf(row, 'spend_limit');
      cap.reset = textOf(row, 'reset') as SpendReset;
    }
    // In the order in which they were made.
    for (const row of sql.all('SELECT * FROM api_keys ORDER BY rowid')) {
      const id = textOf(row, 'id');
      const record: KeyRecord = {
        id,
        hash: textOf(row, 'hash'),
        hint: textOf(row, 'hint'),
        customer: textOf(row, 'customer'),
        name: textOf(row, 'name'),
        settings: parseKeySettings(textOf(row, 'settings')),
        atMs: numberOf(row, 'at_ms'),
        revokedMs: numberOrNull(row, 'revoked_ms'),
        root: textOrNull(row, 'root') ?? id,
        endsMs: numberOrNull(row, 'ends_ms'),
        replacedBy: textOrNull(row, 'replaced_by'),
      };
      this.#know(record, nowMs);
    }
  }
}

function sameSettings(one: KeySettings, other: KeySettings): boolean {
  const names = Object.keys(UNLIMITED) as (keyof KeySettings)[];
  // Lists of models by their text; a spend limit is a bigint, which JSON does not have.
  return names.every((name) => String(one[name]) === String(other[name]));
}

function describeCap({ limit, reset, spend }: Cap, atMs: EpochMs): CapView {
  const { spent, held, endMs } = spend.bucket(reset, atMs);
  return { limit, reset, spent, held, resetsMs: reset === 'none' ? null : endMs };
}

function describeProject({ customer, name, cap }: Project, atMs: EpochMs): ProjectRecord {
  return { customer, name, ...describeCap(cap, atMs) };
}

function writeKeySettings({ spendLimit, wakeFeeMax = null, ...rest }: KeySettings): string {
  const spendLimitUsd = spendLimit === null ? null : formatUsd(spendLimit);
  return JSON.stringify({ ...rest, spendLimitUsd, wakeFeeMaxUsd: wakeFeeMax === null ? null : formatUsd(wakeFeeMax) });
}

interface WrittenSettings extends Omit<KeySettings, 'spendLimit' | 'wakeFeeMax'> {
  readonly spendLimitUsd: string | null;
  readonly wakeFeeMaxUsd?: string | null;
}

/** Settings that version 1 did not know are as it treated them. */
export function parseKeySettings(text: string): KeySettings {
  const { spendLimitUsd, wakeFeeMaxUsd = null, ...rest } = JSON.parse(text) as WrittenSettings;
  const amounts = {
    spendLimit: spendLimitUsd === null ? null : parseUsd(spendLimitUsd),
    wakeFeeMax: wakeFeeMaxUsd === null ? null : parseUsd(wakeFeeMaxUsd),
  };
  return { ...UNLIMITED, ...rest, ...amounts };
}

const INSERT_KEY = `INSERT INTO api_keys (id, hash, hint, customer, name, settings, at_ms, root)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?)`;
const UPSERT_PROJECT = `INSERT INTO projects (customer, name, spend_limit, reset, at_ms) VALUES (?, ?, ?, ?, ?)
  ON CONFLICT (customer, name) DO UPDATE SET spend_limit = excluded.spend_limit, reset = excluded.reset,
    at_ms = excluded.at_ms`;
