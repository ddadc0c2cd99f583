/** Requests as well-behaved clients on loopback send them. */
export interface Request {
  readonly head: string;
  readonly body: string;
  readonly rest: string;
}

const CONTENT_LENGTH = /\r\ncontent-length: *(\d+)/i;
const CHUNKED = /\r\ntransfer-encoding: *chunked/i;
const CHUNKS_END = '\r\n0\r\n\r\n';

/** The first whole request in `text` (latin1, so that a character is a byte), if there is one. */
export function takeRequest(text: string): Request | undefined {
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd === -1) return undefined;
  const head = text.slice(0, headEnd);
  const start = headEnd + 4;
  const length = CONTENT_LENGTH.exec(head)?.[1];
  if (length === undefined && CHUNKED.test(head)) {
    const end = text.indexOf(CHUNKS_END, start);
    // Left with its chunk sizes in it: that hides no `"stream":true` unless it is cut in two, which clients don't do.
    return end === -1 ? undefined : { head, body: text.slice(start, end), rest: text.slice(end + CHUNKS_END.length) };
  }
  const end = start + Number(length ?? 0);
  return text.length < end ? undefined : { head, body: text.slice(start, end), rest: text.slice(end) };
}
