/** `make model`: every scope and every rule taken away; the table goes into docs/model.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { check, whyNoChecker } from './checker.ts';
import { MUTATIONS, SCOPES } from './scopes.ts';

const DOC = join(import.meta.dirname, '../../docs/model.md');
const why = whyNoChecker();
if (why !== null) {
  process.stderr.write(`make model: ${why}\n`);
  process.exit(1);
}
let failed = 0;
const tell = (line: string) => process.stdout.write(`${line}\n`);
const scopes = ['| model | scope | flags | states | depth is exhausted |', '| --- | --- | --- | ---: | --- |'];
for (const { name, model, flags } of SCOPES) {
  const verdict = await check(model, flags, { optimize: true });
  const outcome = verdict.violation ?? (verdict.complete ? 'yes' : 'no');
  if (outcome !== 'yes') failed += 1;
  tell(
    `${outcome === 'yes' ? 'holds ' : 'BROKEN'} ${model} ${name}: ${verdict.states} states, ${verdict.seconds} s ${verdict.violation ?? ''}`,
  );
  scopes.push(`| \`${model}\` | ${name} | \`${flags.join(' ')}\` | ${verdict.states} | ${outcome} |`);
}
const rules = ['| model | rule taken away | flags | found after (states) |', '| --- | --- | --- | ---: |'];
for (const { rule, model, flags } of MUTATIONS) {
  const { violation, states } = await check(model, flags);
  if (violation === null) failed += 1;
  tell(`${violation === null ? 'MISSED' : 'found '} ${model} without: ${rule} (${states} states)`);
  rules.push(`| \`${model}\` | ${rule} | \`${flags[0]}\` | ${violation === null ? 'not found' : states} |`);
}
if (failed === 0) {
  const table = `<!-- model -->\n${scopes.join('\n')}\n\n${rules.join('\n')}\n<!-- /model -->`;
  writeFileSync(
    DOC,
    readFileSync(DOC, 'utf8').replace(/<!-- model -->[\s\S]*<!-- \/model -->/, () => table),
  );
}
process.exit(failed === 0 ? 0 : 1);
