/** When the agent's loop has its next tick: no more of them than needed, each is a process that wakes. */
import { leaseDueMs } from '../lease/index.ts';
import { membersDueMs } from '../members/index.ts';
import type { AgentState } from './agent_state.ts';
import { ofNewest } from './of_newest.ts';
import type { Alarm, Timers } from './parts.ts';

/** While anything is under way. */
export const TICK_MS = 50;
/** Else ticks come when a core asks for one; the arrays, which do not ask, are looked at as often as this. */
const REST_TICK_MS = 500;
/** Longer than any core waits before it repeats something. */
const STIR_MS = 1500;
/** Inputs and effects of every second, in which nothing happens. */
const ROUTINE = new Set(['tick', 'wall', 'grant', 'report', 'released', 'observed', 'progress']);

export class Pace {
  readonly #alarm: Alarm;
  #alarmAtMs = Number.NEGATIVE_INFINITY;
  #running = false;
  /** When something last happened to the arrays that was no routine. */
  #stirredMs = 0;
  #tickedMs = 0;
  // After every step, most of which change neither.
  readonly #leaseDueMs = ofNewest(leaseDueMs);
  readonly #membersDueMs = ofNewest(membersDueMs);

  constructor(timers: Timers, tick: () => void) {
    this.#alarm = alarmOf(timers, () => {
      this.#alarmAtMs = Number.NEGATIVE_INFINITY;
      tick();
    });
  }

  start(): void {
    this.#running = true;
  }

  stop(): void {
    this.#running = false;
    this.#alarm.stop();
  }

  /** After each step. */
  arm(state: Readonly<AgentState>, nowMs: number): void {
    if (!this.#running || state.stopped) return;
    const dueMs = this.#dueMs(state, nowMs);
    // A millisecond or two do not matter.
    if (Math.abs(dueMs - this.#alarmAtMs) < 2) return;
    this.#alarmAtMs = dueMs;
    // An alarm may be early, and would then find nothing due.
    this.#alarm.set(Math.max(1, Math.ceil(dueMs - nowMs) + 2));
  }

  ticked(nowMs: number): void {
    this.#tickedMs = nowMs;
  }

  /** A tick would be due before long: one that is awake anyway can have it now. */
  isNear(nowMs: number): boolean {
    return this.#running && nowMs - this.#tickedMs >= REST_TICK_MS / 2;
  }

  /** @param happened inputs and effects of the arrays */
  stir(happened: readonly { type: string }[], nowMs: number): void {
    if (happened.some(({ type }) => !ROUTINE.has(type))) this.#stirredMs = nowMs;
  }

  #dueMs({ lease, members, local: { grantUntilMs } }: Readonly<AgentState>, nowMs: number): number {
    const leaseMs = this.#leaseDueMs(lease);
    const often = this.#tickedMs + TICK_MS;
    if (leaseMs === null || nowMs - this.#stirredMs < STIR_MS) return often;
    const endMs = grantUntilMs > this.#tickedMs ? grantUntilMs : Number.POSITIVE_INFINITY;
    return Math.min(this.#tickedMs + REST_TICK_MS, leaseMs, endMs, this.#membersDueMs(members));
  }
}

function alarmOf(timers: Timers, rings: () => void): Alarm {
  if (timers.alarm !== undefined) return timers.alarm(rings);
  let stop = (): void => undefined;
  return {
    set(delayMs) {
      stop();
      stop = timers.after(delayMs, rings);
    },
    stop: () => stop(),
  };
}
