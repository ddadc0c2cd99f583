import { z } from 'zod';
import { poolSchema } from '../spec.ts';
import { secretSchema, serverUrl } from './fields.ts';

const usd = poolSchema.shape.ceiling_usd_per_hour;
const count = (least: number, most: number) => z.number().int().min(least).max(most);
export const addressSchema = z
  .string()
  .regex(/^akash1[02-9ac-hj-np-z]{38,58}$/, 'is not an address of the network (akash1…)');
export const denomSchema = z.string().regex(/^[A-Za-z][A-Za-z0-9/:._-]{2,127}$/, 'is not a denom of the chain');
const path = z.string().min(1).max(4096);

const treasurySchema = z
  .strictObject({
    mint: z
      .boolean()
      .optional()
      .describe('whether AKT is turned into ACT by itself; default: on the emulated network only'),
    hours_min: count(1, 8760).default(24).describe('hours of rent in ACT below which it is minted'),
    hours_max: count(1, 8760).default(72).describe('hours of rent up to which it is minted'),
    least_usd_per_hour: usd
      .default('0.50')
      .describe('the rent of an hour is taken to be at least this, so that the first order can be paid'),
    act_max_usd: usd.default('500').describe('the stock is never minted above this'),
    mint_max_usd_per_day: usd.default('200').describe('the most that is minted within a day'),
    spread_max_bp: count(0, 1000)
      .default(100)
      .describe('the highest mint spread that is taken, in hundredths of a percent'),
    akt_reserve: usd.default('5').describe('AKT that stays for fees'),
  })
  .refine(({ hours_min: least, hours_max: most }) => least <= most, {
    path: ['hours_min'],
    error: 'is above hours_max',
  })
  .describe('the stock of ACT that leases are paid from');

/** Either `devnet`, or `rpc` and one of `keyfile`, `key` and `signer`; `cross-checks.ts` sees to that. */
export const akashSchema = z
  .strictObject({
    devnet: path.optional().describe('the file that `underbid devnet` wrote: it names everything else'),
    rpc: z.array(serverUrl).min(1).max(16).optional().describe('RPC addresses of the chain, the first ones preferred'),
    keyfile: path.optional().describe("a file with the tenant's mnemonic or private key, readable by its owner only"),
    key: secretSchema.optional().describe("the tenant's mnemonic or private key, as env:NAME or file:PATH"),
    signer: z
      .strictObject({
        url: z
          .string()
          .regex(
            /^(unix:\/.{1,100}|http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?\/?|https:\/\/[^/?#\s@]{1,255}\/?)$/,
            'must be unix:/PATH, http:// on this machine, or https://, without a path',
          )
          .describe('where it listens: unix:/PATH, http://127.0.0.1:PORT or https://HOST'),
        key: secretSchema.optional().describe('what it is sent as a bearer key, as env:NAME or file:PATH'),
      })
      .optional()
      .describe('a program that holds the key and signs: instead of keyfile and key'),
    chain_id: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,64}$/, 'is not the id of a chain')
      .optional()
      .describe('default: that of the first node that answers; akashnet-2 is the main network'),
    denom: denomSchema.default('uact').describe('what leases are priced and paid in; one unit is a millionth of a USD'),
    gas_price: z
      .string()
      .regex(/^\d{1,6}(\.\d{1,9})?$/, 'must be uakt per unit of gas, such as "0.025"')
      .default('0.025')
      .describe('uakt for a unit of gas'),
    fee_max_uakt: count(1, 1_000_000_000).default(200_000).describe('the most that the fee of one transaction may be'),
    order_deposit_usd: usd.optional().describe("paid into escrow with an order; default: the chain's least"),
    deposits_max_usd_per_hour: usd
      .default('100')
      .describe('the most that goes into escrows within an hour, whatever asks for it'),
    deposits_max_usd_per_day: usd.default('1000').describe('the same within a day'),
    fees_max_akt_per_day: usd
      .default('10')
      .describe('the most that goes to network fees within a day; what ends a lease is sent even so'),
    treasury: treasurySchema.prefault({}),
    transaction_s: count(5, 600).default(30).describe('how long a transaction may wait to be included'),
    poll_ms: count(20, 60_000).default(1000).describe('between two looks at the chain'),
    expose: z
      .enum(['port', 'ingress', 'ip'])
      .default('port')
      .describe(
        'how a model server is reached: by a port or a leased address (ip) with TLS of our own, or through the ' +
          "provider's ingress, which cuts answers that are silent for 60 s",
      ),
    ingress_tls: z.boolean().default(true).describe('whether an ingress is spoken to by https'),
    auditors: z
      .array(addressSchema)
      .min(1)
      .max(16)
      .default(['akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63'])
      .describe('whose signature makes a provider an audited one'),
    allow_private: z
      .boolean()
      .default(false)
      .describe('whether providers may have addresses of private networks; a devnet needs it'),
    wallets: z
      .enum(['one', 'per_pool'])
      .default('one')
      .describe('per_pool: each pool has a derived wallet that holds nothing and pays out of grants'),
    grant_usd: usd.default('50').describe("what a pool's wallet may put into escrows until its grant is renewed"),
    grant_fees_uakt: count(1, 1_000_000_000).default(5_000_000).describe("what a pool's wallet may spend on fees"),
    grant_days: count(1, 365).default(30).describe('how long such grants last'),
  })
  .describe('the Akash network: leases won at auction on its chain');
