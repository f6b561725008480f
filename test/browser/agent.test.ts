/** The page as the built program serves it: an agent in a process of its own, which is stopped, started again, and asks for a token. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { noBrowser, openBrowser, quiet, view } from './chromium.ts';
import { OneAgent } from './one_agent.ts';

const program = join(import.meta.dirname, '../../out/mdmesh');
const skip = noBrowser || (existsSync(program) ? false : 'no out/mdmesh: make build');
const token = 'f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0';

suite('the web page of a real agent', { skip, timeout: 300_000 }, () => {
  let browser: Browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
  });

  test('it goes on when the agent is started again, and shows what is signed', async (t) => {
    const agent = await OneAgent.start(t, program);
    const viewer = await view(t, browser, agent.origin);
    const { page } = viewer;
    await page.getByRole('img', { name: '1 of 1 nodes alive, node 1 leads' }).waitFor();
    const journal = page.getByRole('region', { name: 'Journal and audit' });
    await journal.getByText('none yet').waitFor();
    const elected = page.getByRole('listitem').filter({ hasText: 'MasterElected' });
    assert.equal(await elected.count(), 1);

    await agent.stop('SIGTERM');
    await page
      .getByText(/No connection to the agent/)
      .first()
      .waitFor();
    await agent.begin();
    await elected.nth(1).waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    await page.reload();
    // At its orderly end it signed all that there was.
    await journal.getByText(/^\d+ entries, \d{4}-/).waitFor();
    assert.ok(agent.residentMib() <= 120, `${agent.residentMib()} MiB`);
    assert.deepEqual(viewer.strays, []);
  });

  test('where the token is needed the page asks for it, and keeps it nowhere', async (t) => {
    const agent = await OneAgent.start(t, program, token);
    const viewer = await view(t, browser, agent.origin);
    const { page, complaints } = viewer;
    const field = page.getByRole('textbox', { name: 'Token' });
    await field.fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('not the token').waitFor();
    assert.equal(await page.getByRole('region', { name: 'Nodes' }).count(), 0, 'nothing is shown before');
    await field.fill(token);
    await page.getByRole('button', { name: 'Show the cluster' }).click();
    await page.getByRole('region', { name: 'Nodes', exact: true }).waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    assert.equal(await field.count(), 0);
    const kept = 'JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href])';
    assert.doesNotMatch(String(await page.evaluate(kept)), /f0f0/);
    await page.reload();
    await field.waitFor();
    // The browser itself notes each 401.
    const others = complaints.filter((text) => !text.includes('status of 401'));
    quiet({ ...viewer, complaints: others });
  });
});
