/** One lane an array: its operations run one after the other, whatever became of the one before. */
export class Lanes {
  readonly #tails = new Map<string, Promise<void>>();

  run<T>(lane: string, operation: () => Promise<T>): Promise<T> {
    const result = (this.#tails.get(lane) ?? Promise.resolve()).then(operation);
    const tail = result.then(
      () => undefined,
      () => undefined,
    );
    this.#tails.set(lane, tail);
    void tail.then(() => {
      if (this.#tails.get(lane) === tail) this.#tails.delete(lane);
    });
    return result;
  }

  /** Resolves when all that is under way now has ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}
