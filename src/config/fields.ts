import { z } from 'zod';

/** Kinds of fields that several parts of the file have. */

export const SECRET_ADVICE =
  'a secret does not belong in this file: write env:NAME (a variable) or file:PATH (a file that holds it)';
export const secretSchema = z
  .string()
  .regex(/^(env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:.{1,4096})$/, SECRET_ADVICE)
  .meta({ writeOnly: true });

export const serverUrl = z
  .string()
  .max(2048)
  .superRefine((text, context) => {
    const problem = findUrlProblem(text);
    if (problem !== null) context.addIssue(problem);
  });

/** Says nothing of the text itself, which may carry a password. */
function findUrlProblem(text: string): string | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) return 'must be an http:// or https:// address';
  if (url.username !== '' || url.password !== '') return 'must hold no user or password: use key';
  if (url.search !== '' || url.hash !== '') return 'must end before any ? or #';
  return null;
}
