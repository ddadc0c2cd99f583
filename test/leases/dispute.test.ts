import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { newDispute, nextDispute, saysMore, type Dispute, type DisputeEvent } from '../../src/leases/dispute.ts';
import { withDisputes, withheldTotal, withholdRent } from '../../src/leases/withholding.ts';
import { breachOf, BREACH_KINDS, EVIDENCE_MAX } from '../../src/spec/dispute.ts';
import { testLease } from '../fakes/market-samples.ts';

const WINDOWS = { answerMs: 1000, judgeMs: 5000 };
const yes = { accepts: true, text: 'it was us', measured: [], atMs: 1 };
const no = { accepts: false, text: 'it ran', measured: [], atMs: 1 };

test('an open dispute whose provider says nothing is upheld when its window ends, not before', () => {
  assert.equal(play([[999, { type: 'time' }]]).state, 'open');
  const upheld = play([[1000, { type: 'time' }]]);
  assert.deepEqual([upheld.state, upheld.verdict?.by, upheld.dueMs], ['upheld', 'silence', null]);
});

test('an answer that contests waits for a judgement; without one in its window it stands', () => {
  const answered = play([[500, { type: 'answered', answer: no }]]);
  assert.deepEqual([answered.state, answered.dueMs], ['answered', 5500]);
  const late = play([
    [500, { type: 'answered', answer: no }],
    [5500, { type: 'time' }],
  ]);
  assert.deepEqual([late.state, late.verdict?.by], ['rejected', 'silence']);
});

test('a provider that owns up has lost at once', () => {
  const owned = play([[10, { type: 'answered', answer: yes }]]);
  assert.deepEqual([owned.state, owned.verdict?.by], ['upheld', 'provider']);
});

test('that a machine was gone is in its record when the dispute is filed: only a judgement counts on top of it', () => {
  const owned = play([[10, { type: 'answered', answer: yes }]]);
  const silent = play([[1000, { type: 'time' }]]);
  const judged = play([[10, judge(true)]]);
  assert.deepEqual([owned, silent, judged].map(saysMore), [false, false, true]);
  const breach = { ...owned.breach, kind: 'wrong_weights' } as const;
  assert.deepEqual(
    [owned, silent].map((one) => saysMore({ ...one, breach })),
    [true, true],
  );
});

test('what is certain needs no answer, and takes none', () => {
  const certain = filed({ certain: true });
  assert.deepEqual([certain.state, certain.verdict?.by], ['upheld', 'rule']);
  assert.ok('refused' in nextDispute(certain, { type: 'answered', answer: no }, { atMs: 1, windows: WINDOWS }));
});

test('nobody is asked about what stays on our own record; the operator may still take it back', () => {
  const local = filed({}, true);
  assert.equal(local.dueMs, WINDOWS.judgeMs);
  assert.ok('refused' in nextDispute(local, { type: 'answered', answer: no }, { atMs: 1, windows: WINDOWS }));
  const judged = nextDispute(local, judge(false), { atMs: 1, windows: WINDOWS });
  assert.equal('dispute' in judged ? judged.dispute.state : null, 'rejected');
});

test('whatever comes in whatever order, a decided dispute stays decided and a repeat changes nothing', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(9000), events)), fc.boolean(), fc.boolean(), (steps, certain, local) => {
      let dispute = filed({ certain }, local);
      for (const [atMs, event] of steps) {
        const before = dispute;
        const step = nextDispute(dispute, event, { atMs, windows: WINDOWS });
        if ('refused' in step) continue;
        dispute = step.dispute;
        if (before.verdict !== null) assert.equal(dispute, before, 'nothing is decided twice');
        assert.equal(dispute.verdict === null, dispute.state === 'open' || dispute.state === 'answered');
        assert.equal(dispute.dueMs === null, dispute.verdict !== null, 'an undecided one is decided by time at last');
        const again = nextDispute(dispute, event, { atMs, windows: WINDOWS });
        if ('dispute' in again) assert.deepEqual(again.dispute, dispute);
      }
      const end = nextDispute(dispute, { type: 'time' }, { atMs: 99_000, windows: WINDOWS });
      assert.ok('dispute' in end && end.dispute.verdict !== null);
    }),
  );
});

test('evidence is bounded, and has no control characters in it', () => {
  const measured = Array.from({ length: 99 }, () => ({ what: 'w'.repeat(999), value: 'a\nb', atMs: 0 }));
  const requests = Array.from({ length: 999 }, () => 'r'.repeat(999));
  const breach = breachOf({ kind: 'slow', reason: 'x\u0007'.repeat(9999), fromMs: 9, toMs: 5, measured, requests });
  assert.deepEqual([breach.reason.length, breach.measured.length], [EVIDENCE_MAX.reason, EVIDENCE_MAX.measured]);
  assert.deepEqual([breach.requests.length, breach.requests[0]?.length], [EVIDENCE_MAX.requests, EVIDENCE_MAX.text]);
  assert.deepEqual([breach.fromMs, breach.measured[0]?.value], [5, 'a b']);
  assert.ok(!/\p{Cc}/u.test(JSON.stringify(breach)));
});

test('a block that is bad in part is withheld whole, and none that was not drawn', () => {
  const lease = { ...leaseOf(100), settledBlock: 110, rentNanoUsd: 10_000n };
  const terms = { blockMs: 6000, takeFeeBp: 2000, makeFeeBp: 1000 };
  const bad = withholdRent(lease, { fromMs: 104 * 6000 + 1, toMs: 106 * 6000 + 1 }, terms, []);
  assert.deepEqual(
    [bad.fromBlock, bad.toBlock, bad.blocks, bad.rentNanoUsd, bad.takeFeeNanoUsd, bad.makeFeeNanoUsd],
    [104, 107, 3, 3000n, 600n, 300n],
  );
  assert.equal(withholdRent(lease, { fromMs: 0, toMs: 1e9 }, terms, []).blocks, 10);
  assert.equal(withholdRent(lease, { fromMs: 200 * 6000, toMs: 300 * 6000 }, terms, []).blocks, 0);
});

test('several disputes of a lease never withhold a block twice, and its amounts add up to its deposit', () => {
  const spans = fc.array(fc.tuple(fc.nat(130), fc.nat(30), fc.constantFrom('open', 'upheld', 'rejected')), {
    maxLength: BREACH_KINDS.length,
  });
  fc.assert(
    fc.property(spans, fc.nat(30), (from, blocks) => {
      const lease = {
        ...leaseOf(100),
        settledBlock: 100 + blocks,
        rentNanoUsd: BigInt(blocks) * 1000n,
        takeFeeNanoUsd: BigInt(blocks) * 200n,
        makeFeeNanoUsd: BigInt(blocks) * 100n,
        refundNanoUsd: 100_000n - BigInt(blocks) * 1200n,
      };
      const terms = { blockMs: 6000, takeFeeBp: 2000, makeFeeBp: 1000 };
      const made: Dispute[] = [];
      for (const [at, length, state] of from) {
        const breach = breachOf({ kind: 'slow', reason: 'x', fromMs: at * 6000, toMs: (at + length) * 6000 });
        const withheld = withholdRent(lease, breach, terms, made);
        const dispute = newDispute({
          market: 'local',
          lease,
          breach,
          atMs: 0,
          local: false,
          withheld,
          windows: WINDOWS,
        });
        made.push({ ...dispute, id: `d${made.length}`, state: state as Dispute['state'] });
      }
      const counted = made.filter(({ state }) => state !== 'rejected');
      const sum = counted.reduce((all, { withheld }) => all + (withheld ? withheldTotal(withheld) : 0n), 0n);
      assert.ok(sum <= lease.rentNanoUsd + lease.takeFeeNanoUsd, 'no block twice');
      const seen = withDisputes(lease, made);
      const total = seen.rentNanoUsd + seen.takeFeeNanoUsd + seen.refundNanoUsd + (seen.withheldNanoUsd ?? 0n);
      assert.equal(total, lease.depositNanoUsd);
      assert.ok(seen.rentNanoUsd >= 0n && seen.takeFeeNanoUsd >= 0n && seen.makeFeeNanoUsd >= 0n);
    }),
  );
});

const judge = (upheld: boolean): DisputeEvent => ({ type: 'judged', upheld, by: 'operator', reason: 'seen' });
const events: fc.Arbitrary<DisputeEvent> = fc.constantFrom(
  { type: 'time' } as const,
  { type: 'answered', answer: yes } as const,
  { type: 'answered', answer: no } as const,
  judge(true),
  judge(false),
);

function leaseOf(block: number) {
  const bid = { id: 'o1/desk', orderId: 'o1', provider: 'desk', priceNanoUsdPerBlock: 1000n };
  return testLease({ bid, depositNanoUsd: 100_000n, block });
}

function filed(change: { readonly certain?: boolean }, local = false): Dispute {
  const breach = breachOf({ kind: 'down', reason: 'silent', fromMs: 0, toMs: 1, ...change });
  const lease = { id: 'lease-o1', pool: 'tiny', provider: 'desk' };
  return newDispute({ market: 'local', lease, breach, atMs: 0, local, withheld: null, windows: WINDOWS });
}

function play(steps: readonly (readonly [number, DisputeEvent])[]): Dispute {
  let dispute = filed({});
  for (const [atMs, event] of steps) {
    const step = nextDispute(dispute, event, { atMs, windows: WINDOWS });
    assert.ok('dispute' in step);
    dispute = step.dispute;
  }
  return dispute;
}
