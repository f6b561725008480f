/**
 * Reads a command line as mdadm does, as far as mdmesh may have to answer it: create with a clustered bitmap, assemble, manage mode,
 * grow mode, --detail, --stop, --wait, --action and --zero-superblock. Whatever is read as `other`, rightly or wrongly, goes to the real mdadm, which also says what is wrong with it.
 *
 * mdadm's rules kept here (mdadm(8), and tried with 4.2): the first option that belongs to a mode sets it; a device before
 * any option is the array; a manage option applies to all devices behind it until the next one, and the first device is the
 * array even when it stands behind that option; long options may be cut short while they stay unambiguous.
 */
import type { Step } from './manage.ts';
import { type SyncAction, standIn, syncActions } from './mdadm_words.ts';

export interface MdadmFlags {
  force: boolean;
  quiet: boolean;
  test: boolean;
}

export interface ManageLine extends MdadmFlags {
  mode: 'manage';
  array: string;
  steps: Step[];
  /** Behind the steps. */
  stop: boolean;
  /** Options of manage mode that mdmesh does not know, as they were written. */
  unknown: string[];
}

export interface GrowLine extends MdadmFlags {
  mode: 'grow';
  array: string;
  /** As they were written; null: left out. */
  raidDevices: string | null;
  size: string | null;
  assumeClean: boolean;
  bitmap: string | null;
  bitmapChunk: string | null;
  add: string[];
  /** Options of grow mode that mdmesh does not know, as they were written. */
  unknown: string[];
}

/** `--create … --bitmap=clustered`: what makes an array of a cluster in mdadm, too. */
export interface CreateLine extends MdadmFlags {
  mode: 'create';
  array: string;
  devices: string[];
  /** By mdadm's long names, as they were written. */
  values: Map<string, string>;
  assumeClean: boolean;
  /** Options of create mode that mdmesh does not know, as they were written. */
  unknown: string[];
}

export interface AssembleLine extends MdadmFlags {
  mode: 'assemble';
  array: string;
}

/** What misc mode does to a device. */
export type MiscVerb = 'detail' | 'stop' | 'wait' | 'action' | 'zero-superblock';

/** How --detail is to be printed. */
export type DetailForm = 'text' | 'export' | 'brief';

export interface MiscLine extends MdadmFlags {
  mode: 'misc';
  /** In the order written; `at`: place in the command line. */
  actions: { verb: MiscVerb; device: string; at: number }[];
  /** The value of --action, of which mdadm allows one. */
  syncAction: SyncAction | null;
  form: DetailForm;
  /** --scan: all arrays, when no device is named. */
  scan: boolean;
}

export type MdadmLine = CreateLine | AssembleLine | ManageLine | GrowLine | MiscLine | { mode: 'other' };

const other: MdadmLine = { mode: 'other' };

/** Long options without a value that mean something here. */
const longNames = new Map([
  ['add', 'add'],
  ['detail', 'detail'],
  ['fail', 'fail'],
  ['faulty', 'fail'],
  ['force', 'force'],
  ['grow', 'grow'],
  ['manage', 'manage'],
  ['misc', 'misc'],
  ['quiet', 'quiet'],
  ['re-add', 're-add'],
  ['remove', 'remove'],
  ['replace', 'replace'],
  ['set-faulty', 'fail'],
  ['stop', 'stop'],
  ['test', 'test'],
  ['verbose', 'verbose'],
  ['wait', 'wait'],
  ['with', 'with'],
  ['zero-superblock', 'zero-superblock'],
]);

/** Those of manage mode that mdmesh has no answer to yet; they set the mode all the same. */
const unknownManage = new Set(['add-journal', 'add-spare']);

/** The rest of mdadm's long options: they make cut ones ambiguous, and those marked take the next word as their value. */
const otherNames = new Map(
  [
    ...['assemble', 'auto', 'auto-detect', 'assume-clean', 'brief', 'build', 'create', 'daemonise', 'detail-platform'],
    ...['examine', 'examine-badblocks', 'examine-bitmap', 'export', 'failfast', 'follow', 'freeze-reshape'],
    ...['help', 'help-options', 'incremental', 'invalid-backup', 'monitor', 'no-degraded', 'no-devices', 'no-sharing'],
    ...['nofailfast', 'offroot', 'oneshot', 'query', 'readonly', 'readwrite', 'rebuild-map', 'run', 'scan', 'sparc2.2'],
    ...['syslog', 'udev-rules', 'version', 'wait-clean', 'write-behind', 'write-journal=', 'write-mostly'],
    ...['action=', 'alert=', 'array-size=', 'backup-file=', 'bitmap=', 'bitmap-chunk=', 'chunk='],
    ...['cluster-confirm=', 'config=', 'consistency-policy=', 'data-offset=', 'delay=', 'dump=', 'home-cluster='],
    ...['homehost=', 'increment=', 'kill-subarray=', 'layout=', 'level=', 'mail=', 'metadata=', 'name=', 'nodes='],
    ...['parity=', 'path=', 'pid-file=', 'prefer=', 'program=', 'raid-devices=', 'restore=', 'rounding=', 'size='],
    ...['spare-devices=', 'super-minor=', 'symlinks=', 'update=', 'update-subarray=', 'uuid='],
  ].map((name): [string, { hasValue: boolean }] => [name.replace('=', ''), { hasValue: name.endsWith('=') }]),
);

const shortNames = new Map([
  ...(['add', 'fail', 'remove', 'quiet', 'test', 'verbose'] as const).map((name): [string, string] => [
    name.slice(0, 1),
    name,
  ]),
  ['D', 'detail'],
  ['G', 'grow'],
  ['A', 'assemble'],
  ['C', 'create'],
  ['N', 'name'],
  ['R', 'run'],
  ['Y', 'export'],
  ['b', 'bitmap'],
  ['c', 'chunk'],
  ['e', 'metadata'],
  ['l', 'level'],
  ['n', 'raid-devices'],
  ['p', 'layout'],
  ['s', 'scan'],
  ['x', 'spare-devices'],
  ['z', 'size'],
  ['S', 'stop'],
  ['W', 'wait'],
]);
/** Short options of manage and misc mode that take a value. */
const shortWithValue = 'bcdeiklmnpuxzNUZ';

interface Word {
  kind: 'device' | 'option';
  /** Option's long name, or the device. */
  name: string;
  /** Of an option that has one. */
  value?: string | undefined;
  /** As a reader of the command line would know it again. */
  written: string;
  at: number;
}

export function readMdadmLine(argv: readonly string[]): MdadmLine {
  const [first] = [...words(argv)].filter(({ kind }) => kind === 'option');
  if (first?.name === 'create') return readCreate(argv);
  if (first?.name === 'assemble') return readAssemble(argv);
  return readOthers(argv);
}

const createValues = new Set([
  ...[
    'bitmap',
    'nodes',
    'level',
    'raid-devices',
    'spare-devices',
    'chunk',
    'layout',
    'name',
    'metadata',
    'home-cluster',
  ],
]);

/** Without a clustered bitmap it is an array of this machine alone, and the real mdadm's. */
function readCreate(argv: readonly string[]): MdadmLine {
  const line: CreateLine = {
    mode: 'create',
    array: '',
    devices: [],
    values: new Map(),
    assumeClean: false,
    unknown: [],
    force: false,
    quiet: false,
    test: false,
  };
  for (const { kind, name, value, written } of words(argv)) {
    if (kind === 'device') {
      if (line.array === '') line.array = name;
      else line.devices.push(name);
    } else if (createValues.has(name)) line.values.set(name, value ?? '');
    else if (name === 'assume-clean') line.assumeClean = true;
    else if (name === 'force' || written === '-f') line.force = true;
    else if (name === 'quiet') line.quiet = true;
    else if (name !== 'create' && name !== 'verbose' && name !== 'run') line.unknown.push(written);
  }
  return line.values.get('bitmap') === 'clustered' && line.array !== '' ? line : other;
}

/** Of one array; what else is said (devices, UUID) the agent knows better. --scan leaves the cluster's arrays to the agents. */
function readAssemble(argv: readonly string[]): MdadmLine {
  const all = [...words(argv)];
  const array = all.find(({ kind }) => kind === 'device')?.name;
  if (array === undefined || all.some(({ name }) => name === 'scan')) return other;
  const quiet = all.some(({ name }) => name === 'quiet');
  const force = all.some(({ name, written }) => name === 'force' || written === '-f');
  return { mode: 'assemble', array, force, quiet, test: false };
}

function readOthers(argv: readonly string[]): MdadmLine {
  let form: DetailForm = 'text';
  let scan = false;
  let mode: 'manage' | 'misc' | 'grow' | null = null;
  let action: Step['verb'] | MiscVerb | 'with' | 'unknown' | null = null;
  let syncAction: SyncAction | null = null;
  const flags: MdadmFlags = { force: false, quiet: false, test: false };
  const steps: Step[] = [];
  const misc: MiscLine['actions'] = [];
  const unknown: string[] = [];
  const growing: Pick<GrowLine, 'raidDevices' | 'size' | 'assumeClean' | 'bitmap' | 'bitmapChunk'> = {
    raidDevices: null,
    size: null,
    assumeClean: false,
    bitmap: null,
    bitmapChunk: null,
  };
  let array: string | null = null;
  let stop = false;
  for (const { kind, name, value, written, at } of words(argv)) {
    if (kind === 'device') {
      if (mode === 'misc') {
        if (!isMiscVerb(action)) return other;
        misc.push({ verb: action, device: name, at });
      } else if (array === null) {
        array = name;
      } else if (isStep(action)) {
        steps.push({ verb: action, device: name });
      } else if (action === 'with') {
        if (!standIn(steps, name)) return other;
      } else if (action !== 'unknown') {
        return other;
      }
      continue;
    }
    switch (name) {
      case 'verbose':
        break;
      case 'quiet':
        flags.quiet = true;
        break;
      case 'test':
        // It sets no mode, so it cannot be the first option.
        if (mode === null) return other;
        flags.test = true;
        break;
      case 'manage':
      case 'misc':
      case 'grow':
        if (mode !== null && mode !== name) return other;
        mode = name;
        break;
      case 'add':
      case 're-add':
      case 'fail':
      case 'remove':
      case 'replace':
      case 'with':
        if (mode === 'grow' && name === 'add') {
          action = name;
          break;
        }
        if (mode === 'misc' || mode === 'grow') {
          // The letter is --force there; the words belong to another mode.
          if (written !== '-f') return other;
          flags.force = true;
          break;
        }
        mode = 'manage';
        action = name;
        break;
      case 'action':
        // One that mdadm does not know, or a second one: it says so itself.
        if (syncAction !== null || mode === 'manage' || mode === 'grow') return other;
        syncAction = syncActions.find((each) => each === value) ?? null;
        if (syncAction === null) return other;
        mode = 'misc';
        action = name;
        break;
      case 'detail':
      case 'wait':
      case 'zero-superblock':
        if (mode === 'manage' || mode === 'grow') return other;
        mode = 'misc';
        action = name;
        break;
      case 'stop':
        if (mode === 'grow') return other;
        if (mode === 'manage') stop = true;
        else action = name;
        mode ??= 'misc';
        break;
      case 'force':
        flags.force = true;
        break;
      case 'raid-devices':
      case 'size':
      case 'assume-clean':
      case 'bitmap':
      case 'bitmap-chunk':
        if (mode === 'grow') {
          if (name === 'raid-devices') growing.raidDevices = value ?? '';
          else if (name === 'size') growing.size = value ?? '';
          else if (name === 'bitmap') growing.bitmap = value ?? '';
          else if (name === 'bitmap-chunk') growing.bitmapChunk = value ?? '';
          else growing.assumeClean = true;
          break;
        }
        if (mode !== 'manage') return other;
        unknown.push(written);
        break;
      case 'export':
      case 'brief':
      case 'scan':
        if (mode !== null && mode !== 'misc') return other;
        if (name === 'scan') scan = true;
        else form = name;
        break;
      default:
        if (mode === 'grow') {
          unknown.push(written);
          break;
        }
        if (mode === null && unknownManage.has(name)) mode = 'manage';
        if (mode !== 'manage') return other;
        if (unknownManage.has(name)) action = 'unknown';
        unknown.push(written);
    }
  }
  if (mode === 'manage' && array !== null) return { mode, array, steps, stop, unknown, ...flags };
  if (mode === 'grow' && array !== null) {
    return { mode, array, ...growing, add: steps.map(({ device }) => device), unknown, ...flags };
  }
  if (mode === 'misc' && array === null && misc.length === 0 && scan && action === 'detail') {
    return { mode, actions: [], syncAction, form: form === 'text' ? 'brief' : form, scan, ...flags };
  }
  // Without --detail these words are another command's.
  if ((scan || form !== 'text') && misc.some(({ verb }) => verb !== 'detail')) return other;
  // A device in front of the action is one without an action.
  if (mode === 'misc' && array === null && misc.length > 0)
    return { mode, actions: misc, syncAction, form, scan, ...flags };
  return other;
}

function isStep(verb: string | null): verb is Step['verb'] {
  return verb === 'fail' || verb === 'remove' || verb === 'add' || verb === 're-add' || verb === 'replace';
}

function isMiscVerb(verb: string | null): verb is MiscVerb {
  return verb === 'detail' || verb === 'stop' || verb === 'wait' || verb === 'action' || verb === 'zero-superblock';
}

function* words(argv: readonly string[]): Generator<Word> {
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? '';
    if (word === '-' || !word.startsWith('-')) {
      yield { kind: 'device', name: word, written: word, at };
    } else if (word.startsWith('--')) {
      const [typed = '', attached] = word.slice(2).split(/=(.*)/s);
      const name = fullName(typed);
      const value = otherNames.get(name)?.hasValue ? (attached ?? argv[at + 1]) : attached;
      yield {
        kind: 'option',
        name: attached === undefined || otherNames.has(name) ? name : '',
        value,
        written: word,
        at,
      };
      if (attached === undefined && otherNames.get(name)?.hasValue) at += 1;
    } else {
      for (let letter = 1; letter < word.length; letter += 1) {
        const written = `-${word[letter]}`;
        const name = shortNames.get(written.slice(1)) ?? '';
        if (!shortWithValue.includes(written.slice(1))) {
          yield { kind: 'option', name, written, at };
          continue;
        }
        const value = letter === word.length - 1 ? argv[at + 1] : word.slice(letter + 1);
        yield { kind: 'option', name, value, written, at };
        if (letter === word.length - 1) at += 1;
        break;
      }
    }
  }
}

/** Empty: none of mdadm's, or the beginning of several. */
function fullName(typed: string): string {
  const known = [...longNames.keys(), ...unknownManage, ...otherNames.keys()];
  const fitting = known.includes(typed) ? [typed] : known.filter((name) => name.startsWith(typed));
  const meanings = new Set(fitting.map((name) => longNames.get(name) ?? name));
  const [only = ''] = meanings;
  return meanings.size === 1 ? only : '';
}
