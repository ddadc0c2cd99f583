import { z } from 'zod';
import type { LogLine } from '../market.ts';

/** What a provider says of a lease; of everything it may send, the little that is used. Maps may be null. */
const nullable = <T extends z.ZodType>(schema: T) => schema.nullish();

const statusSchema = z.object({
  services: nullable(
    z.record(
      z.string(),
      z.object({
        available: nullable(z.number()),
        total: nullable(z.number()),
        ready_replicas: nullable(z.number()),
        uris: nullable(z.array(z.string())),
      }),
    ),
  ),
  forwarded_ports: nullable(
    z.record(
      z.string(),
      nullable(
        z.array(
          z.object({
            host: nullable(z.string()),
            port: nullable(z.number()),
            externalPort: nullable(z.number()),
            proto: nullable(z.string()),
          }),
        ),
      ),
    ),
  ),
  // Written in capitals by the provider: its Go type has no names for JSON.
  ips: nullable(
    z.record(z.string(), nullable(z.array(z.object({ IP: nullable(z.string()), ExternalPort: nullable(z.number()) })))),
  ),
});

export interface ProviderLease {
  /** Its container runs; whether the model answers is for a probe to say. */
  readonly available: boolean;
  /** Host names of the ingress. */
  readonly uris: readonly string[];
  readonly ports: readonly { readonly host: string; readonly port: number; readonly externalPort: number }[];
  /** Addresses that were leased with it. */
  readonly addresses: readonly { readonly host: string; readonly externalPort: number }[];
}

const NAMES_MAX = 32;

/** @throws Error when it is no such status */
export function readLeaseStatus(text: string): ProviderLease {
  const parsed = statusSchema.safeParse(JSON.parse(text));
  if (!parsed.success) throw new Error('the provider answered with something other than the status of a lease');
  const { services, forwarded_ports: forwarded, ips } = parsed.data;
  const [service] = Object.values(services ?? {});
  const ports = Object.values(forwarded ?? {}).flatMap((list) => list ?? []);
  return {
    available: (service?.available ?? 0) > 0,
    uris: (service?.uris ?? []).slice(0, NAMES_MAX),
    ports: ports.slice(0, NAMES_MAX).flatMap(({ host, port, externalPort }) => {
      if (!host || !externalPort) return [];
      return [{ host, port: port ?? 0, externalPort }];
    }),
    addresses: Object.values(ips ?? {})
      .flatMap((list) => list ?? [])
      .slice(0, NAMES_MAX)
      .flatMap(({ IP: host, ExternalPort: externalPort }) => (host && externalPort ? [{ host, externalPort }] : [])),
  };
}

const text = z.string().nullish();
const frameSchema = z.object({
  name: text,
  message: text,
  type: text,
  reason: text,
  note: text,
  object: nullable(z.object({ kind: text, name: text })),
});

/** A frame of a provider's stream; one of another shape is shown as it is. */
export function readLogFrame(frame: string): LogLine {
  let json: unknown = null;
  try {
    json = JSON.parse(frame);
  } catch {
    // No JSON.
  }
  const parsed = frameSchema.safeParse(json);
  if (!parsed.success) return { source: '', text: frame };
  const { name, message, type, reason, note, object } = parsed.data;
  if (typeof message === 'string') return { source: name ?? '', text: message };
  const about = [object?.kind, object?.name].filter((part) => typeof part === 'string').join('/');
  return { source: about, text: `${type ?? ''} ${reason ?? ''}: ${note ?? ''}`.trim() };
}
