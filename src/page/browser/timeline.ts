/** Events, the newest first, and which of them are shown. */
import { type ComponentChild, h } from 'preact';
import { passes, SEVERITIES, type Severity } from '../../outlets/event_filter.ts';
import type { CloudEvent } from '../../outlets/told.ts';
import { mark, part } from './marks.ts';
import type { Filter, Page } from './model.ts';
import type { Acts } from './view.ts';
import { countText, severityTone, timeText } from './words.ts';

export function timeline({ events, filter, rows, missed, status }: Page, act: Acts): ComponentChild {
  const fitting = events.filter((event) => passes(asked(filter), event));
  const shown = fitting.slice(-rows).reverse();
  const names = [...new Set(events.map(({ data }) => data.name))].sort();
  const arrays = [
    ...new Set([
      ...(status?.arrays ?? []).map(({ record }) => record.md),
      ...events.flatMap(({ subject, data }) => (data.array === null ? [] : [subject])),
    ]),
  ].sort();
  const nodes = (status?.nodes ?? []).map(({ node }) => String(node));
  const choose = (key: keyof Filter) => (event: Event) => {
    if (event.currentTarget instanceof HTMLSelectElement) act.filter({ [key]: event.currentTarget.value });
  };
  const isFiltered = Object.values(filter).some((value) => value !== '');
  return part(
    'events',
    'Events',
    h(
      'div',
      { class: 'filters', role: 'search', 'aria-label': 'Which events are shown' },
      choice(
        'severity',
        'Severity',
        filter.severity,
        SEVERITIES.map((name) => ({ value: name, words: `${name} and worse` })),
        choose('severity'),
      ),
      choice(
        'type',
        'Type',
        filter.type,
        names.map((name) => ({ value: name, words: name })),
        choose('type'),
      ),
      choice(
        'array',
        'Array',
        filter.array,
        arrays.map((md) => ({ value: md, words: md })),
        choose('array'),
      ),
      choice(
        'node',
        'Node',
        filter.node,
        nodes.map((node) => ({ value: node, words: `node ${node}` })),
        choose('node'),
      ),
      h(
        'button',
        {
          type: 'button',
          disabled: !isFiltered,
          onClick: () => act.filter({ severity: '', type: '', array: '', node: '' }),
        },
        'Show all',
      ),
      h(
        'span',
        { class: 'note', role: 'status' },
        `${countText(fitting.length)} of ${countText(events.length)} loaded`,
      ),
    ),
    missed === 0
      ? null
      : h(
          'p',
          null,
          mark(
            'warn',
            `${countText(missed)} entries were left out, because this page was too slow: load it again to see them.`,
          ),
        ),
    shown.length === 0
      ? h('p', { class: 'none' }, 'No event fits.')
      : h('ol', { class: 'events', 'aria-label': 'Events, the newest first' }, shown.map(row)),
    fitting.length > shown.length
      ? h(
          'button',
          { type: 'button', class: 'more', onClick: act.more },
          `Show more (${countText(fitting.length - shown.length)})`,
        )
      : null,
  );
}

function asked({ severity, type, array, node }: Filter): Parameters<typeof passes>[0] {
  const least: Severity | undefined = SEVERITIES.find((name) => name === severity);
  return {
    severity: least,
    types: type === '' ? [] : [type],
    arrays: array === '' ? [] : [array],
    nodes: node === '' ? [] : [Number(node)],
  };
}

function choice(
  id: string,
  label: string,
  value: string,
  options: { value: string; words: string }[],
  onChange: (event: Event) => void,
): ComponentChild {
  // What was chosen stays to be seen, also when no event has it any more.
  const all =
    value === '' || options.some((each) => each.value === value) ? options : [...options, { value, words: value }];
  return h(
    'div',
    { class: 'choice' },
    h('label', { for: `filter-${id}` }, label),
    h(
      'select',
      { id: `filter-${id}`, value, onChange },
      h('option', { value: '' }, 'any'),
      all.map((each) => h('option', { key: each.value, value: each.value }, each.words)),
    ),
  );
}

function row({ id, time, severity, subject, data }: CloudEvent): ComponentChild {
  return h(
    'li',
    { key: id, class: `event ${severity}` },
    h('time', { dateTime: time, title: `${timeText(time)} UTC` }, timeText(time).slice(5)),
    h('span', { class: 'event-node', title: `from node ${data.origin}` }, `n${data.origin}`),
    mark(severityTone(severity), severity),
    h('b', null, data.name),
    h('span', { class: 'event-subject' }, subject),
    h('span', { class: 'event-text' }, data.text),
  );
}
