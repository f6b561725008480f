/** The commands, their options and their help. What a command does is loaded when it is called: starting has to be quick. */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_FILE, DEFAULT_KEY_FILE, DEFAULT_SOCKET_PATH, DEFAULT_STATE_DIR } from '../config/defaults.ts';
import { VERSION } from '../version.ts';
import type { EventOptions } from './audit.ts';
import { createContext, type GlobalOptions } from './context.ts';
import type { DoctorOptions } from './doctor.ts';
import { codeOf, Failure, textOf, UsageFailure } from './failure.ts';
import type { Growing } from './grow.ts';
import type { InitOptions, JoinOptions } from './join.ts';
import type { KeygenOptions } from './keygen.ts';
import type { Step, StepOptions } from './manage.ts';
import {
  arrayName,
  chunkKibOf,
  componentKibOf,
  countOf,
  levelOf,
  limitKibOf,
  mdName,
  type SyncAction,
  standIn,
  syncActions,
  WordError,
} from './mdadm_words.ts';
import type { MonitorOptions } from './monitor.ts';
import type { AdoptOptions, CreateOptions, Spoken } from './requests.ts';
import type { Terminal } from './terminal.ts';
import type { TopOptions } from './top.ts';

/** `finish` is called with the exit code of the command that ran. */
export function buildProgram(terminal: Terminal, finish: (exitCode: number) => void): Command {
  const program = new Command('mdmesh')
    .description('Cluster-aware Linux md: one RAID array on several nodes over shared disks.')
    .version(VERSION, '-V, --version')
    .option('--config <file>', `configuration file (default: $MDMESH_CONFIG, or ${DEFAULT_FILE})`)
    .option(
      '--socket <path>',
      `the agent's socket (default: $MDMESH_SOCKET, the configuration's, or ${DEFAULT_SOCKET_PATH})`,
    )
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.out(text),
      writeErr: (text) => terminal.err(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'mdmesh: ')),
    })
    .showHelpAfterError('(add --help for usage and examples)');
  const context = createContext(terminal, () => program.opts<GlobalOptions>());
  /** Wraps an action: commander drops results, the exit code must not be. */
  const run =
    <A extends unknown[]>(action: (...args: A) => Promise<number>) =>
    async (...args: A) =>
      finish(await action(...args));
  const json = () => new Option('--json', 'print JSON');
  const access = () => new Option('--access <who>', 'who writes: all nodes, or one').choices(['shared', 'exclusive']);
  const owner = () =>
    new Option('--owner <node>', 'the one node that runs an exclusive array').argParser(
      read((word) => countOf(word, 1)),
    );
  const md = () => new Argument('<md>', 'the md device: md0 or /dev/md0').argParser(read(mdName));
  const array = () => new Argument('<array>', 'md0, /dev/md0 or its UUID').argParser(read(arrayName));

  program
    .command('agent')
    .description('run the agent of this node in the foreground')
    .addOption(new Option('--take-over', 'from the agent that starts it').hideHelp())
    .addHelpText('after', examples('mdmesh agent --config /etc/mdmesh/mdmesh.yaml'))
    .action(
      run(async (options: { takeOver?: boolean }) => {
        const { runAgent } = await import('../main.ts');
        return runAgent(context.configFile(), options.takeOver);
      }),
    );

  const self = () =>
    new Option('--self <node>', "this node's number (default: by its address)").argParser(
      read((word) => countOf(word, 1)),
    );
  program
    .command('init')
    .description('begin a cluster on its first node: makes the key, and prints what to run on the next node')
    .option('--name <name>', 'of the cluster; stands in the superblocks')
    .option('--node <address...>', 'all nodes in the order of their numbers: ADDRESS, ADDRESS:PORT or [IPv6]:PORT')
    .addOption(self())
    .option('--key <file>', 'key file', DEFAULT_KEY_FILE)
    .option('--state-dir <dir>', 'where the vote file goes', DEFAULT_STATE_DIR)
    .addOption(json())
    .addHelpText(
      'after',
      `
What is not given is asked for. Each node makes its own key; only addresses and peer IDs go from node to node.
${examples('mdmesh init', 'mdmesh init --name prod --node 10.0.0.1 10.0.0.2 10.0.0.3')}`,
    )
    .action(
      run(async (options: InitOptions) => {
        const { init } = await import('./join.ts');
        return init(context, options);
      }),
    );

  program
    .command('join')
    .description('take part in a cluster: makes the key, and writes the configuration once all have joined')
    .argument('<invitation>', 'the word that mdmesh init, or mdmesh join on the node before, printed')
    .addOption(self())
    .option('--key <file>', 'key file', DEFAULT_KEY_FILE)
    .option('--state-dir <dir>', 'where the vote file goes', DEFAULT_STATE_DIR)
    .addOption(json())
    .addHelpText('after', examples('mdmesh join mdmesh1.eyJu…'))
    .action(
      run(async (word: string, options: JoinOptions) => {
        const { join } = await import('./join.ts');
        return join(context, word, options);
      }),
    );

  program
    .command('doctor')
    .description(
      'look for what would fail later: kernel, disks, autostart, network, quorum, keys, journal; and between the nodes',
    )
    .addOption(new Option('--local', 'look at this node alone').conflicts(['compare']))
    .option('--compare <reports...>', 'instead: compare what doctor --json printed on several nodes')
    .addOption(json())
    .addHelpText(
      'after',
      `
Exit codes: 0 nothing is wrong, 1 there is a warning or something critical.
The agent has the other nodes looked at as well, so it also finds what one node cannot see alone: members that not every node sees,
configurations, versions and keys that differ, caches that one node takes for safe, clocks at different rates. Where agents do not
run yet, --compare does the same with reports that you carry.
${examples('mdmesh doctor', 'mdmesh doctor --local', 'ssh n2 mdmesh doctor --json > n2.json', 'mdmesh doctor --compare n1.json n2.json n3.json')}`,
    )
    .action(
      run(async (options: DoctorOptions) => {
        const { doctor } = await import('./doctor.ts');
        return doctor(context, options);
      }),
    );

  program
    .command('keygen')
    .description("make this node's identity and an unused vote file; never overwrites")
    .option('--out <file>', 'key file', DEFAULT_KEY_FILE)
    .option('--state-dir <dir>', 'where the vote file goes', DEFAULT_STATE_DIR)
    .addOption(new Option('--next', 'make the key that is to follow this one, beside it').conflicts(['useNext']))
    .option('--use-next', 'put the key that --next has made in the place of this one, which is kept beside it')
    .addOption(json())
    .addHelpText(
      'after',
      `
A key is changed while the node runs: --next; next_peer_id in every file, reload on every node; --use-next and reload on this node; then
the new peer_id alone in every file, reload on every node.
${examples('mdmesh keygen', 'mdmesh keygen --out ./n1.key --state-dir ./n1', 'mdmesh keygen --next', 'mdmesh keygen --use-next && mdmesh reload')}`,
    )
    .action(
      run(async (options: KeygenOptions) => {
        const { keygen, nextKey, takeNextKey } = await import('./keygen.ts');
        if (options.next) return nextKey(context, options);
        return options.useNext ? takeNextKey(context, options) : keygen(context, options);
      }),
    );

  program
    .command('key')
    .description("print the peer ID of this node's key")
    .argument('[file]', 'key file', DEFAULT_KEY_FILE)
    .addHelpText('after', examples('mdmesh key', 'mdmesh key ./n1.key'))
    .action(
      run(async (file: string) => {
        try {
          terminal.out(`${await peerIdOf(file)}\n`);
          return 0;
        } catch (error) {
          const absent = codeOf(error) === 'ENOENT';
          throw new Failure(absent ? `key file ${file}: there is none; make it with mdmesh keygen` : textOf(error));
        }
      }),
    );

  program
    .command('config')
    .description('work with the configuration file')
    .addHelpText('after', examples('mdmesh config check'))
    .command('check')
    .description('check the configuration and say every problem in it')
    .argument('[file]', 'configuration file (default: as --config)')
    .addHelpText('after', examples('mdmesh config check', 'mdmesh config check ./mdmesh.yaml'))
    .action(
      run(async (file: string | undefined) => {
        const { checkConfig } = await import('../config/index.ts');
        const { exitCode, text } = await checkConfig(file ?? context.configFile(), { peerIdOf });
        if (exitCode === 0) terminal.out(text);
        else terminal.err(text);
        return exitCode;
      }),
    );

  program
    .command('create')
    .description('create an array over shared disks and start it on all nodes')
    .addArgument(md())
    .argument('<devices...>', 'member devices, by their paths on this node')
    .addOption(
      new Option('-l, --level <level>', 'linear, 0, 1, 4, 5, 6 or 10').argParser(read(levelOf)).makeOptionMandatory(),
    )
    .addOption(
      new Option('-n, --raid-devices <count>', 'active members')
        .argParser(read((word) => countOf(word, 1)))
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('-x, --spare-devices <count>', 'spares; they come last in the list')
        .argParser(read((word) => countOf(word, 0)))
        .default(0),
    )
    .addOption(new Option('-c, --chunk <size>', 'KiB, or with K, M or G').argParser(read(chunkKibOf)))
    .option('-p, --layout <layout>', 'n2 (raid10), left-symmetric (raid5, raid6), …')
    .addOption(access())
    .addOption(owner())
    .option('-N, --name <name>', "name in the superblock (default: the cluster's and the md name)")
    .addOption(
      new Option(
        '-b, --bitmap <kind>',
        'internal: one for each node, on the members; see README before (default: none)',
      ).choices(['internal', 'none']),
    )
    .option('--assume-clean', 'skip the first resync: the members are known to be equal')
    .option('-f, --force', 'take disks that carry something')
    .option('--allow-missing', 'leave out nodes that do not see every disk; they run it when they do')
    .addOption(json())
    .addHelpText(
      'after',
      examples(
        'mdmesh create md0 --level 1 --raid-devices 2 /dev/sdb /dev/sdc',
        'mdmesh create /dev/md1 -l10 -n4 -c 512K --layout=n2 /dev/sd[b-e]',
        'mdmesh create md2 -l5 -n3 -x1 --owner 2 /dev/sd[b-e]',
      ),
    )
    .action(
      run(async (name: string, devices: string[], options: CreateOptions) => {
        const { create } = await import('./requests.ts');
        return create(context, name, devices, options);
      }),
    );

  program
    .command('adopt')
    .description("take over an mdadm array (v1.2) that is stopped everywhere, in place; 'release' gives it back")
    .argument('<what>', 'its UUID, or one of its devices')
    .addOption(new Option('--as <md>', 'md name on every node').argParser(read(mdName)))
    .addOption(access())
    .addOption(owner())
    .addOption(json())
    .addHelpText(
      'after',
      examples('mdmesh adopt /dev/sdb', 'mdmesh adopt 3c1c0f5e-7b1a-4a9e-9d55-0c9f3c8f7a11 --as md0'),
    )
    .action(
      run(async (what: string, options: AdoptOptions) => {
        const { adopt } = await import('./requests.ts');
        return adopt(context, what, options);
      }),
    );

  program
    .command('release')
    .description('give a stopped array back to mdadm')
    .addArgument(array())
    .addOption(json())
    .addHelpText('after', examples('mdmesh stop md0 && mdmesh release md0 && mdadm --assemble --scan'))
    .action(
      run(async (name: string, options: Spoken) => {
        const { ask } = await import('./requests.ts');
        return ask(context, { verb: 'release', array: name }, options);
      }),
    );

  program
    .command('assemble')
    .description('start an array of this cluster on all nodes')
    .argument('[array]', 'md0, /dev/md0 or its UUID', read(arrayName))
    .option('-s, --scan', 'all arrays of this cluster')
    .option(
      '-f, --force',
      'although parity is in doubt, or by the newest record that is known where the disks bear an older one',
    )
    .addOption(json())
    .addHelpText('after', examples('mdmesh assemble md0', 'mdmesh assemble --scan', 'mdmesh assemble --force md0'))
    .action(
      run(async (name: string | undefined, options: Spoken & { scan?: boolean; force?: boolean }) => {
        if ((name === undefined) === (options.scan !== true)) {
          throw new UsageFailure('assemble: name one array, or give --scan for all of them');
        }
        if (name === undefined && options.force === true) {
          throw new UsageFailure('assemble: --force is for one array, by its name');
        }
        const { ask } = await import('./requests.ts');
        return ask(context, { verb: 'assemble', array: name ?? null, ...(options.force && { force: true }) }, options);
      }),
    );

  program
    .command('stop')
    .description('stop an array on all nodes')
    .addArgument(array())
    .addOption(json())
    .addHelpText('after', examples('mdmesh stop md0'))
    .action(
      run(async (name: string, options: Spoken) => {
        const { ask } = await import('./requests.ts');
        return ask(context, { verb: 'stop', array: name }, options);
      }),
    );

  // Repeated and mixed options keep their order here, which one list per option would lose.
  const steps: Step[] = [];
  const step = (verb: Step['verb']) => (device: string) => {
    steps.push({ verb, device });
    return device;
  };
  program
    .command('manage')
    .description('fail, remove, add, re-add and replace members, in the order given')
    .addArgument(array())
    .addOption(new Option('-f, --fail <device...>', 'mark as faulty').argParser(step('fail')))
    .addOption(
      new Option(
        '-r, --remove <device...>',
        "take out; the words 'faulty' and 'detached' mean every faulty one, and those whose disk this node does not see",
      ).argParser(step('remove')),
    )
    .addOption(
      new Option(
        '-a, --add <device...>',
        'add as a spare; one that finds a free slot takes it and is rebuilt',
      ).argParser(step('add')),
    )
    .addOption(
      new Option(
        '--re-add <device...>',
        "add what was a member before, and rebuild it; the word 'missing' (of --add too) means disks of this array that are not in it, 'faulty' every faulty member",
      ).argParser(step('re-add')),
    )
    .addOption(
      new Option(
        '--replace <device...>',
        'rebuild a spare in the place of what is in use, which counts as faulty only when that is done (raid1)',
      ).argParser(step('replace')),
    )
    .addOption(
      new Option(
        '--with <device...>',
        'the spares to replace them with, in the same order (default: any spare)',
      ).argParser(
        read((device) => {
          if (standIn(steps, device)) return device;
          throw new WordError(`${device}: there is no --replace before it that it could go with`);
        }),
      ),
    )
    .option('--force', 'add a disk that carries something')
    .option('--allow-missing', 'add a disk that some node does not see: that node ceases to write until it does')
    .addOption(json())
    .addHelpText(
      'after',
      examples(
        'mdmesh manage md0 --fail /dev/sdb --remove /dev/sdb --add /dev/sdd',
        'mdmesh manage md0 --add /dev/sdd --replace /dev/sdb --with /dev/sdd && mdmesh wait md0',
        'mdmesh manage /dev/md0 -f /dev/sdb -r /dev/sdb',
        'mdmesh manage md0 --fail detached --remove detached',
        'mdmesh manage md0 --re-add missing && mdmesh wait md0',
      ),
    )
    .action(
      run(async (name: string, options: Spoken & StepOptions) => {
        const { manage } = await import('./manage.ts');
        return manage(context, name, steps, options);
      }),
    );

  program
    .command('grow')
    .description(
      'give an array more or fewer devices (raid1), make it larger (raid1, raid10 near), or change its bitmaps, while it is in use',
    )
    .addArgument(array())
    .addOption(
      new Option('-n, --raid-devices <count>', 'active members from now on; spares take the new slots').argParser(
        read((word) => countOf(word, 1)),
      ),
    )
    .addOption(
      new Option(
        '-z, --size <size>',
        'of each member: KiB, or with K, M or G; max: as all nodes see room for',
      ).argParser(read(componentKibOf)),
    )
    .option('-a, --add <device...>', 'add these disks before')
    .option('--assume-clean', 'skip the resync of what is new: the members are known to be equal there')
    .addOption(
      new Option('-b, --bitmap <kind>', 'internal: one for each node, on the members; none: take them away').choices([
        'internal',
        'none',
      ]),
    )
    .addOption(
      new Option(
        '--bitmap-chunk <size>',
        'what one bit stands for: KiB, or with K, M or G, a power of two (default: as suits)',
      ).argParser(read(chunkKibOf)),
    )
    .addOption(
      new Option('--nodes <count>', 'nodes that the members have room for (at first 16); only more').argParser(
        read((word) => countOf(word, 1)),
      ),
    )
    .option('-f, --force', 'leave it degraded where there are too few spares; add disks that carry something')
    .addOption(json())
    .addHelpText(
      'after',
      `
Fewer devices: only where the slots to go are free. Fail and remove members first (mdmesh manage).
Larger: enlarge the disks, let every node see their new size, then grow. What is new is copied to all members before it
counts as in sync; it can be written at once.
Bitmaps: only while the array is whole and nothing is copied. One of the changes at a time.
${examples('mdmesh grow md0 --raid-devices 3 --add /dev/sdd && mdmesh wait md0', 'mdmesh manage md0 --fail /dev/sdd --remove /dev/sdd && mdmesh grow md0 -n 2', 'mdmesh grow md0 --size max', 'mdmesh grow md0 --bitmap internal --bitmap-chunk 64M', 'mdmesh grow md0 --nodes 32')}`,
    )
    .action(
      run(async (name: string, options: Growing & Spoken) => {
        const { growCommand } = await import('./grow.ts');
        return growCommand(context, name, options);
      }),
    );

  program
    .command('mdadm')
    .description("mdadm's own words: the agent answers for the cluster's arrays, the real mdadm for all else")
    .usage("[mdadm's options and devices]")
    .addHelpText(
      'after',
      `
For an array of the cluster: [--manage] with --fail (-f, --set-faulty), --remove (-r), --add (-a), --re-add, --replace and
--with, in the order written, with the words failed, detached and missing; --grow (-G) with --raid-devices (-n), --size (-z),
--assume-clean, --bitmap (-b), --bitmap-chunk and --add; --detail (-D, with --test); --stop (-S), which stops it on all nodes;
--action=check, repair, idle or frozen; --wait (-W).
Everything else, and every other array, goes to the real mdadm as it was typed. A link named mdadm to this program does
the same under mdadm's name; MDMESH_SOCKET then names another socket.
${examples('mdmesh mdadm /dev/md0 --fail /dev/sdb --remove failed', 'mdmesh mdadm --detail /dev/md0', 'mdmesh mdadm --misc --action=check /dev/md0', 'ln -s /usr/bin/mdmesh /usr/local/sbin/mdadm')}`,
    );

  program
    .command('action')
    .description('check or repair an array, or halt a copy and let it go on')
    .addArgument(array())
    .addArgument(new Argument('<action>', 'what the array is to do').choices(syncActions))
    .addOption(json())
    .addHelpText(
      'after',
      `
check   read all copies and count the sectors in which they differ; nothing is changed
repair  the same, and make them equal
frozen  halt the copy that is under way; nothing goes on, on any node, until idle
idle    let a halted copy go on; or end a check or repair that is under way
A resync and a recovery are begun by the cluster itself, and idle does not end them.
${examples('mdmesh action md0 check && mdmesh wait md0', 'mdmesh action md0 frozen', 'mdmesh action md0 idle')}`,
    )
    .action(
      run(async (name: string, action: SyncAction, options: Spoken) => {
        const { ask } = await import('./requests.ts');
        return ask(context, { verb: 'action', array: name, action }, options);
      }),
    );

  program
    .command('sync-limit')
    .description('say what copies of an array may take of the disks')
    .addArgument(array())
    .addArgument(
      new Argument('<limit>', 'KiB a second, or with K, M or G; none: as the configuration says').argParser(
        read(limitKibOf),
      ),
    )
    .addOption(json())
    .addHelpText(
      'after',
      examples('mdmesh sync-limit md0 50M', 'mdmesh sync-limit md0 1GiB', 'mdmesh sync-limit md0 none'),
    )
    .action(
      run(async (name: string, limitKib: number | null, options: Spoken) => {
        const { ask } = await import('./requests.ts');
        return ask(context, { verb: 'sync-limit', array: name, limitKib }, options);
      }),
    );

  program
    .command('wait')
    .description('wait until no copy is under way; exit code 0: it waited, 1: there was nothing to wait for')
    .addArgument(array())
    .addOption(json())
    .addHelpText('after', examples('mdmesh wait md0', 'mdmesh manage md0 --add /dev/sdd && mdmesh wait md0'))
    .action(
      run(async (name: string, options: Spoken) => {
        const { wait } = await import('./wait.ts');
        return wait(context, name, options);
      }),
    );

  program
    .command('mdstat')
    .description("the cluster's arrays in the format of /proc/mdstat, the same on every node")
    .addOption(json())
    .addHelpText('after', examples('mdmesh mdstat', 'watch -n1 mdmesh mdstat'))
    .action(
      run(async (options: Spoken) => {
        const { mdstat } = await import('./mdstat.ts');
        return mdstat(context, options);
      }),
    );

  program
    .command('status')
    .description('the cluster as this node sees it: nodes and arrays')
    .addOption(json())
    .addHelpText('after', examples('mdmesh status', "mdmesh status --json | jq '.arrays[].record.md'"))
    .action(
      run(async (options: Spoken) => {
        const { status } = await import('./status.ts');
        return status(context, options);
      }),
    );

  program
    .command('top')
    .description('the cluster, live, on the whole screen: nodes, lease, arrays, copies, events')
    .option('--once', 'print it once, as it is when the output is no terminal')
    .addOption(json())
    .addHelpText(
      'after',
      `
Keys: q ends it; left and right choose an array, whose events are shown; up, down and the page keys go through the events;
s shows events of at least the next severity.
${examples('mdmesh top', 'mdmesh top --once', "mdmesh top --json | jq '.events[].type'")}`,
    )
    .action(
      run(async (options: TopOptions) => {
        const { top } = await import('./top.ts');
        return top(context, options);
      }),
    );

  program
    .command('nodes')
    .description('the nodes as this node sees them')
    .addOption(json())
    .addHelpText('after', examples('mdmesh nodes', 'mdmesh nodes --json'))
    .action(
      run(async (options: Spoken) => {
        const { nodes } = await import('./status.ts');
        return nodes(context, options);
      }),
    );

  program
    .command('detail')
    .description('one array, as mdadm --detail prints it')
    .addArgument(array())
    .option('-t, --test', 'tell the condition by exit code: 0 whole, 1 degraded, 2 failed')
    .addOption(json())
    .addHelpText('after', examples('mdmesh detail md0', 'mdmesh detail --test /dev/md0; echo $?'))
    .action(
      run(async (name: string, options: Spoken & { test?: boolean }) => {
        const { detail } = await import('./detail.ts');
        return detail(context, name, options);
      }),
    );

  program
    .command('examine')
    .description("members' superblocks, as mdadm --examine prints them, and mesh areas; needs no agent")
    .argument('<devices...>', 'member devices')
    .addOption(json())
    .addHelpText('after', examples('mdmesh examine /dev/sdb', 'mdmesh examine --json /dev/sd[bc]'))
    .action(
      run(async (devices: string[], options: Spoken) => {
        const { examine } = await import('./examine.ts');
        return examine(context, devices, options);
      }),
    );

  const node = program
    .command('node')
    .description('tell the cluster about a node')
    .addHelpText('after', examples('mdmesh node confirm-dead 3'));
  node
    .command('force-list')
    .description("have the node list of this node's file count from the agent's next start on; asks")
    .option('--really', 'for scripts: all other nodes are powered off for good')
    .addOption(json())
    .addHelpText(
      'after',
      `
For a cluster that has lost a majority of its nodes for good: on each node that is left, with the same file, while no agent runs. And for
a change of the list where disks decide (quorum: disks): on all nodes, with the agents of all stopped. Every other one goes by mdmesh reload.
${examples('mdmesh node force-list')}`,
    )
    .action(
      run(async (options: Spoken & { really?: boolean }) => {
        const { forceList } = await import('./force_list.ts');
        return forceList(context, options);
      }),
    );
  node
    .command('confirm-dead')
    .description('vouch that a silent node has stopped; asks twice')
    .addArgument(new Argument('<node>', "the node's number").argParser(read((word) => countOf(word, 1))))
    .addOption(
      new Option('--confirm <node>', 'for scripts: the number once more').argParser(read((word) => countOf(word, 1))),
    )
    .option('--really', 'for scripts: it is powered off, or cut off from the disks')
    .addOption(json())
    .addHelpText('after', examples('mdmesh node confirm-dead 3', 'mdmesh node confirm-dead 3 --confirm 3 --really'))
    .action(
      run(async (node: number, options: Spoken & { confirm?: number; really?: boolean }) => {
        const { confirmDead } = await import('./confirm_dead.ts');
        return confirmDead(context, node, options);
      }),
    );

  program
    .command('watch')
    .description('events as they happen, until interrupted')
    .addOption(
      new Option('--after <cursor>', 'first those behind this cursor; 0: all in the journal').argParser(read(cursorOf)),
    )
    .option('--json', 'print CloudEvents, one a line')
    .addHelpText('after', examples('mdmesh watch', 'mdmesh watch --after 0', 'mdmesh watch --json | jq .type'))
    .action(
      run(async (options: { after?: number; json?: boolean }) => {
        const { watch } = await import('./watch.ts');
        return watch(context, options);
      }),
    );

  program
    .command('reload')
    .description('have the agent read its configuration again: nodes, keys, timings and policies, all of it or nothing')
    .addOption(json())
    .addHelpText(
      'after',
      `
What cannot be taken up safely while the agent runs is refused, with the reason, and nothing of the file counts then. A node list
counts once the files of all living nodes ask for the same, and a majority of the old list and of the new has stored it.
${examples('mdmesh config check && mdmesh reload', 'systemctl reload mdmesh')}`,
    )
    .action(
      run(async (options: Spoken) => {
        const { tell } = await import('./requests.ts');
        return tell(context, await (await context.agent()).reload(), options);
      }),
    );

  program
    .command('hand-over')
    .description('have the agent start its program anew in its place, while applications write: for an upgrade')
    .addOption(json())
    .addHelpText(
      'after',
      `
The program is read from where the agent was started from, the configuration as at a start. The successor gets ready beside the agent,
which then gives up a mastership, and leaves it this node's grant. Where that cannot be, the agent goes on, and the words tell why: then restart it,
which holds this node's writes until the new one runs.
Exit codes: 0 the successor is the agent and answers, 1 it is not, 2 wrong usage.
${examples('mdmesh hand-over || systemctl restart mdmesh')}`,
    )
    .action(
      run(async (options: Spoken) => {
        const { handOver } = await import('./hand_over.ts');
        return handOver(context, options);
      }),
    );

  program
    .command('monitor')
    .description("tell of the arrays' events as mdadm --monitor does: to a program, by mail, to syslog, or here")
    .argument(
      '[arrays...]',
      'md0, /dev/md0 or UUIDs (default: all)',
      (word: string, before: string[]) => [...before, read(arrayName)(word)],
      [],
    )
    .option('-s, --scan', 'take MAILADDR, MAILFROM and PROGRAM from mdadm.conf')
    .option('-1, --oneshot', 'look once: NewArray, and DegradedArray where it is so')
    .option(
      '-t, --test',
      'a TestMessage for each array; without --program and --mail to the hooks and the mail of the configuration',
    )
    .option(
      '-p, --program <path>',
      'called with event, md device and component; more in its environment, all on its standard input',
    )
    .option('--alert <path>', 'the same')
    .option('-m, --mail <address>', 'told of Fail, FailSpare, DegradedArray and TestMessage')
    .option('-y, --syslog', 'tell syslog')
    .addOption(
      new Option('-r, --increment <percent>', 'tell of copies each so many per cent: a multiple of 20').argParser(
        read((word) => countOf(word, 1)),
      ),
    )
    .option('-f, --daemonise', 'in the background; prints the number of the process')
    .option('-i, --pid-file <file>', 'write the number there instead')
    .addOption(
      new Option('-d, --delay <seconds>', "mdadm's; here events come as they happen").argParser(
        read((word) => countOf(word, 0)),
      ),
    )
    .addHelpText(
      'after',
      `
It follows the agent, and misses nothing while it runs. What must not miss anything at all is for hooks and mail in the configuration.
${examples('mdmesh monitor --scan --oneshot', 'mdmesh monitor --test', 'mdmesh monitor --scan --daemonise --pid-file /run/mdmesh-monitor.pid')}`,
    )
    .action(
      run(async (arrays: string[], { alert, ...options }: MonitorOptions & { alert?: string }) => {
        const { monitor } = await import('./monitor.ts');
        return monitor(context, arrays, alert === undefined ? options : { program: alert, ...options });
      }),
    );

  const auditWords = () =>
    new Argument(
      '[journals...]',
      "state directories, or files of journals; 3=/path says whose (default: this node's state directory)",
    );
  const auditFilters = (command: Command) =>
    command
      .addArgument(auditWords())
      .addOption(new Option('--since <time>', 'not before this day or time (UTC)').argParser(read(timeOf)))
      .addOption(new Option('--until <time>', 'before this day or time (UTC)').argParser(read(timeOf)))
      .addOption(new Option('--array <array>', 'md0, /dev/md0 or its UUID').argParser(read(arrayName)))
      .addOption(new Option('--node <node>', 'of or about this node').argParser(read((word) => countOf(word, 1))))
      .option('--type <type>', 'name (Fail), type (io.mdmesh.array.fail), or kind (commit, request, notice, …)');
  const audit = program
    .command('audit')
    .description('what journals prove: needs no agent, only the files and the node list of the configuration')
    .addHelpText('after', examples('mdmesh audit verify', 'mdmesh audit show --type Fail'));
  audit
    .command('verify')
    .description('check chain, signatures, certificates, terms and checkpoints, and whether journals agree')
    .addArgument(auditWords())
    .option('--peers', "demand what only others can vouch for: every node's journal, and cosignatures up to the end")
    .addOption(json())
    .addHelpText(
      'after',
      `
Exit codes: 0 all is proved, 1 something is broken, 2 wrong usage, 3 nothing is proved wrong, but something is not proved.
${examples('mdmesh audit verify', 'mdmesh audit verify --peers ./n1 ./n2 ./n3', 'mdmesh audit verify 1=./a.jsonl 2=./b.jsonl')}`,
    )
    .action(
      run(async (words: string[], options: Spoken & { peers?: boolean }) => {
        const { auditVerify } = await import('./audit.ts');
        return auditVerify(context, words, options);
      }),
    );
  auditFilters(audit.command('show').description('events in journals, in their order, as they stand there'))
    .option('--json', 'print CloudEvents, one a line')
    .addHelpText(
      'after',
      examples('mdmesh audit show --since 2026-01-31 --array md0', 'mdmesh audit show --node 3 --type commit ./n1'),
    )
    .action(
      run(async (words: string[], options: EventOptions) => {
        const { auditShow } = await import('./audit.ts');
        return auditShow(context, words, options);
      }),
    );
  auditFilters(audit.command('export').description('events in journals for other programs, with their hashes'))
    .addOption(
      new Option('--format <format>', 'JSON lines, with the signed envelopes, or CSV')
        .choices(['jsonl', 'csv'])
        .default('jsonl'),
    )
    .option('--json', 'the same as --format jsonl')
    .addHelpText(
      'after',
      examples('mdmesh audit export > events.jsonl', 'mdmesh audit export --format csv --type Fail'),
    )
    .action(
      run(async (words: string[], options: EventOptions & { format: 'jsonl' | 'csv' }) => {
        const { auditExport } = await import('./audit.ts');
        return auditExport(context, words, options);
      }),
    );

  program
    .command('drop-writes')
    .description("hold the writes and reads of this machine's mesh arrays when no agent runs (for ExecStopPost)")
    .addOption(new Option('--sys-block <dir>', 'instead of /sys/block').default('/sys/block').hideHelp())
    .addOption(json())
    .addHelpText('after', examples('mdmesh drop-writes', 'ExecStopPost=-/usr/bin/mdmesh drop-writes'))
    .action(
      run(async (options: Spoken & { sysBlock: string }) => {
        const { dropWrites } = await import('./drop_writes.ts');
        return dropWrites(context, options);
      }),
    );

  program.addHelpText(
    'after',
    `${examples('mdmesh status', 'mdmesh create md0 --level 1 --raid-devices 2 /dev/sdb /dev/sdc', 'mdmesh watch')}
Exit codes: 0 done, 1 not done, 2 wrong usage. Errors go to standard error.`,
  );
  return program;
}

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

/** Words that cannot be read become commander's own complaint, which names the option. */
function read<T>(parse: (word: string) => T): (word: string) => T {
  return (word) => {
    try {
      return parse(word);
    } catch (error) {
      throw error instanceof WordError ? new InvalidArgumentError(error.message) : error;
    }
  };
}

function cursorOf(word: string): number {
  if (/^[0-9]{1,15}$/.test(word)) return Number(word);
  throw new WordError(`${word}: not a cursor; a whole number from 0 on, as in the events' "cursor"`);
}

/** A day, or RFC 3339; UTC where nothing else is said, as in all that mdmesh prints. */
function timeOf(word: string): Date {
  const isTime =
    /^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,3})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?$/.test(
      word,
    );
  const hasZone = word.length <= 10 || /(Z|[+-][0-9]{2}:[0-9]{2})$/.test(word);
  const time = new Date(hasZone ? word : `${word}Z`);
  if (isTime && !Number.isNaN(time.getTime())) return time;
  throw new WordError(`${word}: not a time; write 2026-01-31 or 2026-01-31T12:00:00Z`);
}

async function peerIdOf(keyFile: string): Promise<string> {
  const { loadIdentity } = await import('../wire/identity.ts');
  return (await loadIdentity(keyFile)).peerId;
}
