/** The nodes on a ring, as the master and the members see each other. For the eye: the table beside it says the same in words. */
import { type ComponentChild, h } from 'preact';
import type { NodeStatus, Status } from '../../outlets/status.ts';
import { nodeTone, SHAPES, secondsText } from './words.ts';

const CENTRE = 150;
const RADIUS = 108;
/** From so many nodes on there is room for numbers alone. */
const CROWD = 13;

export function ring({ nodes, lease }: Status): ComponentChild {
  const places = nodes.map((node, index) => ({ node, ...place(index, nodes.length) }));
  const own = places.find(({ node }) => node.self);
  const size = nodes.length < CROWD ? 28 : Math.max(8, 24 - nodes.length / 4);
  const alive = nodes.filter(({ status }) => status === 'alive').length;
  const leads = lease.master === null ? 'nobody leads' : `node ${lease.master} leads`;
  const grant = lease.grantLeftMs > 0 ? `may write here for ${secondsText(lease.grantLeftMs)}` : 'may not write here';
  return h(
    'svg',
    {
      class: 'ring',
      viewBox: '0 0 300 300',
      role: 'img',
      'aria-label': `${alive} of ${nodes.length} nodes alive, ${leads}`,
    },
    h('circle', { class: 'ring-line', cx: CENTRE, cy: CENTRE, r: RADIUS }),
    places
      .filter(({ node }) => own !== undefined && !node.self && node.connected)
      .map(({ node, x, y }) =>
        h('line', { key: node.node, class: 'ring-link', x1: own?.x ?? 0, y1: own?.y ?? 0, x2: x, y2: y }),
      ),
    h('rect', { class: 'ring-middle', x: CENTRE - 62, y: CENTRE - 34, width: 124, height: 68, rx: 6 }),
    text(CENTRE, CENTRE - 14, 'ring-strong', lease.master === null ? 'no master' : `node ${lease.master} leads`),
    text(CENTRE, CENTRE + 5, 'ring-small', `term ${lease.term}`),
    text(CENTRE, CENTRE + 23, 'ring-small', grant),
    places.map(({ node, x, y }) =>
      nodeMark(node, { x, y, size, isMaster: node.node === lease.master, isCrowd: nodes.length >= CROWD }),
    ),
  );
}

interface Place {
  x: number;
  y: number;
  size: number;
  isMaster: boolean;
  isCrowd: boolean;
}

function nodeMark(node: NodeStatus, { x, y, size, isMaster, isCrowd }: Place): ComponentChild {
  const tone = nodeTone(node);
  return h(
    'g',
    { key: node.node, class: `ring-node ${tone}` },
    isMaster ? h('circle', { class: 'ring-master', cx: x, cy: y, r: size + 5 }) : null,
    h('circle', { class: 'ring-disc', cx: x, cy: y, r: size }),
    text(x, isCrowd ? y : y - 4, 'ring-id', `${node.node}${node.self ? '*' : ''}`),
    isCrowd ? null : text(x, y + 11, 'ring-word', `${SHAPES[tone]} ${node.status}`),
  );
}

function text(x: number, y: number, kind: string, words: string): ComponentChild {
  return h('text', { class: kind, x, y, 'text-anchor': 'middle', 'dominant-baseline': 'central' }, words);
}

function place(index: number, count: number): { x: number; y: number } {
  const angle = (index / Math.max(1, count)) * 2 * Math.PI - Math.PI / 2;
  return { x: CENTRE + RADIUS * Math.cos(angle), y: CENTRE + RADIUS * Math.sin(angle) };
}
