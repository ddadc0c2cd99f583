/**
 * Replies as people read them. Nothing here knows what a lease is: a field that a later gateway adds is printed like any
 * other. All text passes through `clean`, since a provider's note may hold a terminal's escape codes.
 */
const CELL_MAX = 72;
/** Nothing stands behind it that it could push away. */
const LAST_CELL_MAX = 400;
const GAP = '  ';

type Row = Readonly<Record<string, unknown>>;

/** A reply of the admin API: a list's rows as a table, or each in full when they hold lists themselves. */
export function formatReply(body: unknown): string {
  if (!isRow(body)) return body === null ? 'done' : formatCell('', body);
  const { data, ...rest } = body;
  if (!Array.isArray(data)) return formatObject(body);
  const { object: _, ...about } = rest;
  const shown = data.length === 0 ? 'none' : formatList(data);
  return Object.keys(about).length === 0 ? shown : `${shown}\n\n${formatObject(about)}`;
}

function formatList(items: readonly unknown[]): string {
  const rows = items.map((item) => (isRow(item) ? flatten(item) : { value: item }));
  const nested = rows.some((row) => Object.values(row).some(isListOfRows));
  return nested ? rows.map(formatObject).join('\n\n') : formatTable(rows);
}

/** One thing: its fields below each other, then its lists as tables. */
export function formatObject(object: Row): string {
  const entries = Object.entries(flatten(object));
  const plain = entries.filter(([, value]) => !isListOfRows(value));
  const width = Math.max(0, ...plain.map(([key]) => clean(key).length));
  const fields = plain.map(([key, value]) => `${clean(key).padEnd(width)}${GAP}${formatCell(key, value)}`.trimEnd());
  const lists = entries.flatMap(([key, value]) =>
    isListOfRows(value) ? [`${clean(key)}:\n${indent(key === 'steps' ? formatSteps(value) : formatList(value))}`] : [],
  );
  return [...(fields.length > 0 ? [fields.join('\n')] : []), ...lists].join('\n');
}

/** A lease's life: each step on a line, with whatever amounts it has. */
function formatSteps(steps: readonly Row[]): string {
  const names = steps.map((step) => formatCell('step', step['step']));
  const width = Math.max(...names.map((name) => name.length));
  return steps
    .map((step, index) => {
      const { step: _, at, block, ...rest } = step;
      const when = at === undefined || at === null ? 'not yet' : formatCell('at', at);
      const where = block === undefined || block === null ? '' : `block ${formatCell('block', block)}`;
      const entries = Object.entries(flatten(rest)).filter(([, value]) => value !== null && value !== '');
      const amounts = entries
        .filter(([, value]) => !isListOfRows(value))
        .map(([key, value]) => `${clean(key.replace(/^amounts\./, ''))} ${formatCell(key, value)}`);
      const head = `${index + 1}. ${(names[index] ?? '').padEnd(width)}${GAP}${when.padEnd(20)}`;
      const line = [head, where, amounts.join(', ')]
        .filter((part) => part !== '')
        .join(GAP)
        .trimEnd();
      const lists = entries.flatMap(([key, value]) =>
        isListOfRows(value) ? [indent(indent(`${clean(key)}:\n${indent(formatList(value))}`))] : [],
      );
      return [line, ...lists].join('\n');
    })
    .join('\n');
}

/** A column that is empty in every row is left out: most fields say something of few rows. */
export function formatTable(rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((column) =>
    rows.some((row) => formatCell(column, row[column]) !== ''),
  );
  const last = columns.length - 1;
  const cells = rows.map((row) =>
    columns.map((column, index) => shorten(formatCell(column, row[column]), index === last ? LAST_CELL_MAX : CELL_MAX)),
  );
  const widths = columns.map((column, index) =>
    Math.max(clean(column).length, ...cells.map((line) => line[index]?.length ?? 0)),
  );
  // Numbers stand below each other by their last digit.
  const numeric = columns.map((_, index) => cells.every((line) => /^$|^-?\d+(\.\d+)?$/.test(line[index] ?? '')));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, index) => (numeric[index] ? text.padStart(widths[index] ?? 0) : text.padEnd(widths[index] ?? 0)))
      .join(GAP)
      .trimEnd();
  return [line(columns.map(clean)), ...cells.map(line)].join('\n');
}

/** `{score: {value, why}}` as `score.value` and `score.why`; lists stay. */
function flatten(row: Row, prefix = ''): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row).flatMap(([key, value]): [string, unknown][] => {
      const name = `${prefix}${key}`;
      return isRow(value) ? Object.entries(flatten(value, `${name}.`)) : [[name, value]];
    }),
  );
}

function formatCell(key: string, value: unknown): string {
  if (value === null || value === undefined) return '';
  // Amounts are texts; what is left are scores and chances.
  if (typeof value === 'number' && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  if (typeof value === 'number' && /(^|[._])at(_ms|_s)?$|(^|\.)created$/.test(key)) return formatTime(value);
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map((item) => formatCell('', item)).join(', ');
  return clean(typeof value === 'string' ? value : JSON.stringify(value));
}

// Swedish dates are ISO's, and this way no clock is touched.
const times = new Intl.DateTimeFormat('sv-SE', { timeZone: 'UTC', dateStyle: 'short', timeStyle: 'medium' });

/** Seconds or milliseconds since 1970: the former pass 1e11 in the year 5138. */
function formatTime(value: number): string {
  const ms = value < 1e11 ? value * 1000 : value;
  return Math.abs(ms) < 8.64e15 ? `${times.format(ms)}Z` : String(value);
}

/** Line ends become blanks; control and direction characters would act on the terminal. */
function clean(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\p{Cc}\p{Cf}]/gu, '\u{fffd}');
}

/** A line of somebody else's, for a terminal: its blanks stay, what would act on the terminal does not. */
export function cleanLine(text: string): string {
  return text.replaceAll('\t', '    ').replace(/[\p{Cc}\p{Cf}]/gu, '\u{fffd}');
}

function shorten(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function indent(text: string): string {
  return text.replace(/^/gm, GAP);
}

function isRow(value: unknown): value is Row {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isListOfRows(value: unknown): value is readonly Row[] {
  return Array.isArray(value) && value.length > 0 && value.every(isRow);
}
