/** Remembers one more of at most so many: the oldest go. */
export function keep<Value>(kept: Map<string, Value>, most: number, name: string, value: Value): void {
  for (const oldest of kept.keys()) {
    if (kept.size < most) break;
    kept.delete(oldest);
  }
  kept.set(name, value);
}
