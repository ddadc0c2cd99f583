/** Pure: questions that look like anybody's, made from random numbers in [0, 1). */

export interface Question {
  readonly messages: readonly { readonly role: 'system' | 'user' | 'assistant'; readonly content: string }[];
  readonly maxTokens: number;
  readonly stream: boolean;
  readonly topP: number | null;
  readonly topLogprobs: number;
}

const TOPICS = [
  ...[
    'rivers',
    'bread',
    'bicycles',
    'the moon',
    'old bridges',
    'city birds',
    'chess openings',
    'green tea',
    'glaciers',
  ],
  ...[
    'night trains',
    'volcanoes',
    'garden tools',
    'pottery',
    'tax returns',
    'sailing knots',
    'bees',
    'violins',
    'maps',
  ],
  ...[
    'electric cars',
    'lighthouses',
    'sourdough',
    'spreadsheets',
    'honey',
    'marathons',
    'wool',
    'sleep',
    'coral reefs',
  ],
  ...['recursion', 'SQL joins', 'unit tests', 'cloud storage', 'job interviews', 'rental contracts', 'solar panels'],
] as const;
const PEOPLE = ['a child', 'my boss', 'a beginner', 'an expert', 'my neighbour', 'a tourist', 'a student'] as const;
const TONES = ['short', 'friendly', 'formal', 'funny', 'plain', 'precise'] as const;
const SYSTEMS = [
  'You are a helpful assistant.',
  'Answer briefly.',
  'You write for a newspaper.',
  'Be concrete and give examples.',
] as const;
const FILLERS = [
  'I have been thinking about it for some days now.',
  'It came up at dinner yesterday.',
  'I only have ten minutes to read this.',
  'My notes on it are a mess, so start from the beginning.',
  'We argued about it for an hour and could not agree.',
  'The last text that I read on it was far too long.',
] as const;

type Draw = () => number;
type Template = (topic: string, other: string, draw: Draw) => string;

const TEMPLATES: readonly Template[] = [
  (topic, _other, draw) => `Explain ${topic} to ${pick(PEOPLE, draw)}.`,
  (topic, other) => `What do ${topic} and ${other} have in common?`,
  (topic, _other, draw) => `Write a ${pick(TONES, draw)} message about ${topic} to ${pick(PEOPLE, draw)}.`,
  (topic, _other, draw) => `Give me ${2 + Math.floor(draw() * 8)} facts about ${topic}.`,
  (topic, other) => `I like ${topic} more than ${other}. Why could that be?`,
  (topic, _other, draw) => `Plan a ${pick(TONES, draw)} afternoon around ${topic}.`,
  (topic) => `Summarise what people get wrong about ${topic}.`,
  (topic, other) => `Translate into French: "I know little of ${topic}, but much of ${other}."`,
];

function pick<T>(from: readonly [T, ...T[]] | readonly T[], draw: Draw): T {
  const found = from[Math.min(from.length - 1, Math.floor(draw() * from.length))];
  if (found === undefined) throw new Error('nothing to pick from');
  return found;
}

/** @param draw numbers in [0, 1) */
export function makeQuestion(draw: Draw, tokensMax: number): Question {
  const [topic, other] = [pick(TOPICS, draw), pick(TOPICS, draw)];
  const asked = pick(TEMPLATES, draw)(topic, other, draw);
  const fillers = Array.from({ length: Math.floor(draw() * draw() * 12) }, () => pick(FILLERS, draw));
  const number = draw() < 0.3 ? ` (${Math.floor(draw() * 10_000)})` : '';
  const user = [...fillers, asked].join(' ') + number;
  const system = draw() < 0.4 ? [{ role: 'system' as const, content: pick(SYSTEMS, draw) }] : [];
  return {
    messages: [...system, { role: 'user', content: user }],
    maxTokens: Math.max(2, Math.round(tokensMax * (0.5 + draw() / 2))),
    stream: draw() < 0.7,
    topP: draw() < 0.3 ? Math.round((0.8 + draw() * 0.2) * 100) / 100 : null,
    topLogprobs: 5,
  };
}

/** Numbers in [0, 1) from random bytes: four for each. */
export function drawFrom(bytes: Uint8Array): Draw {
  let at = 0;
  return () => {
    let value = 0;
    for (let taken = 0; taken < 4; taken += 1) value = value * 256 + (bytes[(at + taken) % bytes.length] ?? 0);
    at += 4;
    return value / 2 ** 32;
  };
}
