import Table from 'cli-table3';

const ansi = { red: 31, green: 32, yellow: 33, bold: 1 } as const;
export type Colour = keyof typeof ansi;
/** Paints a text, or leaves it as it is where colour is not wanted. */
export type Paint = (colour: Colour, text: string) => string;

export function painter(colour: boolean): Paint {
  return colour ? (name, text) => `\u001b[${ansi[name]}m${text}\u001b[0m` : (_, text) => text;
}

const noBorders = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/** Columns without borders, as `ps` has them; ends with a newline. */
export function table(head: string[], rows: string[][], paint: Paint): string {
  const drawn = new Table({
    chars: noBorders,
    // The library's own colours follow its own idea of the terminal: off.
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  drawn.push(
    head.map((word) => paint('bold', word)),
    ...rows,
  );
  const lines = drawn.toString().split('\n');
  return lines.map((line) => `${line.trimEnd()}\n`).join('');
}
