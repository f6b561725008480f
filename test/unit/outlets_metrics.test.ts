/** /metrics, the alert rules and the dashboard: judged by promtool, and by whether what they name is there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { metricsText } from '#src/outlets/metrics.ts';
import { open, text } from './outlets_client.ts';
import {
  arrayStatus,
  clusterStatus,
  copying,
  memberB,
  raid1,
  startFakeAgent,
  withFaulty,
} from './outlets_fake_agent.ts';

const root = resolve(import.meta.dirname, '../..');
const rules = join(root, 'config/mdmesh.rules.yaml');
const dashboard = readFileSync(join(root, 'config/mdmesh.dashboard.json'), 'utf8');
const missing = spawnSync('promtool', ['--version']).error !== undefined;
const needsPromtool = { skip: missing ? 'promtool is not installed: make packages' : false };

function promtool(args: string[], input = ''): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, {
    input,
    encoding: 'utf8',
    cwd: root,
    timeout: 60_000,
  });
  assert.equal(status, 0, `promtool ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout + stderr;
}

/** A node that has something of everything. */
function busy() {
  const failed = { ...arrayStatus(withFaulty(raid1(), memberB)), trouble: 'member ubdb: EIO' };
  const status = clusterStatus([failed, copying({ ...raid1(), md: 'md1' })]);
  return {
    ...status,
    counters: { commits: 7, refused: 2, staleTerms: 1, duplicates: 3, catchups: 4, framesIn: 5, framesOut: 6 },
  };
}

async function metrics(isOpenMetrics: boolean): Promise<string> {
  return (await metricsText({ status: busy(), followers: 3 }, isOpenMetrics)).text;
}

test('promtool finds nothing wrong with the metrics, in either form', needsPromtool, async () => {
  assert.equal(promtool(['check', 'metrics'], await metrics(false)), '');
  // It reads the older form alone: there a counter's own name has _total too.
  const open = await metrics(true);
  const older = open.replace(/^# (HELP|TYPE) (\S+) (.*)$/gm, (line, word, name, rest) =>
    open.includes(`# TYPE ${name} counter\n`) ? `# ${word} ${name}_total ${rest}` : line,
  );
  assert.equal(promtool(['check', 'metrics'], older.replace('# EOF\n', '')), '');
  assert.throws(
    () => promtool(['check', 'metrics'], '# TYPE x_ms counter\nx_ms 1\n'),
    /promtool/,
    'it does find things',
  );
});

test('the OpenMetrics form ends as it has to, and names counters as it has to', async () => {
  const told = await metrics(true);
  assert.match(told, /\n# EOF\n$/);
  const counters = [...told.matchAll(/^# TYPE (\S+) counter$/gm)].map((match) => match[1] ?? '');
  assert.ok(counters.length >= 7);
  for (const name of counters) {
    assert.doesNotMatch(name, /_total$/);
    assert.match(told, new RegExp(`^${name}_total(\\{| )`, 'm'));
  }
});

test('the numbers are the status’s, in base units', async () => {
  const told = await metrics(false);
  for (const line of [
    'mdmesh_info{cluster="demo",node="2",version="0.1.0"} 1',
    'mdmesh_start_time_seconds 1767268800',
    'mdmesh_master 0',
    'mdmesh_master_known 1',
    'mdmesh_term 3',
    'mdmesh_grant_remaining_seconds 1.8',
    'mdmesh_nodes{status="alive"} 2',
    'mdmesh_nodes{status="dead"} 1',
    'mdmesh_nodes_connected 2',
    'mdmesh_array_missing_members{array="md0"} 1',
    'mdmesh_array_writers{array="md0"} 2',
    'mdmesh_array_writes_held{array="md0"} 0',
    'mdmesh_array_trouble{array="md0"} 1',
    'mdmesh_array_trouble{array="md1"} 0',
    'mdmesh_array_copy_ratio{array="md0"} 1',
    'mdmesh_array_copy_bytes_per_second{array="md1"} 34242560',
    'mdmesh_commits_total 7',
    'mdmesh_messages_refused_total 2',
    'mdmesh_frames_total{direction="in"} 5',
    'mdmesh_api_followers 3',
  ]) {
    assert.ok(told.includes(`${line}\n`), line);
  }
  assert.match(told, /^mdmesh_array_copy_ratio\{array="md1"\} 0\.126/m);
  assert.doesNotMatch(told, /node_md_/);
});

test('it is served in the form that is asked for, and counts who follows', async (t) => {
  const { socketPath } = await startFakeAgent(t);
  const follower = await open(socketPath, '/v1/events?follow=true');
  t.after(() => follower.destroy());
  const prometheus = 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  const response = await open(socketPath, '/metrics', { headers: { accept: prometheus } });
  assert.equal(response.headers['content-type'], 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  assert.match(await text(response), /\nmdmesh_api_followers 1\n/);
  const plain = await open(socketPath, '/metrics', { headers: { accept: 'text/plain' } });
  assert.equal(plain.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  plain.resume();
});

test('the alert rules are sound, and fire at what they are for alone', needsPromtool, () => {
  assert.match(promtool(['check', 'rules', rules]), /SUCCESS/);
  for (const file of ['mdmesh.rules.test.yaml', 'mdmesh.rules.days.test.yaml']) {
    assert.match(promtool(['test', 'rules', `test/unit/${file}`]), /SUCCESS/);
  }
  const tried = readFileSync(join(root, 'test/unit/mdmesh.rules.test.yaml'), 'utf8');
  const days = readFileSync(join(root, 'test/unit/mdmesh.rules.days.test.yaml'), 'utf8');
  for (const [, alert = ''] of readFileSync(rules, 'utf8').matchAll(/alert: (\w+)/g)) {
    const cases = [...`${tried}${days}`.matchAll(new RegExp(`alertname: ${alert}\\b`, 'g'))];
    assert.ok(cases.length >= 2, `${alert} is tried, firing and silent`);
  }
});

/** Every expression of the dashboard, its variables filled in. */
function queries(): string[] {
  const found: string[] = [];
  JSON.parse(dashboard, (key, value) => {
    if (key === 'expr') found.push(String(value).replaceAll('$instance', '.*').replaceAll('$job', 'mdmesh'));
    return value;
  });
  return found;
}

test('each query of the dashboard and of the rules is one, over metrics that exist', needsPromtool, async (t) => {
  const all = queries();
  assert.ok(all.length > 15);
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-metrics-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'queries.yaml');
  const asRules = all.map((expr, index) => ({ record: `query_${index}`, expr }));
  writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: asRules }] }));
  promtool(['check', 'rules', file]);
  const told = await metrics(false);
  const names = `${all.join('\n')}\n${dashboard}\n${readFileSync(rules, 'utf8').replace(/^\s*#.*$/gm, '')}`;
  const used = new Set([...names.matchAll(/\b(?:mdmesh|process)_[a-z_]+/g)].map((match) => match[0]));
  assert.ok(used.size > 12);
  for (const name of used) assert.match(told, new RegExp(`^${name}(\\{| )`, 'm'), name);
});
