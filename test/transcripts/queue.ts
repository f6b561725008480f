/** What is still to happen, by true time; equal times in the order they were added. */
interface Due {
  atMs: number;
  order: number;
  act: () => void;
}

export class Queue {
  #heap: Due[] = [];
  #order = 0;

  add(atMs: number, act: () => void): void {
    this.#order += 1;
    this.#heap.push({ atMs, order: this.#order, act });
    let child = this.#heap.length - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!this.#swapIfBefore(child, parent)) return;
      child = parent;
    }
  }

  takeUntil(endMs: number): Due | null {
    const first = this.#heap[0];
    if (first === undefined || first.atMs > endMs) return null;
    const last = this.#heap.pop();
    if (last === undefined || last === first) return first;
    this.#heap[0] = last;
    let parent = 0;
    for (;;) {
      const left = 2 * parent + 1;
      const least = this.#before(left + 1, left) ? left + 1 : left;
      if (!this.#swapIfBefore(least, parent)) return first;
      parent = least;
    }
  }

  #before(a: number, b: number): boolean {
    const first = this.#heap[a];
    const second = this.#heap[b];
    if (first === undefined || second === undefined) return false;
    return first.atMs < second.atMs || (first.atMs === second.atMs && first.order < second.order);
  }

  #swapIfBefore(a: number, b: number): boolean {
    const first = this.#heap[a];
    const second = this.#heap[b];
    if (first === undefined || second === undefined || !this.#before(a, b)) return false;
    this.#heap[a] = second;
    this.#heap[b] = first;
    return true;
  }
}
