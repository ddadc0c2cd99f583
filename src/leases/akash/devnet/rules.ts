import { bankRules } from './bank-rules.ts';
import { feeRules } from './fee-rules.ts';
import { bmeRules } from './bme-rules.ts';
import type { Hooks } from './context.ts';
import { deploymentRules, onAccountClosed } from './deployment-rules.ts';
import { denial } from './denials.ts';
import { marketRules } from './market-rules.ts';
import { onPaymentClosed } from './order-rules.ts';
import { providerRules } from './provider-rules.ts';
import type { Message, Rule } from './rule.ts';

/** Every message that the emulated network carries out. */
const RULES: ReadonlyMap<string, Rule> = new Map(
  [...deploymentRules, ...marketRules, ...providerRules, ...bankRules, ...feeRules, ...bmeRules].map((one) => [
    one.typeUrl,
    one,
  ]),
);

export const HOOKS: Hooks = { accountClosed: onAccountClosed, paymentClosed: onPaymentClosed };

export function readMessage({ typeUrl, value }: { readonly typeUrl: string; readonly value: Uint8Array }): Message {
  const found = RULES.get(typeUrl);
  if (found === undefined) {
    throw denial('sdk/tx_decode', { front: `unable to resolve type URL ${typeUrl.slice(0, 100)}: tx parse error` });
  }
  try {
    return found.read(value);
  } catch (error) {
    throw denial('sdk/tx_decode', {
      front: `${error instanceof Error ? error.message : String(error)}: tx parse error`,
    });
  }
}
