import { describeError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import type { CheckupPart } from './checkup-part.ts';
import { visitProvider, type Visit } from './provider-visit.ts';

const AT_ONCE = 6;
const VISIT_MS: Ms = 8000;
const TOLD_MAX = 40;
const DAY_MS = 86_400_000;
const CERTIFICATE_DAYS_WARN = 7;

interface Visited {
  readonly owner: string;
  readonly hostUri: string;
  readonly visit: Visit | null;
  readonly problem: string;
}

/** Visits some of the providers: does each answer, with the certificate that is its own? Audited ones come first. */
export async function checkProviders(part: CheckupPart): Promise<void> {
  const { chain, findings, providersMax } = part;
  const all = await chain.providers();
  if (all.length === 0) {
    findings.fail('providers', 'none is registered', 'this is not a chain to rent machines on');
    return;
  }
  const audited = await chain.auditedBy(part.auditors);
  const asked = all
    .toSorted((a, b) => Number(audited.has(b.owner)) - Number(audited.has(a.owner)))
    .slice(0, providersMax);
  const visited = await visitAll(part, asked);
  const reached = visited.filter(({ visit }) => visit !== null);
  const share = `${reached.length} of ${visited.length} visited answer, of ${all.length} registered, ${audited.size} audited`;
  if (visited.length === 0) findings.warn('providers', share, 'visit some: --providers N');
  else if (reached.length === 0) {
    findings.fail('providers', share, 'is there a firewall to the outside? They listen on ports such as 8443');
  } else findings.ok('providers', share);
  for (const one of visited.slice(0, TOLD_MAX)) tell(part, one);
}

function tell({ findings, clock }: CheckupPart, { owner, hostUri, visit, problem }: Visited): void {
  const name = `provider ${hostUri.replace(/^https:\/\//, '').slice(0, 80)}`;
  if (visit === null) {
    findings.warn(name, `${owner}: ${problem}`, 'nothing to do: leases go to others');
    return;
  }
  const { by, untilMs, leases } = visit;
  const from = by === 'chain' ? 'its own certificate, as on the chain' : 'a certificate of a public authority';
  const until = `until ${new Date(untilMs).toISOString().slice(0, 10)}`;
  const detail = `${from}, ${until}${leases === null ? '' : `, ${leases} leases`}`;
  if (untilMs - clock.now() < CERTIFICATE_DAYS_WARN * DAY_MS)
    findings.warn(name, detail, 'it ends soon; its owner renews it');
  else findings.ok(name, detail);
}

async function visitAll(
  part: CheckupPart,
  providers: readonly { readonly owner: string; readonly hostUri: string }[],
): Promise<Visited[]> {
  const visited: Visited[] = [];
  const rest = [...providers];
  const worker = async (): Promise<void> => {
    for (let next = rest.shift(); next; next = rest.shift()) visited.push(await visitOne(part, next));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return visited.toSorted((a, b) => Number(b.visit !== null) - Number(a.visit !== null));
}

async function visitOne(
  { chain, allowPrivate, clock, resolve, signal }: CheckupPart,
  { owner, hostUri }: { readonly owner: string; readonly hostUri: string },
): Promise<Visited> {
  try {
    const certificates = await chain.queries.certificates(owner, '');
    const trust = { owner, certificates };
    const visit = await visitProvider(hostUri, { trust, allowPrivate, clock, resolve, signal, connectMs: VISIT_MS });
    return { owner, hostUri, visit, problem: '' };
  } catch (error) {
    return { owner, hostUri, visit: null, problem: describeError(error).slice(0, 200) };
  }
}
