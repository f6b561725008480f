/** `mdmesh grow` and mdadm's `--grow`, as far as md can do it under several kernels at once: raid1's slots, size, bitmaps. */
import type { Request } from '../wire/messages.ts';
import type { AgentClient } from './agent_client.ts';
import type { Context } from './context.ts';
import { Failure, UsageFailure } from './failure.ts';
import { doSteps } from './manage.ts';
import type { Spoken } from './requests.ts';

export interface Growing {
  raidDevices?: number;
  /** KiB of each member; max: as much as all have room for. */
  size?: number | 'max';
  assumeClean?: boolean;
  bitmap?: 'internal' | 'none';
  /** KiB that one bit stands for. */
  bitmapChunk?: number;
  /** That the mesh area has room for. */
  nodes?: number;
  /** Disks that are added before. */
  add?: string[];
  force?: boolean;
}

/** @param say what each step did. @throws Failure at the first that is refused */
export async function grow(
  agent: AgentClient,
  md: string,
  growing: Growing,
  say: (text: string) => void,
): Promise<void> {
  const { add = [], force = false } = growing;
  const request = requestFor(md, growing);
  const steps = add.map((device) => ({ verb: 'add' as const, device }));
  await doSteps(agent, md, steps, { force }, ({ ok, text }) => {
    if (!ok) throw new Failure(text);
    say(text);
  });
  const { ok, text } = await agent.request(request);
  if (!ok) throw new Failure(text);
  say(text);
}

function requestFor(array: string, growing: Growing): Request {
  const { raidDevices, size, assumeClean = false, bitmap, bitmapChunk, nodes, force = false } = growing;
  if (bitmapChunk !== undefined && bitmap !== 'internal') {
    throw new UsageFailure(`grow ${array}: --bitmap-chunk goes with --bitmap internal`);
  }
  const asked: Request[] = [];
  if (raidDevices !== undefined) asked.push({ verb: 'grow-devices', array, raidDisks: raidDevices, force });
  if (size !== undefined) asked.push({ verb: 'grow-size', array, sizeKib: size === 'max' ? null : size, assumeClean });
  if (bitmap !== undefined) {
    const chunk = bitmapChunk === undefined ? {} : { chunkKib: bitmapChunk };
    asked.push({ verb: 'grow-bitmap', array, bitmap, ...chunk });
  }
  if (nodes !== undefined) asked.push({ verb: 'grow-nodes', array, nodes });
  const [request, ...more] = asked;
  // mdadm's rule too.
  if (request === undefined || more.length > 0) {
    throw new UsageFailure(`grow ${array}: give --raid-devices, --size, --bitmap or --nodes, one of them at a time`);
  }
  return request;
}

export async function growCommand(context: Context, md: string, options: Growing & Spoken): Promise<number> {
  const told: string[] = [];
  const say = (text: string): void => {
    told.push(text);
    if (!options.json) context.terminal.out(`${text}\n`);
  };
  await grow(await context.agent(), md, options, say);
  if (options.json) context.terminal.out(`${JSON.stringify({ ok: true, text: told.join('; ') })}\n`);
  return 0;
}
