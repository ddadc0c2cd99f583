import type { Clock } from '../../../clock.ts';
import type { LlamaRuntime } from '../../local/runtime.ts';
import { startModelServer } from '../../local/model-server.ts';
import type { ContainerSpec, StartContainer } from './container.ts';
import { withTls } from './tls-front.ts';

/**
 * No image is pulled on the emulated network: whatever a container is to run, it is the embedded model server, under the
 * name, the key and the sizes that its arguments and environment ask for.
 */
export interface ModelRequest {
  readonly alias: string;
  /** Null: none is set, and nothing is started without one. */
  readonly apiKey: string | null;
  readonly slots: number;
  readonly contextTokensPerSlot: number;
}

const SLOTS = { usual: 4, most: 16 };
/** The embedded model takes no more. */
const CONTEXT = { usual: 2_048, most: 8_192 };
const LISTEN_MS = 60_000;

/** Reads the command lines of llama.cpp, vLLM and SGLang as far as they say what is asked for. */
export function readModelRequest({
  command,
  args,
  env,
}: Pick<ContainerSpec, 'command' | 'args' | 'env'>): ModelRequest {
  const words = [...command, ...args].flatMap((word) => {
    const at = word.startsWith('--') ? word.indexOf('=') : -1;
    return at < 0 ? [word] : [word.slice(0, at), word.slice(at + 1)];
  });
  const value = (...names: readonly string[]): string | null => {
    for (const name of names) {
      const at = words.indexOf(name);
      if (at >= 0) return words[at + 1] ?? null;
    }
    return null;
  };
  const number = (...names: readonly string[]): number | null => {
    const parsed = Number(value(...names) ?? 'none');
    return Number.isSafeInteger(parsed) && parsed > 0 ? parsed : null;
  };
  const slots = Math.min(
    SLOTS.most,
    number('-np', '--parallel', '--max-num-seqs', '--max-running-requests') ?? SLOTS.usual,
  );
  const shared = number('-c', '--ctx-size');
  const each = number('--max-model-len', '--context-length') ?? (shared === null ? null : Math.floor(shared / slots));
  return {
    alias: value('--alias', '-a', '--served-model-name', '--model', '--model-path') ?? 'model',
    apiKey: env['LLAMA_API_KEY'] ?? env['VLLM_API_KEY'] ?? env['API_KEY'] ?? value('--api-key'),
    slots,
    contextTokensPerSlot: Math.max(64, Math.min(CONTEXT.most, each ?? CONTEXT.usual)),
  };
}

export function modelContainers(options: {
  readonly runtime: LlamaRuntime;
  readonly clock: Clock;
  readonly threads: number;
}): StartContainer {
  const { runtime, clock, threads } = options;
  return withTls((spec, signal) => {
    const { apiKey, ...request } = readModelRequest(spec);
    if (apiKey === null) {
      return Promise.reject(new Error('neither LLAMA_API_KEY, VLLM_API_KEY nor API_KEY is set, and no --api-key'));
    }
    return startModelServer({ ...request, runtime, apiKey, clock, signal, threads, listenTimeoutMs: LISTEN_MS });
  });
}
