/** The page as a whole: what is drawn of a state. Pure, but for the plots' canvases. */
import { type ComponentChild, Fragment, h } from 'preact';
import type { JournalState, Status } from '../../outlets/status.ts';
import { arrayView } from './array_view.ts';
import { facts, mark, part, table } from './marks.ts';
import { type Filter, linkWords, type Page, travelMs } from './model.ts';
import { Plot } from './plots.ts';
import { ring } from './ring.ts';
import { timeline } from './timeline.ts';
import { countText, nodeTone, secondsText, type Tone, timeText, verdict } from './words.ts';

/** What people may do here: look elsewhere. */
export interface Acts {
  filter(filter: Partial<Filter>): void;
  more(): void;
  unlock(token: string): void;
}

export function PageView({ page, act }: { page: Page; act: Acts }): ComponentChild {
  const { status, journal } = page;
  return h(
    Fragment,
    null,
    header(page),
    h(
      'main',
      { id: 'main', tabIndex: -1 },
      page.link === 'locked' ? tokenForm(page, act) : null,
      status === null
        ? h('p', { class: 'none' }, page.why ?? `${linkWords(page.link)}.`)
        : [
            nodesPart(status),
            part(
              'arrays',
              'Arrays',
              status.arrays.length === 0
                ? h('p', { class: 'none' }, 'No arrays.')
                : status.arrays.map((array) => arrayView(array, status)),
            ),
            timeline(page, act),
            plotsPart(page, status),
            journalPart(journal, status),
          ],
    ),
    h('div', { class: 'unseen', role: 'status', 'aria-live': 'polite' }, page.announced),
  );
}

const linkTones: Readonly<Record<Page['link'], Tone>> = {
  connecting: 'busy',
  live: 'good',
  lost: 'bad',
  locked: 'warn',
};

function header({ link, why, status }: Page): ComponentChild {
  const said = status === null ? null : verdict(status);
  return h(
    'header',
    { class: 'top' },
    h(
      'h1',
      null,
      status === null ? 'mdmesh' : status.cluster.name,
      status === null ? null : h('span', { class: 'seen-by' }, `as node ${status.self} sees it`),
    ),
    said === null ? null : h('p', { class: 'verdict' }, mark(said.tone, said.text)),
    h('p', { class: 'link', title: why ?? undefined }, mark(linkTones[link], linkWords(link))),
    status === null
      ? null
      : h(
          'nav',
          { 'aria-label': 'Parts of this page' },
          ['Nodes', 'Arrays', 'Events', 'Plots', 'Journal'].map((name) =>
            h('a', { key: name, href: `#${name.toLowerCase()}` }, name),
          ),
        ),
  );
}

function tokenForm({ why }: Page, act: Acts): ComponentChild {
  const submit = (event: Event): void => {
    event.preventDefault();
    const field =
      event.currentTarget instanceof HTMLFormElement ? event.currentTarget.elements.namedItem('token') : null;
    if (field instanceof HTMLInputElement && field.value.trim() !== '') act.unlock(field.value.trim());
  };
  return h(
    'form',
    { class: 'token', onSubmit: submit, 'aria-labelledby': 'token-title' },
    h('h2', { id: 'token-title' }, 'This agent asks for a token'),
    h(
      'p',
      { id: 'token-help' },
      'It stands in the file that api.token_file names on that node. It is kept until this page is closed or loaded again, and nowhere else.',
    ),
    why === null ? null : h('p', { role: 'alert' }, mark('bad', why)),
    h('label', { for: 'token' }, 'Token'),
    h('input', {
      id: 'token',
      name: 'token',
      type: 'password',
      autocomplete: 'off',
      'aria-describedby': 'token-help',
      required: true,
    }),
    h('button', { type: 'submit' }, 'Show the cluster'),
  );
}

function nodesPart(status: Status): ComponentChild {
  const { lease, nodes } = status;
  const yesNo = (value: boolean | null) => (value === null ? '?' : value ? 'yes' : 'no');
  const lead =
    lease.role === 'master'
      ? `its lease ends in ${secondsText(lease.leaseLeftMs)} unless it is renewed`
      : lease.master === null
        ? ''
        : `what it granted this node ends in ${secondsText(lease.grantLeftMs)} unless it is renewed`;
  return part(
    'nodes',
    'Nodes',
    h(
      'div',
      { class: 'nodes' },
      ring(status),
      h(
        'div',
        { class: 'nodes-words' },
        h(
          'p',
          null,
          lease.master === null ? mark('bad', 'No master is known') : h('strong', null, `Node ${lease.master} leads`),
          ` in term ${lease.term}${lead === '' ? '' : `; ${lead}`}.`,
        ),
        table(
          'Nodes of the cluster',
          [
            { head: 'Node', figures: true },
            { head: 'Status' },
            { head: 'Address' },
            { head: 'Connected' },
            { head: 'May lead' },
            { head: 'May write' },
          ],
          nodes.map((node) => ({
            key: String(node.node),
            cells: [
              node.node,
              h(
                'span',
                { class: 'words' },
                mark(nodeTone(node), node.status),
                lease.master === node.node ? h('b', { class: 'tag' }, 'master') : null,
                node.self ? h('b', { class: 'tag' }, 'this one') : null,
              ),
              h('code', null, node.address),
              node.self ? '–' : yesNo(node.connected),
              yesNo(node.eligible),
              yesNo(node.granted),
            ],
          })),
        ),
      ),
    ),
  );
}

function plotsPart({ samples, events }: Page, { self }: Status): ComponentChild {
  const times = samples.map(({ atSeconds }) => atSeconds);
  const travels = events.flatMap((event) => {
    const ms = travelMs(event, self);
    return ms === null || event.recordedtime === undefined
      ? []
      : [{ atSeconds: Date.parse(event.recordedtime) / 1000, ms: Math.max(0, ms) }];
  });
  travels.sort((a, b) => a.atSeconds - b.atSeconds);
  const windows = samples.some(({ windowMib }) => windowMib > 0) ? samples.map(({ windowMib }) => windowMib) : [];
  return part(
    'plots',
    'Plots',
    h(
      'div',
      { class: 'plots' },
      h(Plot, {
        id: 'plot-travel',
        title: 'Events of other nodes, until they are in this journal',
        unit: 'ms',
        none: 'No event of another node yet.',
        times: travels.map(({ atSeconds }) => atSeconds),
        figures: travels.map(({ ms }) => ms),
        points: true,
      }),
      h(Plot, {
        id: 'plot-grant',
        title: 'Grant left to this node',
        unit: 's',
        none: 'Nothing yet.',
        times,
        figures: samples.map(({ grantLeftMs }) => grantLeftMs / 1000),
      }),
      h(Plot, {
        id: 'plot-copy',
        title: 'Copies',
        unit: 'MiB/s',
        none: 'No copy since this page was opened.',
        times,
        figures: samples.map(({ copyMibPerSecond }) => copyMibPerSecond),
      }),
      h(Plot, {
        id: 'plot-window',
        title: 'Window in which this node holds its writes',
        unit: 'MiB',
        none: 'None since this page was opened. The node that copies holds none.',
        times,
        figures: windows,
      }),
    ),
    h(
      'p',
      { class: 'note' },
      'Times are UTC. The first plot compares two nodes’ clocks, and is as good as they agree.',
    ),
  );
}

function journalPart(journal: JournalState | null, { journal: { head }, nodes, counters }: Status): ComponentChild {
  const checkpoint = journal?.checkpoint ?? null;
  const entries = journal === null ? '?' : countText(journal.entries + Math.max(0, head - journal.head));
  const unsigned =
    journal === null ? 0 : journal.entries + Math.max(0, head - journal.head) - (checkpoint?.entries ?? 0);
  const others = nodes.length - 1;
  const cosigned =
    checkpoint === null
      ? mark('quiet', 'not yet')
      : checkpoint.cosigners.length === 0
        ? mark('warn', 'by nobody yet')
        : mark(
            'good',
            `by ${checkpoint.cosigners.length} of ${others} others: node ${checkpoint.cosigners.join(', ')}`,
          );
  return part(
    'journal',
    'Journal and audit',
    facts([
      ['Entries', entries],
      ['Newest cursor', countText(head)],
      [
        'Newest checkpoint',
        checkpoint === null
          ? mark('quiet', 'none yet')
          : `${countText(checkpoint.entries)} entries, ${timeText(checkpoint.time)} UTC`,
      ],
      ['Cosigned', cosigned],
      ['Under no checkpoint', `${countText(Math.max(0, unsigned))} entries`],
      ['Refused messages', countText(counters.refused ?? 0)],
      ['Log', journal?.log == null ? '–' : h('code', null, journal.log)],
    ]),
    h(
      'p',
      { class: 'note' },
      'Signed is not audited: ',
      h('code', null, 'mdmesh audit verify'),
      ' proves the chain, the signatures and who led.',
    ),
  );
}
