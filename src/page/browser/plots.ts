/** Figures over time, drawn by uPlot on a canvas; the line above each says the newest and the greatest in words. */
import { Component, type ComponentChild, createRef, h } from 'preact';
import uPlot from 'uplot';

export interface PlotProps {
  id: string;
  title: string;
  unit: string;
  /** Said in the place of an empty plot. */
  none: string;
  /** Unix seconds, growing, and a figure for each; null: a gap. */
  times: readonly number[];
  figures: readonly (number | null)[];
  /** Single moments, not a course. */
  points?: boolean;
}

const HEIGHT = 120;

export class Plot extends Component<PlotProps> {
  readonly #place = createRef<HTMLDivElement>();
  #drawn: uPlot | null = null;
  #scheme: MediaQueryList | null = null;
  #size: ResizeObserver | null = null;

  override componentDidMount(): void {
    this.#scheme = matchMedia('(prefers-color-scheme: dark)');
    this.#scheme.addEventListener('change', this.#redraw);
    this.#size = new ResizeObserver(([entry]) => {
      if (entry !== undefined) this.#drawn?.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT });
    });
    this.#show();
  }

  override componentDidUpdate(): void {
    this.#show();
  }

  override componentWillUnmount(): void {
    this.#scheme?.removeEventListener('change', this.#redraw);
    this.#size?.disconnect();
    this.#drawn?.destroy();
  }

  readonly #redraw = (): void => {
    this.#drawn?.destroy();
    this.#drawn = null;
    this.#show();
  };

  #show(): void {
    const { times, figures } = this.props;
    const place = this.#place.current;
    if (place === null) {
      this.#drawn?.destroy();
      this.#drawn = null;
      return;
    }
    const series: uPlot.AlignedData = [[...times], [...figures]];
    if (this.#drawn !== null && place.contains(this.#drawn.root)) this.#drawn.setData(series);
    else {
      this.#drawn = new uPlot(this.#options(place), series, place);
      this.#size?.disconnect();
      this.#size?.observe(place);
    }
  }

  #options(place: HTMLElement): uPlot.Options {
    const style = getComputedStyle(place);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour('--muted'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui, sans-serif',
    };
    const { points = false } = this.props;
    return {
      width: Math.floor(place.clientWidth),
      height: HEIGHT,
      padding: [6, 8, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_, __, max) => [0, Math.max(max * 1.15, 1)] } },
      axes: [
        { ...axis, space: 70, size: 22, values: (_, splits) => splits.map(clockText) },
        { ...axis, space: 30, size: 46 },
      ],
      series: [
        {},
        {
          stroke: colour('--accent'),
          width: 1.5,
          fill: points ? undefined : colour('--accent-faint'),
          ...(points
            ? { paths: () => null, points: { show: true, size: 5, fill: colour('--accent') } }
            : { points: { show: false } }),
        } as uPlot.Series,
      ],
    };
  }

  render({ id, title, unit, none, figures }: PlotProps): ComponentChild {
    const known = figures.filter((figure) => figure !== null);
    const newest = figures.at(-1) ?? null;
    const most = known.length === 0 ? null : Math.max(...known);
    const words =
      most === null ? '' : `now ${newest === null ? 'none' : figureText(newest)}, at most ${figureText(most)} ${unit}`;
    return h(
      'figure',
      { class: 'plot', 'aria-labelledby': `${id}-title` },
      h('figcaption', null, h('span', { id: `${id}-title` }, title), h('span', { class: 'plot-words' }, words)),
      most === null
        ? h('p', { class: 'none' }, none)
        : h('div', { ref: this.#place, class: 'plot-place', role: 'img', 'aria-label': `${title}: ${words}` }),
    );
  }
}

function figureText(figure: number): string {
  return figure >= 100 ? String(Math.round(figure)) : figure.toFixed(1);
}

function clockText(atSeconds: number): string {
  return new Date(atSeconds * 1000).toISOString().slice(11, 19);
}
