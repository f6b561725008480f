/**
 * libp2p tells of each emptied queue, on each layer of each connection, by an event that nobody listens to while nothing
 * is closed. An event reads the clock when it is made, and the clock is a system call where the kernel lends no other way.
 */
import { TypedEventEmitter } from '@libp2p/interface';

let changed = false;

/** For the whole process, once: events of libp2p that nobody listens to are not made. */
export function tellOnlyWhoListens(): void {
  if (changed) return;
  changed = true;
  const { safeDispatchEvent } = TypedEventEmitter.prototype;
  TypedEventEmitter.prototype.safeDispatchEvent = function (this: TypedEventEmitter<object>, type: string, detail) {
    // True: nobody has called it off.
    return this.listenerCount(type) === 0 || safeDispatchEvent.call(this, type, detail);
  };
}
