import { AppError } from '../errors.ts';
import type { PoolSpec } from '../spec.ts';
import type { ChatRequest } from './openai.ts';

/** The most images of one request. */
const IMAGES_MAX = 64;
/** What every model server takes; SVG and the like would be read by parsers that a stranger should not reach. */
const DATA_URL = /^data:image\/(png|jpeg|webp|gif);base64,/;

export interface Images {
  readonly count: number;
  /** Of their addresses, which are no text of the prompt. */
  readonly bytes: number;
}

/**
 * The images of a request. Only those that it carries itself: a provider must not fetch for a stranger what an address
 * names.
 * @throws AppError `invalid_request`
 */
export function imagesOf({ messages }: ChatRequest, { imageTokensMax }: PoolSpec): Images {
  let count = 0;
  let bytes = 0;
  for (const [at, { content }] of messages.entries()) {
    if (!Array.isArray(content)) continue;
    for (const [index, part] of content.entries()) {
      if (part.type === 'text') continue;
      const param = `messages[${at}].content[${index}]`;
      const refuse = (why: string): AppError => new AppError('invalid_request', `${param}: ${why}`, { param });
      if (imageTokensMax === 0) throw refuse('this model takes text only');
      const url = part.type === 'image_url' ? addressOf(part['image_url']) : null;
      if (url === null) throw refuse('this model takes text and images only');
      if (!DATA_URL.test(url))
        throw refuse('send the image itself, as a data: URL of a PNG, JPEG, WebP or GIF in base64');
      count += 1;
      bytes += url.length;
      if (count > IMAGES_MAX) throw refuse(`a request has at most ${IMAGES_MAX} images`);
    }
  }
  return { count, bytes };
}

function addressOf(image: unknown): string | null {
  const url = typeof image === 'object' && image !== null ? (image as { url?: unknown }).url : null;
  return typeof url === 'string' ? url : null;
}
