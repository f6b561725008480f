/** What one node's facts mean. Pure. */
import { capabilitiesAtStart, capabilitiesKept } from '../privileges.ts';
import type { Facts, Finding } from './index.ts';

const LAYER = ['dm_mod', 'dm_multipath', 'dm_round_robin'] as const;
/** Ticks of the kernel: too coarse for deadlines of seconds on a busy machine, and wrong when ticks are lost. */
const POOR_CLOCKS = ['jiffies', 'refined-jiffies', 'pit'];
const VOLATILE = ['tmpfs', 'ramfs', 'devtmpfs'];
const REMOTE = ['nfs', 'nfs4', 'cifs', 'smb3', 'fuse.sshfs', '9p'];
const FREE_MIB_LEAST = 64;

type Look = (facts: Facts) => Finding[];

export function findings(facts: Facts): Finding[] {
  return worstFirst(looks.flatMap((look) => look(facts)));
}

/** Of another node's report: what is wrong there, named after it. */
export function findingsThere(facts: Facts): Finding[] {
  return findings(facts)
    .filter(({ severity }) => severity !== 'info')
    .map((finding) => ({ ...finding, text: `node ${facts.config.self}: ${finding.text}` }));
}

export function worstFirst(found: readonly Finding[]): Finding[] {
  const rank = ({ severity }: Finding): number => ['critical', 'warning', 'info'].indexOf(severity);
  return found.toSorted((a, b) => rank(a) - rank(b));
}

const kernel: Look = ({ kernel }) => [
  ...when(kernel.modules.md_mod === 'missing', {
    check: 'kernel.md',
    severity: 'critical',
    text: `kernel ${kernel.release}: has no md_mod`,
    reason: 'md is what makes the arrays',
    remedy: 'boot a kernel with CONFIG_MD, or install its modules',
  }),
  ...when(kernel.modules.md_mod !== 'missing' && kernel.mdTrouble !== null, {
    check: 'kernel.external',
    severity: 'critical',
    text: `kernel ${kernel.release}: an array with external metadata cannot be made: ${kernel.mdTrouble}`,
    reason: 'the agent holds writes at gates that md has for external metadata alone',
    remedy: 'run doctor as root; if it says this there too, use a kernel from 4.14 on',
  }),
  ...['raid1', 'raid10', 'raid0', 'raid456']
    .filter((name) => kernel.modules[name] === 'missing')
    .map(
      (name): Finding => ({
        check: 'kernel.level',
        severity: name === 'raid1' ? 'warning' : 'info',
        text: `kernel ${kernel.release}: has no module ${name}`,
        reason: 'arrays of that level cannot run on this node',
        remedy: `install the module ${name} if you use that level`,
      }),
    ),
  ...LAYER.filter((name) => kernel.modules[name] === 'missing').map(
    (name): Finding => ({
      check: 'kernel.multipath',
      severity: 'warning',
      text: `kernel ${kernel.release}: has no module ${name}`,
      reason:
        'without the layer under the members, an I/O error reaches md at once, and a second one can be told as written too early',
      remedy: `install the module ${name}, then assemble the arrays anew`,
    }),
  ),
  ...when(POOR_CLOCKS.includes(kernel.clocksource), {
    check: 'clock.source',
    severity: 'warning',
    text: `the kernel's clock is ${kernel.clocksource}`,
    reason: 'lease and grant end by this clock; one that loses ticks lets this node write after the others gave it up',
    remedy:
      'choose another in /sys/devices/system/clocksource/clocksource0/current_clocksource, or find out why tsc was given up (dmesg)',
  }),
];

const configuration: Look = ({ config, key }) => [
  ...config.problems.map(
    (problem): Finding => ({
      check: 'config',
      severity: 'critical',
      text: problem,
      reason: 'the agent does not start with it',
      remedy: 'put it right; mdmesh config check tells when it is',
    }),
  ),
  ...when(key.modeOctal !== null && (Number.parseInt(key.modeOctal, 8) & 0o077) !== 0, {
    check: 'key.mode',
    severity: 'critical',
    text: `key file ${key.file}: has mode ${key.modeOctal}`,
    reason: 'whoever reads it can speak and vote as this node',
    remedy: `chmod 600 ${key.file}; if others could read it, make a new key and change this node's peer ID in every list`,
  }),
];

/** More than half of the disks that decide must answer. */
const quorumDisks: Look = ({ config, agent }) => {
  const total = agent.quorumDisks.length;
  if (config.quorum !== 'disks' || total === 0) return [];
  const lost = agent.quorumDisks.filter(({ answers }) => !answers).map(({ path }) => path);
  const majority = Math.floor(total / 2) + 1;
  const spare = total - lost.length - majority;
  return [
    ...when(total % 2 === 0 || total === 1, {
      check: 'quorum.disks',
      severity: 'warning',
      text: `${total} disks decide, of which ${majority} must answer`,
      reason:
        total < 3
          ? 'the loss of one ends all writes, also where it is one leg of a mirror'
          : `that survives the loss of ${total - majority}, no more than ${total - 1} disks would`,
      remedy: 'name a small LUN on other hardware as quorum_witness',
    }),
    ...when(spare < 0, {
      check: 'quorum.now',
      severity: 'critical',
      text: `${total - lost.length} of ${total} quorum disks answer this node, ${majority} are needed`,
      reason: 'a node without a majority of them cannot lead, and when all are without nobody may write',
      remedy: `bring back ${lost.join(', ')}`,
    }),
    ...when(spare === 0 && lost.length > 0, {
      check: 'quorum.now',
      severity: 'warning',
      text: `${total - lost.length} of ${total} quorum disks answer this node, and ${majority} are needed`,
      reason: 'one more that fails keeps this node from leading',
      remedy: `bring back ${lost.join(', ')}`,
    }),
  ];
};

const quorum: Look = ({ config, agent }) => {
  // Once a set is known nodes decide nothing.
  if (agent.quorumDisks.length > 0) return [];
  const total = config.nodes.length;
  if (total === 0) return [];
  const majority = Math.floor(total / 2) + 1;
  const alive = agent.nodes.filter(({ status }) => status === 'alive').length;
  const known = agent.trouble === null;
  return [
    ...when(total === 1, {
      check: 'quorum.size',
      severity: 'warning',
      text: 'the list has one node',
      reason: 'nobody takes over when it fails',
      remedy: 'three nodes survive the loss of one',
    }),
    ...when(total > 1 && total % 2 === 0, {
      check: 'quorum.size',
      severity: 'warning',
      text: `the list has ${total} nodes, of which ${majority} must be alive`,
      reason: `that survives the loss of ${total - majority}, no more than ${total - 1} nodes would`,
      remedy: 'use an odd number of nodes; the odd one needs no fast disks',
    }),
    ...when(known && alive < majority, {
      check: 'quorum.now',
      severity: 'critical',
      text: `${alive} of ${total} nodes are alive, ${majority} are needed`,
      reason: 'without a majority nobody may write',
      remedy: 'start the agents of the others, and see what mdmesh nodes says',
    }),
    ...when(known && alive >= majority && alive === majority && total > 2 && alive < total, {
      check: 'quorum.now',
      severity: 'warning',
      text: `${alive} of ${total} nodes are alive, and ${majority} are needed`,
      reason: 'one more that fails ends all writes',
      remedy: `bring back ${agent.nodes
        .filter(({ status }) => status !== 'alive')
        .map(({ node }) => `node ${node}`)
        .join(', ')}`,
    }),
  ];
};

const agent: Look = ({ agent, version }) => [
  ...when(agent.trouble !== null, {
    check: 'agent',
    severity: 'critical',
    text: `the agent does not answer: ${agent.trouble}`,
    reason: 'without it this node writes nothing, and counts as dead',
    remedy: 'systemctl start mdmesh; its log says why it ended',
  }),
  ...when(agent.trouble === null && agent.version !== version, {
    check: 'agent.version',
    severity: 'warning',
    text: `the agent that runs is ${agent.version}, the program ${version}`,
    reason: 'an upgrade is not done before the agent has started anew',
    remedy: 'systemctl restart mdmesh',
  }),
  ...when(agent.trouble === null && agent.master !== null && !agent.mayWrite, {
    check: 'agent.grant',
    severity: 'warning',
    text: 'this node has no grant',
    reason: 'its arrays hold their writes',
    remedy: 'see mdmesh status; a node that just started waits for its first grant',
  }),
  ...privileges(agent.privileges),
];

function privileges(found: Facts['agent']['privileges']): Finding[] {
  if (found === null) return [];
  const { effective, permitted, noNewPrivileges, ioFlusher } = found;
  const given = [...capabilitiesKept, ...capabilitiesAtStart];
  const more = permitted.filter((each) => !given.includes(each));
  return [
    ...when(more.length > 0 || !noNewPrivileges, {
      check: 'agent.privileges',
      severity: effective.some((each) => !capabilitiesKept.includes(each)) ? 'warning' : 'info',
      text: `the agent ${noNewPrivileges ? '' : 'and what it starts '}can take up ${more.join(', ') || 'more capabilities'}`,
      reason: 'hooks, mail and fencing.command get what the agent was started with, so it keeps the way back to that',
      remedy: 'let the unit set CapabilityBoundingSet and NoNewPrivileges, as the packaged one does; docs/security.md',
    }),
    ...when(!ioFlusher, {
      check: 'agent.memory',
      severity: 'warning',
      text: 'memory that the agent asks for may wait until other pages are written',
      reason:
        'where little is free, those may wait for an array whose writes wait for the agent: this node then stands still',
      remedy: 'start it with CAP_SYS_RESOURCE, as the packaged unit does, on Linux 5.6 or newer',
    }),
  ];
}

const network: Look = ({ peers, config }) => [
  ...peers
    .filter(({ trouble }) => trouble !== null)
    .map(
      ({ node, address, port, trouble }): Finding => ({
        check: 'network.port',
        severity: 'critical',
        text: `node ${node}: ${address} port ${port}: ${trouble}`,
        reason: 'the agents talk over this port, each to each',
        remedy: 'start the agent there, and open the port in every firewall between the nodes, in both directions',
      }),
    ),
  ...peers
    .filter(({ roundTripMs }) => roundTripMs !== null && roundTripMs > config.probeTimeoutMs / 4)
    .map(
      ({ node, roundTripMs }): Finding => ({
        check: 'network.round-trip',
        severity: (roundTripMs ?? 0) > config.probeTimeoutMs ? 'critical' : 'warning',
        text: `node ${node}: a round trip takes ${roundTripMs?.toFixed(1)} ms; probes wait for ${config.probeTimeoutMs} ms`,
        reason: 'a node whose answers come late is taken for dead',
        remedy: 'use a network of its own for the agents, or profile: wan on every node',
      }),
    ),
];

const autostart: Look = ({ autostart, arrays, disks }) => {
  const owned = new Set([...arrays.map(({ uuid }) => uuid), ...disks.map(({ arrayUuid }) => arrayUuid)]);
  return [
    ...when(autostart.mdadmRule && !autostart.ownRule, {
      check: 'autostart.udev',
      severity: 'warning',
      text: "mdadm's udev rules assemble members as they appear, and mdmesh's rule (63-mdmesh.rules) is not there",
      reason: 'the kernel refuses to run such an array, but what was half assembled holds the disks',
      remedy:
        'install the package, or packaging/debian/mdmesh.udev as /etc/udev/rules.d/63-mdmesh.rules and packaging/is-member as /usr/lib/mdmesh/is-member',
    }),
    ...when(autostart.mdadmInitramfs && !autostart.ownInitramfs, {
      check: 'autostart.initramfs',
      severity: 'warning',
      text: "the initramfs has mdadm in it, and not mdmesh's rule",
      reason: 'it would try to assemble members before the agent can start',
      remedy: 'install the package, or its hook (packaging/initramfs), and run update-initramfs -u',
    }),
    ...autostart.arrayLines
      .filter(({ uuid }) => owned.has(uuid))
      .map(
        ({ file, line, uuid }): Finding => ({
          check: 'autostart.mdadm-conf',
          severity: 'warning',
          text: `${file} line ${line}: names array ${uuid}, which the cluster owns`,
          reason: 'mdadm would try to assemble it at boot, and mail about it every day',
          remedy: 'take the line out, and run update-initramfs -u: the file has a copy there',
        }),
      ),
  ];
};

const members: Look = ({ arrays }) =>
  arrays.flatMap(({ md, members: listed, direct, trouble }) => [
    ...listed
      .filter(({ path, role }) => path === null && role !== 'faulty')
      .map(
        ({ uuid, role }): Finding => ({
          check: 'members.seen',
          severity: 'critical',
          text: `${md}: this node does not see the ${role} member ${uuid}`,
          reason: 'every node must reach every member by itself; data goes straight from each to the disks',
          remedy:
            'see to the path (zoning, cables, iSCSI login), and that arrays.devices in the configuration covers it',
        }),
      ),
    ...when(direct.length > 0, {
      check: 'members.layer',
      severity: 'warning',
      text: `${md}: no layer lies under ${direct.join(', ')}`,
      reason:
        'an I/O error reaches md at once, and a second one can be told as written too early; and without a grant this node goes on reading what may be old',
      remedy: 'load dm_multipath and dm_round_robin, then stop and assemble the array',
    }),
    ...when(trouble !== null, {
      check: 'members.trouble',
      severity: 'critical',
      text: `${md}: ${trouble}`,
      reason: 'the agent could not do what the cluster decided',
      remedy: 'see mdmesh detail and the agent’s log',
    }),
  ]);

const caches: Look = ({ disks }) =>
  disks
    .filter(({ uuid, writeCache, fua }) => uuid !== null && writeCache === 'write back' && fua === '0')
    .map(
      ({ path }): Finding => ({
        check: 'disk.fua',
        severity: 'info',
        text: `${path}: has a volatile cache and no FUA`,
        reason: 'each durable write of metadata is a write and a flush, so a state change takes a little longer',
        remedy: 'nothing has to be done',
      }),
    );

const multipath: Look = ({ disks, reservations: seen }) =>
  disks.flatMap(({ path, uuid, multipath: over }): Finding[] => {
    if (uuid === null || over === null) return [];
    return [
      ...when(over.queues, {
        check: 'multipath.queues',
        severity: 'warning',
        text: `${path}: without a path, multipath keeps I/O for ever (no_path_retry queue)`,
        reason:
          'this node cannot tell that it has lost the disk; all that waits for this node waits until it is fenced',
        remedy: '`no_path_retry fail` in the section overrides of /etc/multipath.conf, then `multipathd reconfigure`',
      }),
      ...when(seen?.used === true && over.key === null, {
        check: 'multipath.keys',
        severity: 'warning',
        text: `${path}: multipathd ${over.answers ? 'keeps no reservation key for it' : 'does not answer'}`,
        reason: 'a path that comes back is used before it is registered, and what is written there is refused',
        remedy:
          'run multipathd, with `reservation_key file` in the section defaults of /etc/multipath.conf; then `multipathd reconfigure`, and restart mdmesh',
      }),
    ];
  });

const reservations: Look = ({ config, arrays, reservations: seen }) => {
  if (seen === null) return [];
  const members = arrays.flatMap((array) => array.members.map((member) => ({ ...member, md: array.md })));
  const unsupported = members.filter(({ uuid }) => seen.members[uuid] === 'unsupported');
  const alone = config.methods.every((method) => method === 'reservation');
  return [
    ...unsupported.map(
      ({ md, uuid, path }): Finding => ({
        check: 'fencing.unreserved',
        severity: alone ? 'critical' : 'warning',
        text: `${md}: ${path ?? uuid} has no reservations`,
        reason: alone
          ? 'a silent node cannot be shut out of it: what waits for its fencing waits until it is back'
          : 'fencing by the disks needs them on every member of every array; the other methods decide instead',
        remedy:
          'use disks with SCSI-3 persistent or NVMe reservations (switched on in the storage), or list another method in fencing.methods',
      }),
    ),
    ...when(seen.shutOut, {
      check: 'fencing.shut-out',
      severity: 'critical',
      text: 'this node was shut out: its reservation keys were taken off members',
      reason: 'it fell silent, and the others went on without it; its writes are held',
      remedy: 'restore its network; it is taken back by itself, or says in mdmesh status what it waits for',
    }),
  ];
};

const watchdog: Look = ({ config, watchdog: seen, reservations: reserved }) => [
  ...when(needsPeople(config.methods, reserved) && config.nodes.length > 1, {
    check: 'fencing.people',
    severity: 'warning',
    text: `fencing: ${config.methods.join(', ') || 'none'}`,
    reason: 'when a node falls silent, state changes wait until a person vouches for it (mdmesh node confirm-dead)',
    remedy: 'use disks with reservations, or set up a fencing command, or watchdogs on every node',
  }),
  ...when(config.methods.includes('watchdog') && seen.identity === null, {
    check: 'watchdog.device',
    severity: 'critical',
    text: `fencing method watchdog: there is no watchdog behind ${config.watchdogDevice ?? '/dev/watchdog'}`,
    reason: 'the others would count on a reset that never comes',
    remedy:
      "load the driver of this hardware's watchdog (softdog if it has none), or take the method out on every node",
  }),
  ...when(config.methods.includes('watchdog') && seen.identity === 'Software Watchdog', {
    check: 'watchdog.software',
    severity: 'warning',
    text: 'the watchdog is softdog',
    reason: 'a kernel that stands still does not reset itself',
    remedy: "use the hardware's own watchdog where it has one",
  }),
];

const swap: Look = ({ swaps }) =>
  swaps.flatMap(({ path, onArray }) =>
    when(onArray !== null, {
      check: 'swap.on-array',
      severity: 'critical',
      text: `swap ${path}: lies on ${onArray}, an array of this cluster`,
      reason: 'what the agent needs may lie in there, and waits for the agent when the array holds its I/O',
      remedy: `swapoff ${path}, and swap to a local disk`,
    }),
  );

const journal: Look = ({ journal, config }) => {
  const { directory, fileSystem, freeMib, syncMs, onArray, trouble } = journal;
  const at = `state directory ${directory}`;
  return [
    ...when(trouble !== null, {
      check: 'journal.directory',
      severity: 'critical',
      text: `${at}: ${trouble}`,
      reason: 'votes and journal are written there',
      remedy: 'make it, writable for root, on a local disk',
    }),
    ...when(onArray !== null, {
      check: 'journal.on-array',
      severity: 'critical',
      text: `${at}: lies on ${onArray}, an array of this cluster`,
      reason: 'a vote must be stored before the array can be written: the two would wait for each other',
      remedy: 'move it to a local disk (state_dir)',
    }),
    ...when(fileSystem !== null && VOLATILE.includes(fileSystem), {
      check: 'journal.volatile',
      severity: 'critical',
      text: `${at}: is on ${fileSystem}`,
      reason: 'a vote that is forgotten in a restart can make two masters; the node must then abstain for a while',
      remedy: 'move it to a local disk (state_dir)',
    }),
    ...when(fileSystem !== null && REMOTE.includes(fileSystem), {
      check: 'journal.remote',
      severity: 'warning',
      text: `${at}: is on ${fileSystem}`,
      reason: 'votes then wait for another machine, and stop with it',
      remedy: 'move it to a local disk (state_dir)',
    }),
    ...when(freeMib !== null && freeMib < FREE_MIB_LEAST, {
      check: 'journal.full',
      severity: (freeMib ?? 0) < 4 ? 'critical' : 'warning',
      text: `${at}: ${freeMib} MiB are free`,
      reason: 'a node that cannot store its votes cannot vote',
      remedy: `free ${FREE_MIB_LEAST} MiB there at least`,
    }),
    ...when(syncMs !== null && syncMs > config.candidacyTimeoutMs / 4, {
      check: 'journal.slow',
      severity: 'warning',
      text: `${at}: a durable write takes ${syncMs?.toFixed(0)} ms`,
      reason: `a vote is one, and an election waits ${config.candidacyTimeoutMs} ms for it`,
      remedy: 'move it to a faster disk, or raise timing.candidacy_timeout on every node',
    }),
  ];
};

const looks: readonly Look[] = [
  kernel,
  configuration,
  agent,
  quorum,
  quorumDisks,
  network,
  members,
  caches,
  multipath,
  autostart,
  reservations,
  watchdog,
  swap,
  journal,
];

/** Nothing but a person vouches for a silent node. */
function needsPeople(methods: readonly string[], reserved: Facts['reservations']): boolean {
  if (methods.includes('watchdog') || methods.includes('command') || methods.includes('reservation')) return false;
  return !methods.includes('auto') || reserved?.used === false;
}

function when(found: boolean, finding: Finding): Finding[] {
  return found ? [finding] : [];
}
