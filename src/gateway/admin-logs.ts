import type { Context, Hono } from 'hono';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { AppError, describeError } from '../errors.ts';
import type { Ms } from '../units.ts';
import { requireRole } from './admin-auth.ts';
import type { AppDeps, AppEnv, FleetOperations, LeaseLogs, LogLine } from './deps.ts';

/** All that one reader gets. */
const BYTES_MAX = 16_000_000;
const FOLLOW_MS: Ms = 3_600_000;
const LOOK_MS: Ms = 60_000;
/** An empty line while nothing is said, so that a reader who is gone is noticed. */
const BEAT_MS: Ms = 5000;
const READERS_MAX = 8;
const TAIL_MAX = 10_000;

const flag = z.enum(['', '0', '1', 'true', 'false']).transform((text) => text !== '0' && text !== 'false');
const querySchema = z.object({
  events: flag.optional(),
  follow: flag.optional(),
  tail: z.coerce.number().int().min(0).max(TAIL_MAX).default(200),
  service: z.string().min(1).max(128).optional(),
});

/** `GET /admin/leases/{id}/logs`: a line of JSON for each line, `{source, text}`; `{error}` is the last one when it broke. */
export function addLogs(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  let readers = 0;
  app.get('/leases/:id/logs', async (context) => {
    // What a model server prints may have customers' words in it.
    requireRole(context.get('admin'), 'operator');
    const request = readQuery(context);
    if (readers >= READERS_MAX) {
      throw new AppError('queue_full', `${READERS_MAX} logs are being read already`, { retryAfterS: 5 });
    }
    const stop = new AbortController();
    // Before anything is awaited: of many at once no more may pass.
    readers += 1;
    let lines: AsyncIterable<LogLine>;
    try {
      lines = await fleet.leaseLogs(context.req.param('id'), request, stop.signal);
    } catch (error) {
      readers -= 1;
      throw error;
    }
    const cancel = deps.clock.timer(request.follow ? FOLLOW_MS : LOOK_MS, () => stop.abort(new Error('time is over')));
    const text = write(lines, { clock: deps.clock, isOver: () => deps.notReady() !== null });
    let ended = false;
    const end = (): void => {
      if (ended) return;
      ended = true;
      cancel();
      readers -= 1;
      stop.abort(new Error('the reader has gone'));
    };
    return new Response(bodyOf(text, end), {
      headers: { 'content-type': 'application/x-ndjson; charset=utf-8', 'cache-control': 'no-store' },
    });
  });
}

function readQuery(context: Context<AppEnv>): LeaseLogs {
  const parsed = querySchema.safeParse(context.req.query());
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const param = issue?.path.join('.') ?? '';
    throw new AppError('invalid_request', `${param}: ${issue?.message ?? 'is wrong'}`, { param });
  }
  const { events = false, follow = false, tail, service = null } = parsed.data;
  return { what: events ? 'events' : 'logs', follow, tail, service };
}

async function* write(
  lines: AsyncIterable<LogLine>,
  { clock, isOver }: { readonly clock: Clock; readonly isOver: () => boolean },
): AsyncGenerator<string, void> {
  const reader = lines[Symbol.asyncIterator]();
  let bytes = 0;
  try {
    let next = reader.next();
    while (!isOver()) {
      const step = await orBeat(next, clock);
      if (step === null) {
        yield '\n';
        continue;
      }
      if (step.done) return;
      const { source, text } = step.value;
      const line = `${JSON.stringify({ source, text })}\n`;
      bytes += Buffer.byteLength(line);
      if (bytes > BYTES_MAX) {
        yield `${JSON.stringify({ error: `more than ${BYTES_MAX} bytes: read on with a smaller tail` })}\n`;
        return;
      }
      yield line;
      next = reader.next();
    }
  } catch (error) {
    yield `${JSON.stringify({ error: describeError(error).slice(0, 1000) })}\n`;
  } finally {
    // Not awaited: it may be in the middle of a wait, which the reader's signal ends.
    Promise.resolve(reader.return?.()).catch(() => undefined);
  }
}

/** The next line, or null when none comes for a while. */
async function orBeat<T>(next: Promise<T>, clock: Clock): Promise<T | null> {
  const quiet = new AbortController();
  const beat = clock.sleep(BEAT_MS, quiet.signal).then(
    () => null,
    () => null,
  );
  try {
    return await Promise.race([next, beat]);
  } finally {
    quiet.abort(new Error('a line came'));
  }
}

function bodyOf(text: AsyncGenerator<string, void>, end: () => void): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    pull: async (controller) => {
      const { done, value } = await text.next();
      if (!done) return controller.enqueue(encoder.encode(value));
      end();
      controller.close();
    },
    cancel: async () => {
      end();
      await text.return();
    },
  });
}
