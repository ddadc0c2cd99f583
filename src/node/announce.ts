import type { Settings } from '../config.ts';
import type { MarketName, PoolSpec } from '../spec.ts';

/** What a start says on the terminal. */
export function announce(url: string, demoKey: string | null, settings: Settings): void {
  console.log(`underbid ready on ${url}`);
  if (demoKey === null) return;
  const model = settings.pools[0]?.id ?? 'smollm2-135m';
  const body = `{"model":"${model}","stream":true,"messages":[{"role":"user","content":"Why is the sky blue?"}]}`;
  console.log(
    [
      '',
      'The account "demo" has $5.00 of promo credit. Its key, shown this once (it is also in demo.key in the data folder):',
      '',
      `  ${demoKey}`,
      '',
      isRented(settings.pools[0], settings)
        ? 'Try it; the first question wins a machine at auction and starts a model server, so it takes some seconds:'
        : 'Try it:',
      '',
      `  curl -N ${url}/v1/chat/completions -H 'Authorization: Bearer ${demoKey}' -H 'Content-Type: application/json' -d '${body}'`,
      '',
    ].join('\n'),
  );
}

/** Whether its machines come from an auction; servers that already run answer at once. */
function isRented(pool: PoolSpec | undefined, { markets: { local, akash } }: Settings): boolean {
  const mayBid = (name: MarketName): boolean => pool?.markets?.includes(name) ?? true;
  return (local !== null && mayBid('local')) || (akash !== null && mayBid('akash'));
}
