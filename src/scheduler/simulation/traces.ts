import { loadOf, type Load, type LoadRow } from './load.ts';
import { drawExponential, drawGamma, type Seeded } from './seeded.ts';

/** Readers of public traces by their shape, whatever the file is called. They take text: who reads files is elsewhere. */

/**
 * One file: Azure's CSV (`TIMESTAMP,ContextTokens,GeneratedTokens`), BurstGPT's (`Timestamp` in seconds, `Request tokens`,
 * `Response tokens`), or Mooncake's JSON lines (`timestamp` in ms, `input_length`, `output_length`).
 * @throws RangeError when it is none of these
 */
export function readTrace(text: string): Load {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  const [head = ''] = lines;
  const rows = head.startsWith('{') ? readJsonLines(lines) : readCsv(lines);
  let firstMs = Infinity;
  for (const { atMs } of rows) firstMs = Math.min(firstMs, atMs);
  if (rows.length === 0) throw new RangeError('the trace has no requests');
  return loadOf(rows.map((row) => ({ ...row, atMs: row.atMs - firstMs })));
}

function readJsonLines(lines: readonly string[]): LoadRow[] {
  return lines.map((line, at) => {
    const row = JSON.parse(line) as Record<string, unknown>;
    const read = (name: string): number => finite(Number(row[name] ?? Number.NaN), name, at + 1);
    return { atMs: read('timestamp'), inputTokens: read('input_length'), outputTokens: read('output_length') };
  });
}

function readCsv(lines: readonly string[]): LoadRow[] {
  const names = (lines[0] ?? '').split(',').map((name) => name.trim().toLowerCase());
  const find = (...known: readonly string[]): number => names.findIndex((name) => known.includes(name));
  const time = find('timestamp', 'arrival_timestamp', 'time');
  const input = find('contexttokens', 'request tokens', 'input_length', 'num_prefill_tokens');
  const output = find('generatedtokens', 'response tokens', 'output_length', 'num_decode_tokens');
  if (time < 0 || input < 0 || output < 0) throw new RangeError(`not a trace of a known shape: ${names.join(', ')}`);
  return lines.slice(1).map((line, at) => {
    const cells = line.split(',');
    return {
      atMs: readTime(cells[time] ?? '', at + 2),
      inputTokens: finite(Number(cells[input] ?? ''), 'input tokens', at + 2),
      outputTokens: finite(Number(cells[output] ?? ''), 'output tokens', at + 2),
    };
  });
}

/** Seconds, or a date and time in UTC ("2023-11-16 18:17:03.9799600"). */
function readTime(cell: string, line: number): number {
  const match = /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d(?:\.\d+)?)/.exec(cell.trim());
  if (!match) return finite(Number(cell) * 1000, 'time', line);
  const [year = 0, month = 0, day = 0, hours = 0, minutes = 0, seconds = 0] = match.slice(1).map(Number);
  return (daysFromCivil(year, month, day) * 86_400 + hours * 3600 + minutes * 60 + seconds) * 1000;
}

/** Days since 1970 in the Gregorian calendar (Hinnant's algorithm): this file has no business with clocks. */
function daysFromCivil(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const ofEra = shifted - era * 400;
  const ofYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  return era * 146_097 + ofEra * 365 + Math.floor(ofEra / 4) - Math.floor(ofEra / 100) + ofYear - 719_468;
}

function finite(value: number, what: string, line: number): number {
  if (!Number.isFinite(value)) throw new RangeError(`line ${line} has no ${what}`);
  return value;
}

/** A window of one of ServeGen's clients. */
interface Window {
  readonly startS: number;
  readonly perS: number;
  readonly family: string;
  readonly shape: number;
}

/** @throws RangeError when a line is not `start, rate, cv, family, parameter, parameter` */
function readClient(text: string): Window[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '')
    .map((line, at) => {
      const [start, rate, , family = '', shape] = line.split(',');
      return {
        startS: finite(Number(start), 'window', at + 1),
        perS: finite(Number(rate), 'rate', at + 1),
        family: family.trim(),
        shape: finite(Number(shape), 'parameter', at + 1),
      };
    });
}

/**
 * Draws a load from ServeGen's clients: in each window the gaps are of its family (Gamma or Weibull of its shape, else
 * exponential) at its rate. Token counts come from `sizes`, a run of them in a row, since neighbours are alike.
 * @param perS the mean rate to scale the clients' sum to: as recorded they have hundreds a second
 */
export function drawServeGen(clients: readonly string[], sizes: Load, perS: number, random: Seeded): Load {
  const windows = clients.map(readClient);
  const lengthS = (windows[0]?.[1]?.startS ?? 600) - (windows[0]?.[0]?.startS ?? 0);
  let sum = 0;
  let spanS = 0;
  for (const client of windows) {
    for (const { perS: rate, startS } of client) {
      sum += rate * lengthS;
      spanS = Math.max(spanS, startS + lengthS);
    }
  }
  if (sum === 0) throw new RangeError('the clients send nothing');
  const share = (perS * spanS) / sum;
  const rows: LoadRow[] = [];
  let size = Math.floor(random() * sizes.atMs.length);
  for (const client of windows) {
    for (const window of client) {
      const rate = window.perS * share;
      if (rate <= 0) continue;
      const end = window.startS + lengthS;
      for (
        let at = window.startS + (drawGap(window, random) * random()) / rate;
        at < end;
        at += drawGap(window, random) / rate
      ) {
        size = (size + 1) % sizes.atMs.length;
        const [inputTokens, outputTokens] = [sizes.inputTokens[size] ?? 1, sizes.outputTokens[size] ?? 1];
        rows.push({ atMs: at * 1000, inputTokens, outputTokens });
      }
    }
  }
  return loadOf(rows, spanS * 1000);
}

/** A gap with mean 1. */
function drawGap({ family, shape }: Window, random: Seeded): number {
  if (family === 'Gamma') return drawGamma(random, Math.max(0.05, shape));
  if (family !== 'Weibull') return drawExponential(random, 1);
  const k = Math.max(0.2, shape);
  return (-Math.log(1 - random())) ** (1 / k) / gamma(1 + 1 / k);
}

/** Lanczos, good to many digits for what is asked here (1 to 6). */
function gamma(x: number): number {
  const terms = [
    676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406, 12.507343278686905,
    -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7,
  ];
  let sum = 0.9999999999998099;
  for (const [at, term] of terms.entries()) sum += term / (x + at);
  const t = x + 6.5;
  return Math.sqrt(2 * Math.PI) * t ** (x - 0.5) * Math.exp(-t) * sum;
}
