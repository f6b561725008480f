/**
 * What `mdmesh init` and `mdmesh join` hand from node to node: the cluster and its list, with the peer IDs that are known so far, as
 * one word for the next command line. Nothing in it is secret: keys stay on their nodes. A checksum tells a word that lost a
 * piece on its way through a terminal.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { NodeId, Uuid } from '../arrays/record.ts';
import { DEFAULT_KEY_FILE, DEFAULT_PORT, DEFAULT_STATE_DIR } from '../config/defaults.ts';
import { ClusterName } from '../config/schema.ts';
import { UsageFailure } from './failure.ts';

const Invitation = z.strictObject({
  name: ClusterName,
  uuid: Uuid,
  nodes: z
    .array(
      z.strictObject({
        id: NodeId,
        address: z.string(),
        port: z.int().min(1).max(65535),
        /** null: this node has not joined yet. */
        peerId: z.string().nullable(),
      }),
    )
    .min(1),
});
export type Invitation = z.infer<typeof Invitation>;

/** Of the form; a later form takes another. */
const PREFIX = 'mdmesh1.';
const CHECKSUM_LETTERS = 8;

export function wordOf(invitation: Invitation): string {
  const body = Buffer.from(JSON.stringify(invitation)).toString('base64url');
  return `${PREFIX}${body}.${checksum(body)}`;
}

/** @throws UsageFailure for anything but a whole invitation */
export function readInvitation(word: string): Invitation {
  const again = 'copy the whole word that the command before printed';
  const [form, body, sum, ...rest] = word.split('.');
  if (`${form}.` !== PREFIX || body === undefined || sum === undefined || rest.length > 0) {
    throw new UsageFailure(`join: ${shortened(word)}: is no invitation; ${again}`);
  }
  if (checksum(body) !== sum) {
    throw new UsageFailure(`join: ${shortened(word)}: its checksum is ${checksum(body)}, not ${sum}; ${again}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body, 'base64url').toString());
  } catch {
    value = null;
  }
  const parsed = Invitation.safeParse(value);
  if (!parsed.success) {
    throw new UsageFailure(`join: ${shortened(word)}: ${parsed.error.issues[0]?.message ?? 'unreadable'}; ${again}`);
  }
  return parsed.data;
}

/** `ADDRESS`, `ADDRESS:PORT` or `[IPv6]:PORT`, in the order of their IDs. What an address may be, the configuration's rules say. */
export function listOf(addresses: readonly string[]): Invitation['nodes'] {
  return addresses.map((text, index) => {
    const [, inBrackets, bare, portText] = /^(?:\[([^\]]+)\]|([^:]+|[^:]*:[^:]*:.*?))(?::([0-9]+))?$/.exec(text) ?? [];
    const address = inBrackets ?? bare;
    const port = portText === undefined ? DEFAULT_PORT : Number(portText);
    if (address === undefined || port < 1 || port > 65535) {
      throw new UsageFailure(`init: node ${text}: is no address; write ADDRESS, ADDRESS:PORT or [IPv6]:PORT`);
    }
    return { id: index + 1, address, port, peerId: null };
  });
}

export interface Places {
  keyFile: string;
  stateDir: string;
}

const usualPlaces: Places = { keyFile: DEFAULT_KEY_FILE, stateDir: DEFAULT_STATE_DIR };

/** The configuration file, the same on every node. */
export function configText({ name, uuid, nodes }: Invitation, places: Places = usualPlaces): string {
  const list = nodes.map(
    ({ id, address, port, peerId }) =>
      `  - { id: ${id}, address: ${JSON.stringify(address)}, port: ${port}, peer_id: ${peerId ?? ''} }\n`,
  );
  const { keyFile, stateDir } = places;
  return [
    '# The same file on every node. Every other key has a default: see mdmesh.yaml(5). Check changes with mdmesh config check.\n',
    `cluster:\n  name: ${JSON.stringify(name)}\n  uuid: ${uuid}\n`,
    `nodes:\n${list.join('')}`,
    '# Who vouches that a silent node has stopped: a person alone, until a fencing command or a watchdog is set up here.\n',
    'fencing:\n  methods: [manual]\n',
    ...(keyFile === DEFAULT_KEY_FILE ? [] : [`key_file: ${JSON.stringify(keyFile)}\n`]),
    ...(stateDir === DEFAULT_STATE_DIR ? [] : [`state_dir: ${JSON.stringify(stateDir)}\n`]),
  ].join('\n');
}

/** Those who have not joined yet are taken for a node with some key. @throws Failure with every problem of the list */
export async function checkInvitation(invitation: Invitation): Promise<void> {
  const { draft } = await import('../config/parse.ts');
  const { formatProblems } = await import('../config/index.ts');
  const { generateIdentity } = await import('../wire/identity.ts');
  const pinned = async (node: Invitation['nodes'][number]) => ({
    ...node,
    peerId: node.peerId ?? (await generateIdentity()).peerId,
  });
  const nodes = await Promise.all(invitation.nodes.map(pinned));
  const { source } = draft(configText({ ...invitation, nodes }), `cluster ${invitation.name}`, () => '');
  if (source.problems.length > 0) throw new UsageFailure(formatProblems(source.problems));
}

function checksum(body: string): string {
  return createHash('sha256').update(body).digest('base64url').slice(0, CHECKSUM_LETTERS).replaceAll(/[-_]/g, 'x');
}

function shortened(word: string): string {
  return word.length > 24 ? `${word.slice(0, 24)}…` : word;
}
