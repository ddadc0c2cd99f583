import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { EpochMs, Ms } from '../../units.ts';
import { done, refused, unknown, type Delivery, type Outcome } from '../market.ts';
import { resolvePublic, type Resolve } from './address.ts';
import type { LeaseAt, Provider, PutOutcome } from './provider.ts';
import type { ProviderLease } from './provider-reply.ts';
import type { Reach } from './records.ts';

export interface DeliveryOptions {
  readonly at: LeaseAt;
  /** Looks the provider up anew for each conversation: its address and certificate may change. Null: there is none. */
  readonly provider: () => Promise<Provider | null>;
  readonly manifest: string;
  readonly apiKey: string;
  readonly reach: Reach;
  readonly ingressTls: boolean;
  readonly allowPrivate: boolean;
  readonly resolve: Resolve;
  readonly clock: Clock;
  readonly sentMs: EpochMs | null;
  /** The manifest has arrived. */
  readonly onSent: () => Promise<void>;
  readonly onChange: () => void;
}

/** Between two questions to a provider, while the container starts and when it runs. */
const STARTING_MS: Ms = 1000;
const RUNNING_MS: Ms = 15_000;
/** A provider that has not answered for so long is gone (akash.md 5.2): the lease would drain for weeks. */
const DARK_MS: Ms = 180_000;

export const NO_DELIVERY: Delivery = { state: 'none', sinceMs: null, url: null, apiKey: null, detail: '' };

/** One lease's container: the manifest on its way to the provider, then what the provider says of it. */
export class AkashDelivery {
  readonly #options: DeliveryOptions;
  #view: Delivery;
  #sending: Promise<PutOutcome> | null = null;
  #sent: boolean;
  #askedMs: EpochMs = 0;
  #answeredMs: EpochMs;
  #asking: Promise<void> | null = null;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const { sentMs, clock } = options;
    this.#sent = sentMs !== null;
    this.#answeredMs = clock.now();
    this.#view = sentMs === null ? NO_DELIVERY : { ...NO_DELIVERY, state: 'starting', sinceMs: sentMs };
  }

  get view(): Delivery {
    return this.#view;
  }

  /** Sends the manifest, unless it is there already or on its way. */
  async send(): Promise<Outcome<void>> {
    if (this.#sent) return done(undefined);
    this.#sending ??= this.#put();
    const outcome = await this.#sending;
    if (outcome.kind === 'done') return done(undefined);
    if (outcome.kind === 'unknown') return unknown(outcome.reason);
    this.#set({ ...NO_DELIVERY, state: 'failed', sinceMs: this.#options.clock.now(), detail: outcome.reason });
    return refused(outcome.reason);
  }

  /** Asks the provider again, if it is time to. Never rejects: a provider that is silent too long has failed. */
  async look(): Promise<void> {
    if (!this.#sent || this.#view.state === 'failed') return;
    const { clock } = this.#options;
    const pauseMs = this.#view.state === 'running' ? RUNNING_MS : STARTING_MS;
    if (clock.now() < this.#askedMs + pauseMs) return;
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    await this.#asking;
  }

  async #put(): Promise<PutOutcome> {
    const { provider, at, manifest, clock, onSent } = this.#options;
    this.#set({ ...NO_DELIVERY, state: 'starting', sinceMs: clock.now(), detail: 'sending the manifest' });
    try {
      const tell = (reason: string): void => {
        this.#view = { ...this.#view, detail: `sending the manifest: ${reason}`.slice(0, 500) };
      };
      const outcome = await existing(await provider()).putManifest(at, manifest, tell);
      if (outcome.kind === 'done') {
        this.#sent = true;
        await onSent();
        this.#set({ ...this.#view, detail: 'the provider has the manifest' });
      }
      return outcome;
    } catch (error) {
      return { kind: 'unknown', reason: describeError(error) };
    } finally {
      this.#sending = null;
      if (!this.#sent && this.#view.state === 'starting') this.#set(NO_DELIVERY);
    }
  }

  async #ask(): Promise<void> {
    const { at, clock } = this.#options;
    this.#askedMs = clock.now();
    const provider = await this.#lookUp();
    if (provider === undefined) return;
    try {
      const status = await existing(provider).leaseStatus(at);
      this.#answeredMs = clock.now();
      if (!status) return;
      const url = await this.#urlOf(status);
      if (status.available && url !== null) {
        if (this.#view.state !== 'running' || this.#view.url !== url) {
          const { apiKey, reach } = this.#options;
          const detail = 'the container runs';
          this.#set({ state: 'running', sinceMs: clock.now(), url, apiKey, certificate: reach.certificate, detail });
        }
      } else if (this.#view.state === 'running') {
        this.#set({
          ...NO_DELIVERY,
          state: 'starting',
          sinceMs: clock.now(),
          detail: 'the container is not available',
        });
      }
    } catch (error) {
      const silentMs = clock.now() - this.#answeredMs;
      const detail = `the provider does not answer: ${describeError(error)}`.slice(0, 500);
      if (silentMs > DARK_MS) this.#set({ ...NO_DELIVERY, state: 'failed', sinceMs: clock.now(), detail });
      else if (this.#view.state === 'starting') this.#view = { ...this.#view, detail };
    }
  }

  /** Undefined: the chain does not say now where it is, which says nothing of the provider: that is no silence of its. */
  async #lookUp(): Promise<Provider | null | undefined> {
    try {
      return await this.#options.provider();
    } catch (error) {
      this.#answeredMs = this.#options.clock.now();
      const detail = `the provider could not be looked up: ${describeError(error)}`.slice(0, 500);
      if (this.#view.state === 'starting') this.#view = { ...this.#view, detail };
      return undefined;
    }
  }

  /** By a port the address is taken once, so that its name cannot lead elsewhere later. */
  async #urlOf({ ports, addresses, uris }: ProviderLease): Promise<string | null> {
    const { reach, ingressTls, allowPrivate, resolve } = this.#options;
    if (reach.expose !== 'ingress') {
      const [port] = reach.expose === 'ip' ? addresses : ports;
      // It comes up some time after its container; nothing else is asked meanwhile.
      if (!port) return null;
      const { address, family } = await resolvePublic(port.host, resolve, allowPrivate);
      return `https://${family === 6 ? `[${address}]` : address}:${port.externalPort}`;
    }
    const [uri] = uris;
    if (uri === undefined) return null;
    const url = new URL(`${ingressTls ? 'https' : 'http'}://${uri}`);
    await resolvePublic(url.hostname, resolve, allowPrivate);
    return url.origin;
  }

  #set(view: Delivery): void {
    const changed = view.state !== this.#view.state || view.url !== this.#view.url;
    this.#view = view;
    if (changed) this.#options.onChange();
  }
}

function existing(provider: Provider | null): Provider {
  if (!provider) throw new Error('the chain has no such provider');
  return provider;
}
