/** The hooks and the mail that the configuration names. */
import { type Config, MAIL_HOOK } from '../config/index.ts';
import { mailAlert, programAlert } from './alert.ts';
import type { Hook } from './hooks.ts';

export function configuredHooks({ hooks, mail }: Pick<Config, 'hooks' | 'mail'>): Hook[] {
  const programs = hooks.map(
    ({ program, timeoutMs, ...rest }): Hook => ({
      ...rest,
      alert: programAlert(program, timeoutMs),
    }),
  );
  if (mail === null) return programs;
  const { command, to, from, timeoutMs, ...rest } = mail;
  const alert = mailAlert(command, { to, from }, timeoutMs);
  return [...programs, { name: MAIL_HOOK, concurrency: 1, ...rest, alert }];
}
