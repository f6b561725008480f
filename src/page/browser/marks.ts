/** The small pieces that every part is made of. */
import { type ComponentChild, type ComponentChildren, h } from 'preact';
import { SHAPES, type Tone } from './words.ts';

/** A state: shape, colour and word. */
export function mark(tone: Tone, word: string): ComponentChild {
  return h(
    'span',
    { class: `mark ${tone}` },
    h('span', { class: 'shape', 'aria-hidden': 'true' }, SHAPES[tone]),
    h('span', null, word),
  );
}

export function part(id: string, title: string, ...inner: ComponentChildren[]): ComponentChild {
  return h(
    'section',
    { class: 'part', id, 'aria-labelledby': `${id}-title` },
    h('h2', { id: `${id}-title` }, title),
    inner,
  );
}

export interface Column {
  head: string;
  /** Figures stand under each other. */
  figures?: boolean;
}

/** Wider than a phone it can be scrolled, by keys too. */
export function table(
  caption: string,
  columns: Column[],
  rows: { key: string; cells: ComponentChildren[] }[],
): ComponentChild {
  const cellClass = (index: number) => (columns[index]?.figures === true ? 'figures' : undefined);
  return h(
    'div',
    { class: 'scroll', role: 'region', 'aria-label': caption, tabIndex: 0 },
    h(
      'table',
      null,
      h('caption', null, caption),
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          columns.map(({ head }, index) => h('th', { scope: 'col', class: cellClass(index) }, head)),
        ),
      ),
      h(
        'tbody',
        null,
        rows.map(({ key, cells: [first, ...rest] }) =>
          h(
            'tr',
            { key },
            h('th', { scope: 'row', class: cellClass(0) }, first),
            rest.map((cell, index) => h('td', { class: cellClass(index + 1) }, cell)),
          ),
        ),
      ),
    ),
  );
}

/** Names and what they say, side by side. */
export function facts(list: readonly (readonly [string, ComponentChildren])[]): ComponentChild {
  return h(
    'dl',
    { class: 'facts' },
    list.map(([name, value]) => h('div', { key: name }, h('dt', null, name), h('dd', null, value))),
  );
}

export function progress(label: string, perMille: number): ComponentChild {
  return h('progress', { max: 1000, value: perMille, 'aria-label': label });
}
