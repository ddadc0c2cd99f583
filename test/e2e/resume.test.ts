import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';
import { askStreamed, type Answer } from './streamed-answer.ts';

/** Real model servers, killed in the middle of an answer: the client sees one unbroken stream and pays for it once. */

const QUESTION = {
  temperature: 0,
  seed: 7,
  max_tokens: 160,
  messages: [{ role: 'user', content: 'Tell a story of a fox.' }],
};
const KILLS = 3;

test('a model server killed in mid-answer is replaced, and the answer is what it would have been', async (t) => {
  const gateway = await startGateway(t);
  const whole = await ask(gateway, () => undefined);
  assert.ok(whole.text.length > 200 && whole.done);
  await until('the pool is seen to resume', 60_000, async () => {
    const { data } = (await gateway.admin('/admin/decisions?limit=1000')) as {
      data: { kind: string; reason: string }[];
    };
    const no = data.find(({ kind }) => kind === 'pool.does_not_resume');
    assert.equal(no, undefined, no?.reason);
    return data.some(({ kind }) => kind === 'pool.resumes') ? true : null;
  });
  for (let round = 0; round < KILLS; round += 1) {
    const before = await used(gateway);
    const killAt = 40 + 60 * round;
    let killed: number | null = null;
    const answer = await ask(gateway, (soFar) => {
      if (killed !== null || soFar.length < killAt) return;
      killed = modelServers(gateway)[0] ?? null;
      if (killed !== null) process.kill(killed, 'SIGKILL');
    });
    assert.notEqual(killed, null, 'a model server was killed');
    assert.equal(answer.done, true, JSON.stringify(answer.error));
    assert.equal(answer.ids.size, 1);
    // Cut where its tokens end, the rest is the same: nothing doubled, nothing lost.
    assert.equal(answer.text, whole.text, `killed after ${killAt} characters`);
    assert.deepEqual(
      [answer.usage?.prompt_tokens, answer.usage?.completion_tokens],
      [whole.usage?.prompt_tokens, whole.usage?.completion_tokens],
    );
    assert.equal(await used(gateway), before + nanoOf(answer.usage?.cost ?? 0), 'one charge');
    const { data } = (await generation(gateway, [...answer.ids][0] ?? '')) as { data: Record<string, unknown> };
    assert.deepEqual([data['resumed'], data['status']], [1, 'done']);
    assert.match(answer.comments, /waiting: /);
    await disputed(gateway, [...answer.ids][0] ?? '');
  }
  const check = (await gateway.admin('/admin/ledger/check')) as { ok: boolean };
  assert.equal(check.ok, true);
  const leases = (await gateway.admin('/admin/leases')) as { data: { state: string }[] };
  assert.ok(leases.data.length >= KILLS + 1, 'each dead machine was replaced by one won at an auction');
});

async function ask(gateway: GatewayProcess, onText: (soFar: string) => void): Promise<Answer> {
  const answer = await askStreamed(gateway, { model: 'smollm2-135m', ...QUESTION }, onText);
  assert.equal(answer.status, 200);
  return answer;
}

async function generation(gateway: GatewayProcess, id: string): Promise<unknown> {
  const headers = { authorization: `Bearer ${gateway.demoKey}` };
  return (await fetch(`${gateway.url}/v1/generation?id=${id}`, { headers })).json();
}

/** Its machine's end is a breach that names it, and its provider's own log owns up to it. */
async function disputed(gateway: GatewayProcess, request: string): Promise<void> {
  const { data } = (await gateway.admin('/admin/disputes')) as { data: { id: string; kind: string; state: string }[] };
  const all = await Promise.all(
    data.map(async (dispute) => {
      const shown = (await gateway.admin(`/admin/disputes/${dispute.id}`)) as { evidence: { requests: string[] } };
      return { ...dispute, requests: shown.evidence.requests };
    }),
  );
  const told = all.find(({ requests }) => requests.includes(request));
  assert.deepEqual([told?.kind, told?.state], ['down', 'upheld'], JSON.stringify(all));
}

const nanoOf = (usd: number): bigint => BigInt(Math.round(usd * 1e9));

async function used(gateway: GatewayProcess): Promise<bigint> {
  const account = (await gateway.admin('/admin/accounts/demo')) as Record<string, string>;
  return nanoOf(Number(account['used_usd']));
}

/** Processes below the gateway that hold a model: by far the largest ones. */
function modelServers(gateway: GatewayProcess): number[] {
  const found: number[] = [];
  const visit = (pid: number): void => {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim();
      for (const child of children === '' ? [] : children.split(' ').map(Number)) {
        const rss = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child}/status`, 'utf8'))?.[1] ?? 0);
        if (rss > 100_000) found.push(child);
        visit(child);
      }
    }
  };
  visit(gateway.child.pid ?? 0);
  return found;
}
