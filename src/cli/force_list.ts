/**
 * `mdmesh node force-list`: the node list in this node's file counts from its next start, whatever was agreed on. For a cluster that has
 * lost a majority of its nodes for good, and for one whose disks decide: nobody checks that those who are left out have stopped, or
 * that all others are told the same. So it is asked for twice, and only where no agent runs.
 */
import { join } from 'node:path';
import { AgentAbsent } from './agent_client.ts';
import type { Context } from './context.ts';
import { Failure, textOf, UsageFailure } from './failure.ts';
import type { Spoken } from './requests.ts';

export interface ForceOptions extends Spoken {
  really?: boolean;
}

export async function forceList(context: Context, options: ForceOptions): Promise<number> {
  const { terminal } = context;
  const config = await context.settings();
  const nodes = config.nodes.map(({ id }) => id).join(', ');
  await noAgent(context);
  if (!options.really) {
    if (!terminal.interactive) {
      throw new UsageFailure(
        'node force-list: nobody can be asked here; a script says --really after it has made sure',
      );
    }
    const answer = await terminal.ask(
      `All nodes but ${nodes} must be powered off for good, or DATA IS LOST, and each of ${nodes} needs this command. Type ${nodes}: `,
    );
    if (answer?.trim() !== nodes) {
      throw new Failure(`node force-list: "${answer ?? ''}" is not "${nodes}"; nothing was changed`);
    }
  }
  const { openStateFiles } = await import('../agent/state_files.ts');
  try {
    await (await openStateFiles(config.stateDir)).forgetLists();
  } catch (error) {
    throw new Failure(`node force-list: ${join(config.stateDir, 'vote.json')}: ${textOf(error)}`);
  }
  const text = `nodes ${nodes} are the list from the next start of the agent here on`;
  terminal.out(options.json ? `${JSON.stringify({ ok: true, text })}\n` : `${text}\n`);
  return 0;
}

async function noAgent(context: Context): Promise<void> {
  try {
    await (await context.agent()).status();
  } catch (error) {
    if (error instanceof AgentAbsent) return;
    throw error;
  }
  throw new Failure('node force-list: an agent runs here; stop it first, or change the list with mdmesh reload');
}
