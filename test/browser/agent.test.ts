/** The page as the built program serves it: an agent in a process of its own, which is stopped, started again, and asks for a token. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, type TestContext, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { generateIdentity, saveIdentity } from '#src/wire/index.ts';
import { freePorts } from '../net/processes.ts';
import { noBrowser, openBrowser, quiet, view } from './chromium.ts';

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
    const agent = await OneAgent.start(t, null);
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
    const agent = await OneAgent.start(t, token);
    const viewer = await view(t, browser, agent.origin);
    const { page, complaints } = viewer;
    const field = page.getByLabel('Token');
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

class OneAgent {
  readonly origin: string;
  readonly #folder: string;
  #process: ChildProcess | null = null;

  private constructor(folder: string, port: number) {
    this.#folder = folder;
    this.origin = `http://127.0.0.1:${port}`;
  }

  static async start(t: TestContext, secret: string | null): Promise<OneAgent> {
    const folder = mkdtempSync(join(tmpdir(), 'mdmesh-page-'));
    const [port = 0, api = 0] = await freePorts(2);
    const identity = await generateIdentity();
    mkdirSync(join(folder, 'state'));
    await saveIdentity(join(folder, 'key'), identity);
    if (secret !== null) writeFileSync(join(folder, 'token'), `${secret}\n`, { mode: 0o600 });
    const tokenFile = secret === null ? '' : `, token_file: ${join(folder, 'token')}`;
    const config = [
      'cluster: { name: alone, uuid: 6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9003 }',
      'nodes:',
      `  - { id: 1, address: 127.0.0.1, port: ${port}, peer_id: ${identity.peerId} }`,
      `key_file: ${join(folder, 'key')}`,
      `state_dir: ${join(folder, 'state')}`,
      `socket: { path: ${join(folder, 'socket')}, mode: "0600" }`,
      `api: { listen: "127.0.0.1:${api}"${tokenFile} }`,
      'fencing: { methods: [manual] }',
      'arrays: { auto_assemble: false, devices: [/dev/none] }',
      '',
    ];
    writeFileSync(join(folder, 'mdmesh.yaml'), config.join('\n'));
    const agent = new OneAgent(folder, api);
    t.after(async () => {
      await agent.stop('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
    await agent.begin();
    return agent;
  }

  /** Resolves when the page can be had. */
  async begin(): Promise<void> {
    const child = spawn(program, ['agent', '--config', join(this.#folder, 'mdmesh.yaml')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process = child;
    let log = '';
    child.stdout.setEncoding('utf8');
    for await (const text of child.stdout) {
      log += text;
      if (log.includes('API listens, read-only')) break;
    }
    assert.match(log, /API listens, read-only/);
  }

  residentMib(): number {
    const [, kib = ''] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.#process?.pid}/status`, 'utf8')) ?? [];
    return Number(kib) / 1024;
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}
