/**
 * `mdmesh node confirm-dead N`: the operator vouches that a silent node has stopped. If it has not, two masters write the
 * same disks: that is asked twice, and a script has to say it twice as well.
 */
import type { Context } from './context.ts';
import { Failure, UsageFailure } from './failure.ts';
import { ask, type Spoken } from './requests.ts';

export interface ConfirmOptions extends Spoken {
  confirm?: number;
  really?: boolean;
}

export async function confirmDead(context: Context, node: number, options: ConfirmOptions): Promise<number> {
  const { terminal } = context;
  if (options.confirm !== undefined || options.really) {
    if (options.confirm !== node || !options.really) {
      throw new UsageFailure(
        `node confirm-dead ${node}: say it twice: --confirm ${node} and --really; nothing was confirmed`,
      );
    }
  } else if (!terminal.interactive) {
    throw new UsageFailure(
      `node confirm-dead ${node}: nobody can be asked here; a script says --confirm ${node} --really after it has made sure`,
    );
  } else {
    await askedFor(context, node, `Node ${node} must be powered off, or cut off from the disks. Type its number: `);
    await askedFor(context, node, `If it still writes, DATA IS LOST. Type its number once more: `);
  }
  return ask(context, { verb: 'confirm-dead', node }, options);
}

async function askedFor({ terminal }: Context, node: number, question: string): Promise<void> {
  const answer = await terminal.ask(question);
  if (answer?.trim() !== String(node)) {
    throw new Failure(`node confirm-dead ${node}: "${answer ?? ''}" is not ${node}; nothing was confirmed`);
  }
}
