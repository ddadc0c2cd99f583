import { inOneLine } from './engines.ts';
import { leaseTlsKey } from './lease-tls.ts';
import { tlsSecretOf } from './names.ts';

/** What a lease's container is given for that lease alone. Both follow from the data folder's secret, and are stored nowhere. */
export interface LeaseSecrets {
  /** Requests carry it. */
  readonly apiKey: string;
  /** Of the certificate that its server shows, as PEM in one line. */
  readonly tlsKey: string;
}

export function leaseSecretsOf(leaseKey: (name: string) => string, leaseId: string): LeaseSecrets {
  return { apiKey: leaseKey(leaseId), tlsKey: inOneLine(leaseTlsKey(leaseKey(tlsSecretOf(leaseId)))) };
}

/** Some servers print what they are started with. */
export function hideSecrets(text: string, { apiKey, tlsKey }: LeaseSecrets): string {
  const lines = tlsKey.split('|').filter((line) => !line.startsWith('-----'));
  return [apiKey, ...lines].reduce((shown, secret) => shown.replaceAll(secret, '***'), text);
}
