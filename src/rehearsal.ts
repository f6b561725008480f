/**
 * What an agent's start calls, as far as it touches nothing of the machine: no network, no md, no disk but a directory that is gone
 * afterwards. The build runs it so that V8's compiled code of all that can be laid beside the bundle (scripts/compile.ts); nothing else
 * calls it. It takes the same way each time: the same sources make the same compiled code.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStateFiles } from './agent/index.ts';
import { loadConfig } from './config/index.ts';
import { openJournal } from './journal/index.ts';
import { createLog } from './log.ts';
import { membersStart, membersStep } from './members/index.ts';
import { createNet } from './net/index.ts';
import { VERSION } from './version.ts';
import {
  decodeUnverified,
  generateIdentity,
  loadIdentity,
  open,
  publicKeyOfPeerId,
  saveIdentity,
  seal,
} from './wire/index.ts';
import type { Event } from './wire/messages.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9000';
const BOOT = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';

export async function rehearse(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-rehearsal-'));
  try {
    await rehearseIn(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function rehearseIn(directory: string): Promise<void> {
  const [keyFile, configFile] = [join(directory, 'key'), join(directory, 'mdmesh.yaml')];
  const [own, other] = [await generateIdentity(), await generateIdentity()];
  await saveIdentity(keyFile, own);
  writeFileSync(configFile, configuration(directory, [own.peerId, other.peerId]));
  const loaded = await loadConfig(configFile, { peerIdOf: async (file) => (await loadIdentity(file)).peerId });
  if ('problems' in loaded) throw new Error(`rehearsal: ${JSON.stringify(loaded.problems)}`);
  const { config } = loaded;
  const log = createLog({ level: 'info', node: config.self, form: 'json', write: () => undefined });
  const files = await openStateFiles(config.stateDir);
  await files.nextBootNumber(1);
  const journal = await openJournal({
    dir: config.stateDir,
    now: () => new Date(),
    decode: decodeUnverified,
    log: (level, text) => log[level](text),
  });
  const event: Event = {
    cluster: CLUSTER,
    origin: config.self,
    boot: BOOT,
    bootNumber: 1,
    sequence: 1,
    time: new Date().toISOString(),
    term: 0,
    body: { type: 'notice', name: 'TestMessage', severity: 'info', subject: config.cluster.name, detail: {} },
  };
  const sealed = await seal(own, event);
  journal.append(await open(sealed, () => [publicKeyOfPeerId(own.peerId)]), Buffer.from(sealed).toString('base64'));
  await journal.durable();
  await createNet({
    identity: own,
    cluster: CLUSTER,
    self: config.self,
    nodes: config.nodes,
    hello: { boot: BOOT, bootNumber: 1, version: VERSION },
    now: () => 0,
  });
  const { probeIntervalMs, probeTimeoutMs, indirectProbes } = config.timing;
  const patience = { suspicionMinIntervals: 3, suspicionMaxIntervals: 6, awarenessMax: 4 };
  const members = membersStart({
    self: 1,
    nodes: [1, 2],
    probeIntervalMs,
    probeTimeoutMs,
    indirectProbes,
    ...patience,
  });
  membersStep(members, { type: 'tick' }, 0);
  // What an agent loads later than with its configuration.
  await Promise.all([import('./md/real.ts'), import('./outlets/index.ts')]);
  await journal.close();
}

function configuration(directory: string, peerIds: readonly string[]): string {
  return [
    `cluster: { name: rehearsal, uuid: ${CLUSTER} }`,
    'nodes:',
    ...peerIds.map(
      (peerId, index) => `  - { id: ${index + 1}, address: 127.0.0.1, port: ${7946 + index}, peer_id: ${peerId} }`,
    ),
    `key_file: ${join(directory, 'key')}`,
    `state_dir: ${join(directory, 'state')}`,
    `socket: { path: ${join(directory, 'socket')}, mode: "0600" }`,
    'fencing: { methods: [manual] }',
    '',
  ].join('\n');
}
