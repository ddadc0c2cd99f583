/** Types are stripped by Node itself from 22.18 on. Imports nothing, so that an old Node gets as far as reading it. */
const LEAST = { major: 22, minor: 18 };

/** What to do about a Node that is too old ("20.20.2"); null when it will do. */
export function adviseOnNode(version: string): string | null {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > LEAST.major || (major === LEAST.major && minor >= LEAST.minor)) return null;
  return (
    `Underbid needs Node ${LEAST.major}.${LEAST.minor} or later, and this is ${version}. ` +
    'In a checkout, "npm ci" brings one along on Linux and "npm run -s underbid -- ARGS" runs on it; ' +
    'elsewhere install one from https://nodejs.org'
  );
}
