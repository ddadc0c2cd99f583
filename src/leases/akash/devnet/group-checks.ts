import type { GroupSpec, ResourceUnit } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { parseDec, type Dec, type DecCoin } from './decimal.ts';

/** Limits and texts of chain-sdk `go/node/deployment/v1beta4/validation_config.go` and its neighbours. */
const MIB = 1024n * 1024n;
const TIB = MIB * MIB;
const LIMITS = {
  cpu: [10n, 384_000n],
  gpu: [0n, 24n],
  memory: [MIB, 2n * TIB],
  storage: [5n * MIB, 32n * TIB],
} as const;
const UNIT_PRICE_MAX = parseDec('10000000');
const COUNT_MAX = 50n;

/** A resource's value: its decimal digits, as Go's Int writes itself. */
export function quantityOf(value: { readonly val: Uint8Array } | undefined): bigint {
  const text = value === undefined ? '' : new TextDecoder().decode(value.val);
  return /^\d{1,30}$/.test(text) ? BigInt(text) : 0n;
}

export function unitPrice(unit: ResourceUnit): DecCoin {
  return { denom: unit.price?.denom ?? '', amount: decOrZero(unit.price?.amount) };
}

function decOrZero(text: string | undefined): Dec {
  return text === undefined || text === '' ? 0n : parseDec(text);
}

/** What the whole group may cost per block: each unit's price by its count. */
export function groupPrice(spec: GroupSpec): DecCoin {
  const prices = spec.resources.map((unit) => ({ ...unitPrice(unit), count: BigInt(unit.count) }));
  const amount = prices.reduce((sum, price) => sum + price.amount * price.count, 0n);
  return { denom: prices[0]?.denom ?? '', amount };
}

/** What is wrong with a group in the chain's own words; null: nothing. */
export function groupFault(spec: GroupSpec): string | null {
  if (spec.name === '') return 'empty group spec name denomination';
  const ids = new Set<number>();
  for (const unit of spec.resources) {
    const fault = unitFault(unit);
    if (fault !== null) return fault;
    const id = unit.resource?.id ?? 0;
    if (ids.has(id)) return `duplicate resources ID (${id}) within group`;
    ids.add(id);
  }
  return totalFault(spec) ?? pricingFault(spec);
}

function unitFault({ resource }: ResourceUnit): string | null {
  if (resource === undefined || resource.id === 0) return 'error: invalid resources ID (> 0 fails)';
  const { cpu, gpu, memory, storage } = resource;
  const nil = (what: string): string => `error: invalid unit ${what}, cannot be nil`;
  if (cpu === undefined) return nil('CPU');
  if (gpu === undefined) return nil('GPU');
  if (memory === undefined) return nil('memory');
  if (storage.length === 0) return nil('storage');
  const gpus = quantityOf(gpu.units);
  return (
    rangeFault('CPU', quantityOf(cpu.units), LIMITS.cpu) ??
    rangeFault('GPU', gpus, LIMITS.gpu) ??
    (gpus === 0n && gpu.attributes.length > 0
      ? 'error: invalid GPU state. attributes cannot be present if units == 0'
      : null) ??
    rangeFault('memory', quantityOf(memory.quantity), LIMITS.memory) ??
    storage.reduce<string | null>(
      (fault, volume) => fault ?? rangeFault('storage', quantityOf(volume.quantity), LIMITS.storage),
      null,
    )
  );
}

function rangeFault(what: string, value: bigint, [least, most]: readonly [bigint, bigint]): string | null {
  if (value >= least && value <= most) return null;
  return `error: invalid unit ${what} (${most} > ${value} > ${what === 'storage' ? least : most} fails)`;
}

function totalFault(spec: GroupSpec): string | null {
  const total = (of: (unit: ResourceUnit) => bigint): bigint =>
    spec.resources.reduce((sum, unit) => sum + of(unit) * BigInt(unit.count), 0n);
  const sums = [
    ['CPU', total((unit) => quantityOf(unit.resource?.cpu?.units)), LIMITS.cpu[1], true],
    ['GPU', total((unit) => quantityOf(unit.resource?.gpu?.units)), LIMITS.gpu[1], false],
    ['memory', total((unit) => quantityOf(unit.resource?.memory?.quantity)), LIMITS.memory[1], true],
  ] as const;
  for (const [what, sum, most, needed] of sums) {
    if (sum > most * COUNT_MAX || (needed && sum <= 0n)) {
      return `invalid total ${what} (${most * COUNT_MAX} > ${sum} > 0 fails)`;
    }
  }
  return null;
}

function pricingFault(spec: GroupSpec): string | null {
  const first = spec.resources[0] === undefined ? '' : unitPrice(spec.resources[0]).denom;
  for (const unit of spec.resources) {
    const { denom, amount } = unitPrice(unit);
    const front = `group ${spec.name}: error:`;
    if (denom === '' || amount < 0n) return `${front} invalid price object`;
    if (amount > UNIT_PRICE_MAX) {
      return `${front} invalid unit price (10000000 > ${unit.price?.amount ?? ''}${denom} fails)`;
    }
    if (denom !== first) return `multi-denonimation group: (${denom} == ${first} fails)`;
  }
  return null;
}
