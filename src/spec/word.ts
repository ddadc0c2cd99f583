import { z } from 'zod';

// Control characters are written differently by Go and by JavaScript, so a manifest's hash could differ.
export const wordSchema = z
  .string()
  .max(4096)
  .regex(/^[^\u0000-\u001f\ud800-\udfff]*$/u, 'must hold no control characters');
