/**
 * The bare node list, as /etc/clusterips holds it: one address a line, `#` comments, the node's ID is the number of its
 * address line. A second column may pin the node's peer ID.
 */
export interface ListedNode {
  id: number;
  address: string;
  peerId: string | null;
  /** Line in the file. */
  line: number;
  /** What stands on the line beyond the two columns: a mistake. */
  rest: string;
}

export function parseClusterIps(text: string): ListedNode[] {
  const listed: ListedNode[] = [];
  for (const [index, content] of contentLines(text)) {
    const [address = '', peerId, ...rest] = content.split(/\s+/);
    listed.push({ id: listed.length + 1, address, peerId: peerId ?? null, line: index + 1, rest: rest.join(' ') });
  }
  return listed;
}

/** Whether a whole file is such a list and not YAML. A mistyped address must not make it YAML: only YAML's own signs do. */
export function isClusterIps(text: string): boolean {
  const lines = contentLines(text).map(([, content]) => content);
  return lines.length > 0 && !lines.some((line) => /^[{[\-%"']|^[\w-]+\s*:(\s|$)/.test(line));
}

function contentLines(text: string): [number, string][] {
  return text
    .split('\n')
    .map((line, index): [number, string] => [index, line.replace(/#.*$/, '').trim()])
    .filter(([, content]) => content !== '');
}
