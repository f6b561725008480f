/** A real browser: Debian's Chromium, driven by playwright-core. What it complains of, and what it asks others for, is kept. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { TestContext } from 'node:test';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

const PROGRAM = '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Why no browser can be had here; false: one can. */
export const noBrowser: string | false = existsSync(PROGRAM) ? false : 'no chromium: make packages';

export interface Viewer {
  page: Page;
  /** Lines of the console, errors and violations of the policy. */
  complaints: string[];
  /** Requests to anywhere else. */
  strays: string[];
}

export type Looks = NonNullable<Parameters<Browser['newContext']>[0]>;

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: PROGRAM, args: FLAGS });
}

/** The page of the agent at that origin, as it begins; ends with the test. */
export async function view(t: TestContext, browser: Browser, origin: string, looks: Looks = {}): Promise<Viewer> {
  const context: BrowserContext = await browser.newContext(looks);
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const complaints: string[] = [];
  const strays: string[] = [];
  page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('request', (request) => {
    if (!request.url().startsWith(`${origin}/`)) strays.push(request.url());
  });
  await page.goto(`${origin}/`);
  return { page, complaints, strays };
}

export function quiet({ complaints, strays }: Viewer): void {
  assert.deepEqual(complaints, [], 'the browser complains of nothing');
  assert.deepEqual(strays, [], 'nothing is asked of anybody else');
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface AxeFinding {
  id: string;
  help: string;
  nodes: { html: string; failureSummary?: string }[];
}

/** What axe finds against WCAG 2.2 AA and its own good practice. It is put in by the debugger, which no policy stops. */
export async function accessibilityFindings(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const violations: AxeFinding[] = await page.evaluate(
    "axe.run(document, { resultTypes: ['violations'] }).then((results) => results.violations)",
  );
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary = '' }) => `${id}: ${help}\n${html.slice(0, 300)}\n${failureSummary}`),
  );
}
