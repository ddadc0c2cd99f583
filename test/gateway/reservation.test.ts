import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { systemClock } from '../../src/clock.ts';
import { Reservation } from '../../src/gateway/admission.ts';
import { createMemoryLedger } from '../../src/ledger/memory.ts';
import { Worths } from '../../src/scheduler/pool/worth.ts';

/** What a reply says that it cost is written before its charge is made. */

const price = fc.record({
  inputPico: fc.bigInt({ min: 0n, max: 3_000n }),
  cachedInputPico: fc.bigInt({ min: 0n, max: 3_000n }),
  outputPico: fc.bigInt({ min: 0n, max: 9_000n }),
});
/** Model servers are strangers: some of these are no counts. */
const count = fc.oneof(fc.nat(300), fc.constantFrom(-1, 1.5, 2e9, Number.NaN));

test('a request costs what was foretold, whatever was held, extended and claimed', async () => {
  const ledger = createMemoryLedger(systemClock);
  await ledger.ask({ op: 'customer', id: 'ann', name: 'ann', atMs: 0 });
  const grant = { id: 'g', customer: 'ann', kind: 'paid' as const, amount: 1_000_000_000_000n, expiresMs: null };
  await ledger.ask({ op: 'grant', ...grant, actor: 'test', reason: 'x', atMs: 0 });
  const caller = { customer: 'ann', key: null as unknown as string } as Parameters<
    typeof Reservation.open
  >[2]['caller'];
  const worths = new Worths();
  let requests = 0;
  let capped = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.record({ price, bound: fc.nat(200), output: fc.nat(200), more: fc.array(fc.nat(50), { maxLength: 3 }) }),
      fc.record({ inputTokens: count, cachedTokens: count, outputTokens: count }),
      async ({ price: of, bound, output, more }, tokens) => {
        requests += 1;
        const priceVersion = await ledger.ask({ op: 'price', model: 'm', price: of, atMs: 0 });
        const reservation = await Reservation.open(ledger, systemClock, {
          request: `r${requests}`,
          caller,
          model: 'm',
          price: of,
          priceVersion,
          inputBound: bound,
          inputLeast: 0,
          outputTokens: output,
          mayShorten: false,
          wakeFee: 0n,
          worths,
          deadlineMs: systemClock.now() + 60_000,
          countPrompt: () => Promise.resolve(null),
          idempotency: null,
        });
        assert.ok(reservation instanceof Reservation);
        for (const by of more) await reservation.extend(by);
        const foretold = reservation.costOf(tokens);
        assert.equal(await reservation.settle(tokens, 'done', {}), foretold);
        if (tokens.inputTokens > bound) capped += 1;
      },
    ),
    { numRuns: 500 },
  );
  assert.ok(capped > 50, 'charges were limited by their holds too');
});
