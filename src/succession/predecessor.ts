/** The successor's end of the channel. */
import { type Estate, estateIn, type Own, type Said, saidIn, whyNotTakenOver } from './words.ts';

export interface Predecessor {
  readonly bootNumber: number;
  /** @returns null, or why this process cannot take over */
  whyNot(own: Own): string | null;
  /** Says that nothing is missing but the word, and waits for what there is to take over. */
  ready(): Promise<Estate>;
  /** Says that the deadline is kept here, and waits for the word to go. Then the other is as good as gone. */
  armed(): Promise<void>;
  /** Says why not, and resolves when that is on its way. */
  refuse(why: string): Promise<void>;
}

/**
 * Waits for the offer of the agent that started this process. Ends the process when that agent is gone before it said `go`: it is
 * not this one's to go on with, and what held the deadline is gone with both, as when an agent is killed.
 * @throws Error nobody is at the other end
 */
export async function predecessor(): Promise<Predecessor> {
  if (process.send === undefined || !process.connected) {
    throw new Error('agent --take-over: only a running agent starts it, for mdmesh hand-over');
  }
  const said: Said[] = [];
  let heard: () => void = () => undefined;
  const onMessage = (message: unknown): void => {
    const word = saidIn(message);
    if (word !== null) said.push(word);
    heard();
  };
  // A word that came before the other one went away comes before this.
  const onEnd = (): void => {
    if (!said.some(({ word }) => word === 'go')) process.exit(1);
  };
  process.on('message', onMessage);
  process.once('disconnect', onEnd);
  const hears = async <W extends Said['word']>(word: W): Promise<Extract<Said, { word: W }>> => {
    for (;;) {
      const next = new Promise<void>((resolve) => {
        heard = resolve;
      });
      const found = said.find((one): one is Extract<Said, { word: W }> => one.word === word);
      if (found !== undefined) return found;
      await next;
    }
  };
  const say = (word: Said): Promise<void> =>
    new Promise((resolve) => {
      process.send?.(word, undefined, undefined, () => resolve());
    });
  const { word: _, ...offer } = await hears('offer');
  return {
    bootNumber: offer.bootNumber,
    whyNot: (own) => whyNotTakenOver(offer, own),
    async ready() {
      await say({ word: 'ready' });
      return estateIn(await hears('estate'));
    },
    async armed() {
      await say({ word: 'armed' });
      await hears('go');
      process.off('message', onMessage);
      process.off('disconnect', onEnd);
      if (process.connected) process.disconnect();
    },
    refuse: (why) => say({ word: 'refused', why }),
  };
}
