/** `events_doc.ts`: writes docs/events.md from the catalogue and the schemas. A test says when to run it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { messageId } from '../src/log.ts';
import { catalogue, type EventName, tellings } from '../src/outlets/catalogue.ts';
import { cloudEvents, eventLine } from '../src/outlets/cloud_event.ts';
import { DESCRIPTIONS, type Description } from '../src/outlets/event_descriptions.ts';
import { CloudEvent } from '../src/outlets/told.ts';
import { sampleNames, samplesOf } from './event_samples.ts';

export const eventsDocPath = join(import.meta.dirname, '../docs/events.md');

const KINDS = [
  ['array', 'Arrays', 'The subject is the array, by its md name.'],
  ['node', 'Nodes', 'The subject is `node/` and the ID.'],
  ['cluster', 'The cluster', 'The subject is the cluster’s name; of a request, what it is about.'],
] as const;

export function eventNames(): EventName[] {
  return Object.keys(catalogue).filter((name): name is EventName => Object.hasOwn(DESCRIPTIONS, name));
}

export function eventsDoc(): string {
  const sections = KINDS.flatMap(([kind, title, subject]) => [
    `## ${title}`,
    subject,
    ...eventNames()
      .filter((name) => catalogue[name].type.startsWith(`io.mdmesh.${kind}.`))
      .map(entry),
  ]);
  return `${[
    '# Events',
    'Made from the schemas by `scripts/events_doc.ts`; tests hold it against what the agent tells. How to get them: [api.md](api.md), `mdmesh watch`, hooks ([config.md](config.md)).',
    'Names are those of `mdadm --monitor` where it has one. It tells two more that mdmesh has no use for: MoveSpare (spares belong to their array) and SparesMissing.',
    'One event of the wire may be told twice: a failed member also makes a degraded array. Severities: info, notice, warning, critical.',
    '## The envelope',
    'CloudEvents 1.0 in JSON:',
    fields(CloudEvent),
    '`data`:',
    fields(CloudEvent.shape.data),
    'An example, in full:',
    `\`\`\`json\n${JSON.stringify(exampleOf('WritesEnabled'), null, 2)}\n\`\`\``,
    ...sections,
  ].join('\n\n')}\n`;
}

function entry(name: EventName): string {
  const { type, severity } = catalogue[name];
  const { when, from, also }: Description = DESCRIPTIONS[name];
  const bodies = [from, ...(also === undefined ? [] : [also])].map((origin) => {
    if ('commit' in origin) {
      return `\`data.body\`: commit, kind ${origin.also === undefined ? '' : `${origin.also} or `}${origin.commit}; \`record\` is the array's whole state after it`;
    }
    if ('observation' in origin) return `\`data.body.observation\`: what ${origin.observation}`;
    if ('body' in origin) return `\`data.body\`: ${origin.body}`;
    const shape = Object.entries(origin.notice.shape).map(([key, schema]) => `\`${key}\`${said(schema)}`);
    return shape.length === 0 ? 'no `data.body.detail`' : `\`data.body.detail\`: ${shape.join(', ')}`;
  });
  const lines = samplesOf(name).flatMap((event) =>
    cloudEvents(event, sampleNames)
      .filter(({ data }) => data.name === name)
      .map((each) => eventLine(each)),
  );
  const told = lines.length === 0 ? '' : `\n\n\`\`\`text\n${[...new Set(lines)].join('\n')}\n\`\`\``;
  const id = `\`MESSAGE_ID=${messageId(name)}\` in the log`;
  return `### ${name}\n\n${when} ${severity[0]?.toUpperCase()}${severity.slice(1)}, \`${type}\`.\n\n- ${[...bodies, id].join('\n- ')}${told}`;
}

function exampleOf(name: EventName): object {
  const [event] = samplesOf(name);
  if (event === undefined) throw new Error(`${name}: no sample`);
  const told = cloudEvents(event, sampleNames, { cursor: 1041, appendedAt: '2026-01-31T12:01:02.350Z' }).find(
    ({ data }) => data.name === name,
  );
  if (told === undefined) throw new Error(`${name}: its sample is told as ${tellings(event).map((each) => each.name)}`);
  return told;
}

function said(schema: unknown): string {
  if (!(schema instanceof z.ZodType)) return '';
  const optional = schema instanceof z.ZodOptional;
  const text = (schema.description ?? '').replace(/\.$/, '');
  return text === '' && !optional ? '' : ` (${[text, optional ? 'may be absent' : ''].filter(Boolean).join('; ')})`;
}

function fields(schema: z.ZodObject): string {
  const rows = Object.entries(schema.shape).map(([key, field]) => {
    const { description = '', ...rest } = z.toJSONSchema(field);
    const fixed = 'const' in rest ? `always \`${rest.const}\`` : '';
    const choice = 'enum' in rest && Array.isArray(rest.enum) ? rest.enum.join(', ') : '';
    const optional = field instanceof z.ZodOptional ? 'May be absent.' : '';
    return `| \`${key}\` | ${[description || fixed || choice || (key === 'data' ? 'See below.' : ''), optional].filter(Boolean).join(' ')} |`;
  });
  return ['| field | |', '| --- | --- |', ...rows].join('\n');
}

if (import.meta.main) writeFileSync(eventsDocPath, eventsDoc());
