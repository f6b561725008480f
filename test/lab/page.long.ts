/**
 * The web page of a guest's agent, looked at in a browser on the host: a leg fails in another guest's md, a disk is rebuilt, the
 * agent is started again, and an administrator who only looks sees each of them.
 */
import assert from 'node:assert/strict';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { noBrowser, openBrowser, view } from '../browser/chromium.ts';
import { Cluster, SOCKET } from './cluster.ts';
import { labAvailable } from './lab.ts';
import { mdMemberOn } from './md_members.ts';
import { PATIENT, startInOrder } from './writers.ts';

const available = labAvailable();
const skip = available.ok ? noBrowser : available.why;
if (skip) console.warn(`SKIPPED, the web page over real kernels: ${skip}`);

const DOOR_PORT = 8000;

suite('the web page over real kernels', { skip, timeout: 1_200_000 }, () => {
  let cluster: Cluster;
  let browser: Browser;
  let door: Server;
  let origin = '';

  before(async () => {
    cluster = await Cluster.prepare({ name: 'page', diskMib: [64, 64, 64], config: PATIENT });
    await startInOrder(cluster);
    const program = [process.execPath, '--no-warnings', join(import.meta.dirname, '../../demo/door.ts')];
    const logFile = join(cluster.folder(1), 'door.log');
    await cluster.lab.guest(1).spawn([...program, String(DOOR_PORT), SOCKET], { logFile });
    const inGuest = await cluster.lab.forward(1, DOOR_PORT);
    door = createServer((here) => {
      const there = connect(inGuest);
      here.pipe(there).pipe(here);
      here.on('error', () => there.destroy());
      there.on('error', () => here.destroy());
    });
    await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
    const bound = door.address();
    origin = `http://127.0.0.1:${typeof bound === 'object' ? bound?.port : 0}`;
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    door?.close();
    await cluster?.close();
  });

  test('a leg fails in md on node 2; a disk is rebuilt; the agent of the page is started again', async (t) => {
    await cluster.must(1, 'create md0 --level 1 --raid-devices 2 --assume-clean --force /dev/ubda /dev/ubdb');
    await cluster.open();
    const viewer = await view(t, browser, origin);
    const { page } = viewer;
    page.setDefaultTimeout(60_000);
    const array = page.getByRole('article', { name: 'md0' });
    await array.getByText('clean', { exact: true }).waitFor();
    const reports = page.getByRole('table', { name: 'What each node reports of md0' });
    await reports.getByText('open', { exact: true }).nth(2).waitFor();

    const two = cluster.lab.guest(2);
    const { name } = await mdMemberOn(two, 'md0', 'ubdb');
    await two.must(`echo faulty > /sys/block/md0/md/dev-${name}/state`);
    await page.getByRole('table', { name: 'Members of md0' }).getByText('faulty', { exact: true }).waitFor();
    await array.getByText('degraded', { exact: true }).waitFor();
    const events = page.getByRole('list', { name: /^Events/ }).getByRole('listitem');
    await events.filter({ hasText: 'FaultSeen' }).filter({ hasText: 'n2' }).first().waitFor();
    await events.getByText('Fail', { exact: true }).first().waitFor();

    await cluster.must(1, 'sync-limit md0 4M');
    await cluster.must(1, 'manage md0 --add /dev/ubdc --force');
    const bar = page.getByRole('progressbar', { name: 'recovery of md0' });
    await bar.waitFor();
    const place = async () => Number(await bar.getAttribute('value'));
    const first = await place();
    while ((await place()) <= first) await page.waitForTimeout(200);
    await cluster.must(1, 'sync-limit md0 none');
    await array.getByText('clean', { exact: true }).waitFor();

    await cluster.stopAgent(1);
    await page
      .getByText(/No connection to the agent/)
      .first()
      .waitFor();
    await cluster.startAgent(1);
    await page.getByText('Live', { exact: true }).waitFor();
    await array.getByText('clean', { exact: true }).waitFor();
    assert.deepEqual(viewer.strays, []);
    // The browser's own notes on connections that broke; nothing of the page's.
    assert.deepEqual(
      viewer.complaints.filter((text) => !text.includes('net::ERR_')),
      [],
    );
  });
});
