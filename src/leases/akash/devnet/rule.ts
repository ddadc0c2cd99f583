import type { Context } from './context.ts';

/** One kind of message: who has to sign it, what can be said of it without the state, what it does. */
export interface Rule {
  readonly typeUrl: string;
  readonly gas: number;
  read(bytes: Uint8Array): Message;
}

export interface Message {
  readonly typeUrl: string;
  readonly gas: number;
  readonly signer: string;
  /** ValidateBasic: throws a Denial. */
  check(): void;
  /** Changes the state, or throws a Denial and leaves half of it done for the caller to undo. Returns the response. */
  run(context: Context): Uint8Array;
}

export type Rules = readonly Rule[];

interface MessageType<M> {
  readonly $type?: string;
  readonly typeUrl?: string;
  decode(bytes: Uint8Array): M;
}

export function rule<M>(options: {
  readonly type: MessageType<M>;
  readonly gas: number;
  readonly signer: (message: M) => string;
  readonly check?: (message: M) => void;
  readonly run: (context: Context, message: M, bytes: Uint8Array) => Uint8Array | void;
}): Rule {
  const typeUrl = options.type.typeUrl ?? `/${options.type.$type ?? ''}`;
  const { gas } = options;
  return {
    typeUrl,
    gas,
    read: (bytes) => {
      const message = options.type.decode(bytes);
      return {
        typeUrl,
        gas,
        signer: options.signer(message),
        check: () => options.check?.(message),
        run: (context) => options.run(context, message, bytes) ?? new Uint8Array(),
      };
    },
  };
}
