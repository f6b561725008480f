/**
 * The native guard, modelled: deadlines by the injected clock, in a thread that a stalled agent does not stop. A frozen
 * node stops it; what fell due then happens at the thaw, before anything else that came later.
 */
import type { Guard, GuardEvent } from './driver.ts';
import type { SimulatedKernel } from './simulated_kernel.ts';

export interface Droppable {
  md: string;
  /** Resolves when no write passes. */
  hold(): Promise<void>;
  /** Resolves when no copy of this node's is on its way. */
  endCopy(): Promise<void>;
  holdPaths(): void;
}

/** Reads are held after a drain, or all the same when it takes longer than this. */
const DRAIN_PATIENCE_MS = 250;
/** After it a drop is told as failed; the hold goes on trying. */
const DROP_LIMIT_MS = 5000;

export class SimulatedGuard implements Guard {
  readonly #kernel: SimulatedKernel;
  readonly #arrays: () => Droppable[];
  readonly #listeners: ((event: GuardEvent) => void)[] = [];
  #leaseUntilMs = 0;
  #leaseNumber = 0;
  #grantUntilMs = 0;
  #dropping = false;
  #ended = false;
  /** null: its thread runs. */
  #stalled: (() => void)[] | null = null;
  #wentOnMs = Number.NEGATIVE_INFINITY;
  #cancelLease: () => void = () => {};
  #cancelGrant: () => void = () => {};

  constructor(kernel: SimulatedKernel, arrays: () => Droppable[]) {
    this.#kernel = kernel;
    this.#arrays = arrays;
  }

  get leaseLive(): boolean {
    return this.#kernel.now() < this.#leaseUntilMs;
  }

  /** Each lease after the end of another has one of its own. */
  get leaseNumber(): number {
    return this.#leaseNumber;
  }

  get grantLive(): boolean {
    return this.#kernel.now() < this.#grantUntilMs;
  }

  extendLease(untilMs: number): void {
    if (untilMs <= this.#leaseUntilMs) return;
    if (!this.leaseLive) this.#leaseNumber += 1;
    this.#leaseUntilMs = untilMs;
    this.#cancelLease();
    this.#cancelLease = this.#kernel.later(untilMs - this.#kernel.now(), () =>
      this.#due(() => this.#tell({ type: 'lease-expired', atMs: this.#kernel.now() })),
    );
  }

  extendGrant(untilMs: number): void {
    if (untilMs <= this.#grantUntilMs) return;
    this.#grantUntilMs = untilMs;
    this.#cancelGrant();
    this.#cancelGrant = this.#kernel.later(untilMs - this.#kernel.now(), () =>
      this.#due(() => {
        this.#tell({ type: 'grant-expired', atMs: this.#kernel.now() });
        void this.#holdAll();
      }),
    );
  }

  async drop(): Promise<void> {
    this.endLease();
    this.#cancelGrant();
    this.#grantUntilMs = Math.min(this.#grantUntilMs, this.#kernel.now());
    await this.#holdAll();
  }

  endLease(): void {
    this.#cancelLease();
    this.#leaseUntilMs = Math.min(this.#leaseUntilMs, this.#kernel.now());
  }

  async #holdAll(): Promise<void> {
    this.#dropping = true;
    let failed = false;
    await Promise.all(
      this.#arrays().map(async (array) => {
        try {
          const drained = array.hold().then(() => array.endCopy());
          const late = new Promise<void>((resolve) => this.#kernel.later(DRAIN_PATIENCE_MS, resolve));
          await Promise.race([drained.catch(() => undefined), late]);
          array.holdPaths();
          // A copy under way may wait for a path that is held by now.
          const given = new Promise<never>((_, reject) =>
            this.#kernel.later(DROP_LIMIT_MS, () => reject(new Error('late'))),
          );
          await Promise.race([drained, given]);
        } catch {
          failed = true;
          this.#tell({ type: 'drop-failed', atMs: this.#kernel.now(), md: array.md, code: 'ETIMEDOUT' });
        }
      }),
    );
    this.#dropping = false;
    if (!failed) this.#tell({ type: 'drop-completed', atMs: this.#kernel.now() });
  }

  /** Its process is gone, and with it whoever would have acted at a deadline. What is open stays open. */
  end(): void {
    this.#ended = true;
    this.#cancelLease();
    this.#cancelGrant();
    this.#leaseUntilMs = 0;
    this.#grantUntilMs = 0;
    this.#listeners.length = 0;
  }

  /** Its process stands still (SIGSTOP): what falls due meanwhile is done when it goes on. */
  stall(): void {
    this.#stalled = [];
  }

  get leaseUntilMs(): number {
    return this.#leaseUntilMs;
  }

  get grantUntilMs(): number {
    return this.#grantUntilMs;
  }

  /** Also just after it went on: what was due is drained first. */
  get stands(): boolean {
    return this.#stalled !== null || this.#kernel.now() - this.#wentOnMs <= DRAIN_PATIENCE_MS;
  }

  goOn(): void {
    const due = this.#stalled ?? [];
    this.#stalled = null;
    this.#wentOnMs = this.#kernel.now();
    for (const act of due) act();
  }

  #due(act: () => void): void {
    if (this.#ended) return;
    if (this.#stalled === null) act();
    else this.#stalled.push(act);
  }

  state(): { leaseUntilMs: number; grantUntilMs: number; dropping: boolean } {
    return { leaseUntilMs: this.#leaseUntilMs, grantUntilMs: this.#grantUntilMs, dropping: this.#dropping };
  }

  onEvent(listener: (event: GuardEvent) => void): void {
    this.#listeners.push(listener);
  }

  #tell(event: GuardEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
