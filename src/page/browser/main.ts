/** The edge: the state on one side, the document and the network on the other. */
import { h, render } from 'preact';
import { openLink } from './link.ts';
import { type Action, type Filter, start, step } from './model.ts';
import { PageView } from './view.ts';
import { verdict } from './words.ts';

let page = start;
let isDrawing = false;
const root = document.getElementById('page');

function draw(): void {
  isDrawing = false;
  if (page.status !== null) document.title = `${page.status.cluster.name}: ${verdict(page.status).text}`;
  if (root !== null) render(h(PageView, { page, act }), root);
}

function send(action: Action): void {
  page = step(page, action);
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(draw);
}

const link = openLink(send);

const act = {
  filter(filter: Partial<Filter>): void {
    send({ type: 'filter', filter });
    link.look(page.filter);
  },
  more: (): void => send({ type: 'more' }),
  unlock: (token: string): void => link.unlock(token),
};

draw();
