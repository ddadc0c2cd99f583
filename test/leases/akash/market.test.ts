import { marketConformance } from '../market-conformance.ts';
import { openAkash } from './market-bench.ts';

marketConformance('akash', (t) => openAkash(t));
