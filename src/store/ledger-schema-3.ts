/** Version 3: fees for waking a pool that was asleep. */
export const WAKE_FEES = `
-- wake_held: of the hold's amount, what the account would pay at most for having the pool woken for this request.
ALTER TABLE holds ADD COLUMN wake_held INTEGER CHECK (wake_held > 0);

-- Besides \`held\` and \`charged\`, which are the tokens' alone; NULL in rows of requests that offered none.
ALTER TABLE usage ADD COLUMN wake_held INTEGER CHECK (wake_held > 0);
ALTER TABLE usage ADD COLUMN wake_fee INTEGER CHECK (wake_fee >= 0 AND wake_fee <= wake_held);
`;
