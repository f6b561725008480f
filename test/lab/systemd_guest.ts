/**
 * systemd in a guest: as the first process of namespaces of its own, as in a container, because the guest's own first process is the
 * laboratory's hand. The kernel, /sys and the devices are the guest's.
 */
import { join } from 'node:path';
import type { Guest, ShellResult } from './lab.ts';

export class SystemdGuest {
  readonly #guest: Guest;
  readonly #pid: string;

  private constructor(guest: Guest, pid: string) {
    this.#guest = guest;
    this.#pid = pid;
  }

  /** Resolves when it has reached basic.target. Units of this machine that are no part of the tale do not start. */
  static async boot(guest: Guest): Promise<SystemdGuest> {
    await guest.must('rm -rf /etc/systemd/system/*.wants');
    const argv = ['unshare', '--pid', '--mount', '--fork', '--kill-child', '--mount-proc'];
    const env = ['env', '-i', 'container=mdlab', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin'];
    const words = ['/lib/systemd/systemd', '--unit=basic.target', '--log-target=journal', '--show-status=no'];
    await guest.spawn([...argv, ...env, ...words], { logFile: join(guest.dir, 'systemd.log') });
    const find = 'until pid=$(pgrep -xo systemd); do sleep 0.1; done; echo $pid';
    const systemd = new SystemdGuest(guest, (await guest.must(find)).trim());
    await systemd.until('systemctl is-system-running', /running|degraded/, 60_000);
    return systemd;
  }

  run(command: string, timeoutMs = 60_000): Promise<ShellResult> {
    const quoted = `'${command.replaceAll("'", `'\\''`)}'`;
    return this.#guest.sh(`nsenter --target ${this.#pid} --pid --mount --root --wd=/ -- sh -c ${quoted}`, {
      timeoutMs,
    });
  }

  /** As `run`, and it must succeed. */
  async must(command: string, timeoutMs?: number): Promise<string> {
    const { rc, out, err } = await this.run(command, timeoutMs);
    if (rc !== 0) throw new Error(`${command}: ended with ${rc}: ${err}${out}\n${await this.journal()}`);
    return out;
  }

  /** Runs the command until what it prints fits. */
  async until(command: string, wanted: RegExp, withinMs: number): Promise<string> {
    const end = Date.now() + withinMs;
    for (;;) {
      const { out, err } = await this.run(command);
      if (wanted.test(out)) return out;
      if (Date.now() > end) throw new Error(`${command}: still not ${wanted}: ${out}${err}\n${await this.journal()}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  async journal(): Promise<string> {
    return (await this.run('journalctl --no-pager --output cat --lines 40')).out;
  }

  async property(name: string): Promise<string> {
    return (await this.must(`systemctl show --property ${name} --value mdmesh.service`)).trim();
  }
}
