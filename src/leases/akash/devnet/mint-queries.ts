import { mintStatus } from './bme-rules.ts';
import { AKT_PRICE, balanceOf, MODULES, PARAMS } from './context.ts';
import { DEC_ONE, type Dec } from './decimal.ts';
import { denial } from './denials.ts';
import { mintBytes } from './encoding.ts';
import { fieldText, list, readPage, type Queries } from './query.ts';
import { bytesField, coinField, concatBytes, lastField, textField, varintField } from './protobuf.ts';

/** The burn-mint engine's queries, and the oracle's price that it converts at. Field numbers: chain-sdk proto/node/akash/bme/v1. */

/** Decimals are their digits on the wire, without the point. */
const decField = (number: number, value: Dec): Uint8Array => textField(number, value.toString());
const bpDec = (bp: number): Dec => (DEC_ONE * BigInt(bp)) / 10_000n;

export const mintQueries: Queries = {
  '/akash.bme.v1.Query/Params': () => {
    const { mint } = PARAMS;
    const body = concatBytes(
      varintField(1, mint.warnBp),
      varintField(2, mint.haltBp),
      varintField(3, mint.epochBlocks),
      varintField(4, 10),
      varintField(6, mint.spreadBp),
      varintField(7, mint.settleSpreadBp),
      varintField(8, mint.recordsPerBlock),
      coinField(9, { denom: 'uact', amount: mint.minimumUact }),
      varintField(10, mint.attemptsMax),
    );
    return bytesField(1, body);
  },
  '/akash.bme.v1.Query/Status': ({ state, mintsHalted }) => {
    const { status, ratio } = mintStatus(state, mintsHalted);
    return concatBytes(
      varintField(1, status),
      decField(2, ratio),
      decField(3, bpDec(PARAMS.mint.warnBp)),
      decField(4, bpDec(PARAMS.mint.haltBp)),
      varintField(5, status < 3 ? 1 : 0),
      // Halted for its collateral, ACT may still be turned back.
      varintField(6, 1),
    );
  },
  '/akash.oracle.v2.Query/AggregatedPrice': (_context, request) => {
    if (fieldText(request, 1) !== 'akt') throw denial('sdk/not_found', { front: 'no price of that denom' });
    const price = [2, 3, 4, 5].map((number) => decField(number, AKT_PRICE));
    const health = concatBytes(textField(1, 'akt'), varintField(2, 1), varintField(3, 1), varintField(4, 1));
    return concatBytes(bytesField(1, concatBytes(textField(1, 'akt'), ...price)), bytesField(2, health));
  },
  '/akash.bme.v1.Query/VaultState': ({ state }) => {
    const held = (denom: string) => ({ denom, amount: balanceOf(state, MODULES.bme, denom) });
    return bytesField(1, concatBytes(coinField(1, held('uakt')), coinField(1, held('uact'))));
  },
  '/akash.bme.v1.Query/LedgerRecords': ({ state }, request) => {
    const filter = lastField(request, 1)?.bytes ?? new Uint8Array();
    const wanted = {
      source: fieldText(filter, 1),
      denom: fieldText(filter, 2),
      toDenom: fieldText(filter, 3),
      status: fieldText(filter, 4).replace('ledger_record_status_', ''),
    };
    const rows = state.mints
      .values()
      .filter(
        (record) =>
          (wanted.source === '' || record.source === wanted.source) &&
          (wanted.denom === '' || record.denom === wanted.denom) &&
          (wanted.toDenom === '' || record.toDenom === wanted.toDenom) &&
          (wanted.status === '' || record.status === wanted.status),
      );
    return list(1, rows, readPage(request, 2), mintBytes);
  },
};
