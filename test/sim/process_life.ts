/**
 * One life of an agent's process: everything that comes to it comes through here. When it has ended nothing is heard of
 * any more, whatever the kernel was asked for; while it stands still (SIGSTOP, a loop that is blocked, a suspended machine)
 * all of it waits, in order.
 */
export class ProcessLife {
  #ended = false;
  #stalled = false;
  readonly #due: (() => void)[] = [];
  readonly #over = Promise.withResolvers<void>();

  /** Settled at its end. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get stalled(): boolean {
    return this.#stalled;
  }

  when(run: () => void): void {
    if (this.#ended) return;
    if (this.#stalled) this.#due.push(run);
    else run();
  }

  /** The same promise as this process sees it. */
  seen<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => this.when(() => resolve(value)),
        (error: unknown) => this.when(() => reject(error)),
      );
    });
  }

  /** The same object, whose methods' promises are seen so. After the end nothing that takes time, or leaves anything, is begun. */
  face<T extends object>(target: T): T {
    const methods = new Map<PropertyKey, unknown>();
    return new Proxy(target, {
      get: (_target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        const known = methods.get(name);
        if (known !== undefined) return known;
        const method = (...args: unknown[]): unknown => {
          // As it is now: stories put their own in its place.
          const act: unknown = Reflect.get(target, name, target);
          if (typeof act !== 'function') throw new Error(`${String(name)} is no method any more`);
          if (this.#ended && act.constructor.name === 'AsyncFunction') return new Promise(() => undefined);
          if (this.#ended && name === 'append') return null;
          const result: unknown = Reflect.apply(act, target, args);
          return result instanceof Promise ? this.seen(result) : result;
        };
        methods.set(name, method);
        return method;
      },
    });
  }

  stall(): void {
    this.#stalled = true;
  }

  goOn(): void {
    this.#stalled = false;
    while (!this.#stalled && !this.#ended) {
      const next = this.#due.shift();
      if (next === undefined) return;
      next();
    }
  }

  end(): void {
    this.#ended = true;
    this.#due.length = 0;
    this.#over.resolve();
  }
}
