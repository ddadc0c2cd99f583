/**
 * The chain's own refusals: codespace, code and text are those of cosmos-sdk v0.53 (`types/errors`) and of Akash's
 * modules (chain-sdk `go/node/<module>/<version>/errors.go`). Clients tell failures apart by them.
 */
const KNOWN = {
  sdk: {
    tx_decode: [2, 'tx parse error'],
    unauthorized: [4, 'unauthorized'],
    insufficient_funds: [5, 'insufficient funds'],
    unknown_request: [6, 'unknown request'],
    invalid_address: [7, 'invalid address'],
    invalid_pubkey: [8, 'invalid pubkey'],
    unknown_address: [9, 'unknown address'],
    invalid_coins: [10, 'invalid coins'],
    out_of_gas: [11, 'out of gas'],
    memo_too_large: [12, 'memo too large'],
    insufficient_fee: [13, 'insufficient fee'],
    no_signatures: [15, 'no signatures supplied'],
    invalid_request: [18, 'invalid request'],
    mempool_full: [20, 'mempool is full'],
    tx_too_large: [21, 'tx too large'],
    invalid_type: [29, 'invalid type'],
    tx_timeout_height: [30, 'tx timeout height'],
    wrong_sequence: [32, 'incorrect account sequence'],
    not_found: [38, 'not found'],
    tx_timeout: [42, 'tx timeout'],
  },
  bank: { send_disabled: [5, 'send transactions are disabled'] },
  authz: {
    no_grant: [2, 'authorization not found'],
    invalid_expiration: [3, 'expiration time of authorization should be more than current time'],
    self_grant: [7, 'grantee and granter should be different'],
  },
  feegrant: {
    limit_exceeded: [2, 'fee limit exceeded'],
    expired: [3, 'fee allowance expired'],
    no_allowance: [5, 'no allowance'],
    no_messages: [6, 'allowed messages are empty'],
    message_not_allowed: [7, 'message not allowed'],
  },
  deployment: {
    exists: [3, 'Deployment exists'],
    not_found: [4, 'Deployment not found'],
    closed: [5, 'Deployment closed'],
    invalid_groups: [7, 'Invalid groups'],
    invalid_id: [8, 'Invalid: deployment id'],
    empty_hash: [9, 'Invalid: empty hash'],
    invalid_hash: [10, 'Invalid: deployment hash'],
    group_not_found: [14, 'Group not found'],
    group_closed: [15, 'Group already closed'],
    group_open: [16, 'Group open'],
    group_paused: [17, 'Group paused'],
    invalid_deposit: [20, 'Deposit invalid'],
    invalid_price: [24, 'invalid price'],
    duplicate_group: [25, 'duplicate group name'],
    invalid_reclamation: [26, 'invalid reclamation configuration'],
  },
  market: {
    empty_provider: [1, 'empty provider'],
    same_account: [2, 'owner and provider are the same account'],
    attribute_mismatch: [5, 'attribute mismatch'],
    unknown_bid: [6, 'unknown bid'],
    unknown_lease: [7, 'unknown lease'],
    unknown_lease_for_bid: [8, 'unknown lease for bid'],
    lease_not_active: [10, 'lease not active'],
    bid_not_active: [11, 'bid not active'],
    bid_not_open: [12, 'bid not open'],
    order_not_open: [13, 'bid: order not open'],
    order_not_found: [15, 'invalid order: order not found'],
    group_not_found: [16, 'group not found'],
    group_not_open: [17, 'group not open'],
    bid_not_found: [18, 'invalid bid: bid not found'],
    bid_zero_price: [19, 'invalid bid: zero price'],
    lease_not_found: [20, 'invalid lease: lease not found'],
    bid_exists: [21, 'invalid bid: bid exists from provider'],
    invalid_price: [22, 'bid price is invalid'],
    order_active: [23, 'order active'],
    order_closed: [24, 'order closed'],
    invalid_deposit: [28, 'deposit invalid'],
    unknown_provider: [30, 'unknown provider'],
    invalid_bid: [31, 'invalid bid'],
    capabilities_mismatch: [32, 'capabilities mismatch'],
    invalid_reason: [33, 'invalid lease closed reason'],
    not_reclaimable: [35, 'lease does not have reclamation configured'],
    already_reclaiming: [36, 'reclamation already in progress'],
    reclamation_not_started: [37, 'reclamation not started; call MsgLeaseStartReclaim first'],
    window_not_elapsed: [38, 'reclamation window has not elapsed'],
    window_invalid: [39, 'reclamation window outside governance bounds'],
    reclamation_required: [40, 'order requires reclamation but bid does not offer it'],
    window_too_short: [41, 'reclamation window shorter than order minimum'],
  },
  escrow: {
    account_exists: [1, 'account exists'],
    account_closed: [2, 'account closed'],
    account_not_found: [3, 'account not found'],
    account_overdrawn: [4, 'account overdrawn'],
    invalid_denomination: [5, 'invalid denomination'],
    payment_exists: [6, 'payment exists'],
    payment_closed: [7, 'payment closed'],
    payment_not_found: [8, 'payment not found'],
    payment_rate_zero: [9, 'payment rate zero'],
    invalid_id: [12, 'invalid ID'],
    scope: [15, 'unauthorized deposit scope'],
    invalid_deposit: [16, 'invalid deposit'],
    invalid_authz_scope: [17, 'invalid authz scope'],
  },
  cert: {
    not_found: [1, 'certificate not found'],
    exists: [3, 'certificate exists'],
    already_revoked: [4, 'certificate already revoked'],
    invalid_serial: [5, 'invalid serial number'],
    invalid_value: [6, 'invalid certificate value'],
    invalid_pubkey: [7, 'invalid pubkey value'],
  },
  provider: {
    invalid_uri: [1, 'invalid provider: invalid host uri'],
    not_found: [3, 'invalid provider: address not found'],
    exists: [4, 'invalid provider: already exists'],
  },
  audit: {
    provider_not_found: [1, 'invalid provider: address not found'],
    attribute_not_found: [3, 'attribute not found'],
  },
  akash: { invalid_deposit_source: [4, 'invalid deposit source'] },
  bme: {
    unauthorized: [3, 'unauthorized'],
    circuit_breaker: [6, 'circuit breaker is active'],
    invalid_amount: [8, 'invalid amount'],
    invalid_denom: [9, 'invalid denomination'],
  },
  oracle: { price_stalled: [4, 'price stalled'] },
} as const satisfies Record<string, Record<string, readonly [number, string]>>;

type Known = typeof KNOWN;
export type DenialName = { [S in keyof Known]: `${S}/${keyof Known[S] & string}` }[keyof Known];

/** A transaction's failure as the chain reports it. */
export class Denial extends Error {
  override readonly name = 'Denial';
  readonly codespace: string;
  readonly code: number;

  constructor(codespace: string, code: number, log: string) {
    super(log);
    this.codespace = codespace;
    this.code = code;
  }

  /** With what happened in front, as the SDK's Wrap does. */
  wrap(front: string): Denial {
    return new Denial(this.codespace, this.code, `${front}: ${this.message}`);
  }
}

/** `front` stands before the known text (SDK's Wrap), `back` after it (Go's `%w: …`). */
export function denial(name: DenialName, text: { readonly front?: string; readonly back?: string } = {}): Denial {
  const [codespace, key] = name.split('/') as [keyof Known, string];
  const known = (KNOWN[codespace] as Record<string, readonly [number, string]>)[key] ?? [1, 'internal error'];
  const front = text.front === undefined ? '' : `${text.front}: `;
  const back = text.back === undefined ? '' : `: ${text.back}`;
  return new Denial(codespace, known[0], `${front}${known[1]}${back}`);
}

/** What Go code returned as a plain error: no module claims it. */
export const plainDenial = (log: string): Denial => new Denial('undefined', 1, log);
