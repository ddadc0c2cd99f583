import { InvalidArgumentError } from 'commander';
import { parseUsd } from '../units.ts';

/** Values of the command line: what is wrong with one is said before anything is sent. */

export function parseAmount(text: string): string {
  try {
    parseUsd(text);
    return text;
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? `${error.message}.` : 'It is no amount.');
  }
}

/** An amount, or `none` for no limit. */
export function parseLimit(text: string): string {
  return text === 'none' ? text : parseAmount(text);
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('It must be a whole number above 0.');
  return Number(text);
}

export function parseSeconds(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It must be a whole number of seconds.');
  return Number(text);
}

/** A date alone is its midnight in UTC. */
export function parseTime(text: string): number | string {
  if (/^\d{4}-\d{2}-\d{2}$/.test(text)) return `${text}T00:00:00Z`;
  return /^\d+$/.test(text) ? Number(text) : text;
}
