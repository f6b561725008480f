/**
 * How long a test waits for what must come, on this machine as it is now.
 *
 * A guest lives on ptrace stops and changes of page tables, and what these cost differs tenfold between machines whose processors are as
 * fast as each other (virtual ones with page tables kept by their host). A boot is made of just that, so it tells. Patience only: what a
 * test asserts is never stretched, nor what mdmesh itself waits for.
 */

/** Of guests that boot together, where the tests' own patience is enough. */
const USUAL_BOOT_MS = 2500;
/** Whatever is slower is stuck. */
const MOST = 8;

let times = 1;

/** How long guests took that booted together. The slowest boot of this process counts. */
export function bootedIn(tookMs: number): void {
  times = Math.min(MOST, Math.max(times, tookMs / USUAL_BOOT_MS));
}

export function patient(timeoutMs: number): number {
  return Math.round(timeoutMs * times);
}
