/**
 * The page in a real browser, over a cluster of real agents on simulated kernels: what happens there is seen in it, at once, by
 * eye, by keys and by ear, and nothing of it comes from anywhere else.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { realTime } from '#src/md/simulated_time.ts';
import { type Status, serveApi } from '#src/outlets/index.ts';
import { Request } from '#src/wire/messages.ts';
import { SimCluster } from '../sim/cluster.ts';
import { accessibilityFindings, noBrowser, openBrowser, quiet, view } from './chromium.ts';

suite('the web page', { skip: noBrowser, timeout: 400_000 }, () => {
  let browser: Browser;
  let cluster: SimCluster;
  let api: Awaited<ReturnType<typeof serveApi>>;
  let origin = '';
  let directory = '';

  const serve = async (port: number): Promise<void> => {
    const { names } = cluster.agent(1) ?? assert.fail('node 1 runs');
    api = await serveApi({
      face: {
        names,
        status(): Status {
          const seen = cluster.status(1);
          assert.ok(seen, 'node 1 runs');
          return seen;
        },
        request: (request) => cluster.request(1, request),
        scan: async () => [],
        reports: async () => [],
        reloadConfig: async () => ({ ok: false, text: 'no file here' }),
        handOver: async () => ({ ok: false, text: '' }),
      },
      journal: cluster.journal(1),
      socketPath: join(directory, 'socket'),
      modeOctal: 0o600,
      tcp: { address: '127.0.0.1', port, access: { token: null } },
      log: { info() {}, warn() {}, error() {} },
    });
    assert.ok(api.port);
    origin = `http://127.0.0.1:${api.port}`;
  };
  const ask = async (request: object): Promise<void> => {
    const { ok, text } = await cluster.request(1, Request.parse(request));
    assert.ok(ok, text);
  };

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'mdmesh-page-'));
    cluster = await SimCluster.start({ time: realTime(), diskMib: [64, 64, 64] });
    await ask({
      verb: 'create',
      md: 'md0',
      level: 'raid1',
      raidDisks: 2,
      access: 'shared',
      devices: ['/dev/sda', '/dev/sdb'],
      assumeClean: true,
    });
    await cluster.open();
    await serve(0);
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await api?.close();
    cluster?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test('a failed leg is seen as it happens, in words, and said aloud', async (t) => {
    const viewer = await view(t, browser, origin);
    const { page } = viewer;
    await page.getByRole('article', { name: 'md0' }).getByText('clean', { exact: true }).waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    assert.equal(await page.title(), 'demo: All is well');
    assert.match(
      (await page.getByRole('img', { name: /3 of 3 nodes alive, node 1 leads/ }).textContent()) ?? '',
      /term/,
    );
    const reports = page.getByRole('table', { name: 'What each node reports of md0' }).getByRole('row');
    assert.equal(await reports.count(), 4, 'the master’s page has each node’s view');

    await ask({ verb: 'fail', array: 'md0', device: '/dev/sdb' });
    const members = page.getByRole('table', { name: 'Members of md0' });
    await members.getByText('faulty').waitFor();
    await page.getByRole('article', { name: 'md0' }).getByText('degraded', { exact: true }).waitFor();
    await page
      .getByRole('list', { name: /^Events/ })
      .getByText('DegradedArray')
      .first()
      .waitFor();
    await page.getByRole('status').filter({ hasText: 'DegradedArray' }).waitFor({ state: 'attached' });
    await page.waitForFunction("document.title.includes('md0 degraded')");
    quiet(viewer);
  });

  test('a copy moves', async (t) => {
    const viewer = await view(t, browser, origin);
    const { page } = viewer;
    await ask({ verb: 'sync-limit', array: 'md0', limitKib: 8192 });
    await ask({ verb: 'add', array: 'md0', device: '/dev/sdc' });
    const bar = page.getByRole('progressbar', { name: 'recovery of md0' });
    await bar.waitFor();
    const place = async () => Number(await bar.getAttribute('value'));
    const first = await place();
    while ((await place()) <= first) await page.waitForTimeout(100);
    await page
      .getByRole('figure', { name: 'Copies' })
      .getByText(/MiB\/s/)
      .waitFor();
    await ask({ verb: 'sync-limit', array: 'md0', limitKib: null });
    await page.getByRole('article', { name: 'md0' }).getByText('clean', { exact: true }).waitFor();
    quiet(viewer);
  });

  test('filters show what fits, and nothing else', async (t) => {
    const viewer = await view(t, browser, origin);
    const { page } = viewer;
    const events = page.getByRole('list', { name: /^Events/ }).getByRole('listitem');
    await events.first().waitFor();
    await page.getByRole('combobox', { name: 'Severity', exact: true }).selectOption('critical');
    await page.getByRole('combobox', { name: 'Array', exact: true }).selectOption('md0');
    await events
      .filter({ hasNotText: /critical.*md0/ })
      .first()
      .waitFor({ state: 'detached' });
    const rows = await events.allTextContents();
    assert.ok(rows.length >= 2, `${rows}`);
    for (const row of rows) assert.match(row, /critical.*md0/);
    await page.getByRole('combobox', { name: 'Type', exact: true }).selectOption('Fail');
    await events
      .filter({ hasNot: page.locator('b', { hasText: /^Fail$/ }) })
      .first()
      .waitFor({ state: 'detached' });
    assert.deepEqual([...new Set(await events.locator('b').allTextContents())], ['Fail']);
    await page.getByRole('button', { name: 'Show all' }).click();
    await page.getByRole('combobox', { name: 'Node', exact: true }).selectOption('2');
    await events
      .filter({ hasNotText: /n2|node\/2/ })
      .first()
      .waitFor({ state: 'detached' });
    for (const row of await events.allTextContents()) assert.match(row, /n2|node\/2/);
    quiet(viewer);
  });

  test('when the server goes and comes back, the page says so, goes on where it was, and shows nothing twice', async (t) => {
    const viewer = await view(t, browser, origin);
    const { page, complaints } = viewer;
    await page.getByText('Live', { exact: true }).waitFor();
    const { port } = api;
    await api.close();
    await page
      .getByText(/No connection to the agent/)
      .first()
      .waitFor();
    // What happens meanwhile is in the journal.
    await ask({ verb: 'action', array: 'md0', action: 'check' });
    await serve(port ?? 0);
    await page.getByText('Live', { exact: true }).waitFor();
    const started = page
      .getByRole('list', { name: /^Events/ })
      .getByRole('listitem')
      .filter({ hasText: 'check' });
    await started.first().waitFor();
    const ids = await page
      .getByRole('list', { name: /^Events/ })
      .getByRole('listitem')
      .allTextContents();
    const cursors = ids.filter((text) => text.includes('CopyOrdered') && text.includes('check'));
    assert.equal(cursors.length, 1, 'each event once');
    // The browser itself writes refused connections into its console; the page does not.
    assert.deepEqual(
      complaints.filter((text) => !/net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING)/.test(text)),
      [],
    );
    assert.deepEqual(viewer.strays, []);
  });

  test('by keys alone: past the head, along the parts, into the filters', async (t) => {
    const viewer = await view(t, browser, origin);
    const { page } = viewer;
    await page.getByRole('article', { name: 'md0' }).waitFor();
    const focused = () => page.evaluate('document.activeElement.id || document.activeElement.textContent');
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'Skip to the content');
    await page.keyboard.press('Enter');
    assert.equal(await focused(), 'main');
    const met = new Set<unknown>();
    for (let step = 0; step < 30 && !met.has('filter-node'); step += 1) {
      await page.keyboard.press('Tab');
      met.add(await focused());
      const outline = await page.evaluate('getComputedStyle(document.activeElement).outlineStyle');
      assert.equal(outline, 'solid', 'what has the focus shows it');
    }
    for (const id of ['filter-severity', 'filter-type', 'filter-array', 'filter-node']) assert.ok(met.has(id), id);
    await page.keyboard.press('ArrowDown');
    assert.equal(
      await page.getByRole('combobox', { name: 'Node', exact: true }).inputValue(),
      '1',
      'a choice by an arrow',
    );
    quiet(viewer);
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`axe finds nothing, ${colorScheme}, on a desk and on a phone, and it fits`, async (t) => {
      const viewer = await view(t, browser, origin, { colorScheme, reducedMotion: 'reduce' });
      const { page } = viewer;
      for (const width of [1280, 390]) {
        await page.setViewportSize({ width, height: 900 });
        await page.getByRole('article', { name: 'md0' }).waitFor();
        await page.locator('canvas').first().waitFor();
        assert.deepEqual(await accessibilityFindings(page), []);
        await page.waitForFunction(`document.documentElement.scrollWidth === ${width}`);
      }
      const ground = String(await page.evaluate('getComputedStyle(document.body).backgroundColor'));
      const [, red = ''] = /rgb\((\d+)/.exec(ground) ?? [];
      assert.equal(Number(red) > 127, colorScheme === 'light', ground);
      quiet(viewer);
    });
  }

  test('axe finds what is wrong', async (t) => {
    const { page } = await view(t, browser, origin);
    await page.getByRole('article', { name: 'md0' }).waitFor();
    await page.evaluate("document.querySelector('label[for=filter-node]').remove()");
    assert.match((await accessibilityFindings(page)).join(), /select-name/);
  });

  test('a script that somebody gets into the page is not run', async (t) => {
    const { page, complaints } = await view(t, browser, origin);
    await page.getByRole('article', { name: 'md0' }).waitFor();
    await page
      .evaluate(
        "{ const script = document.createElement('script'); script.append('window.ran = true'); document.body.append(script); }",
      )
      .catch(() => undefined);
    assert.equal(await page.evaluate('window.ran'), undefined);
    assert.match(complaints.join(), /Content Security Policy|Trusted/i);
  });
});
