/** The test's end of one guest's control channel: frames as in frame.h, any number of requests under way at once. */
import type net from 'node:net';

function encodeFrame(fields: readonly (string | Buffer)[]): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  for (const field of fields) {
    const bytes = typeof field === 'string' ? Buffer.from(field) : field;
    const head = Buffer.alloc(4);
    head.writeUInt32LE(bytes.length);
    parts.push(head, bytes);
    length += 4 + bytes.length;
  }
  const head = Buffer.alloc(4);
  head.writeUInt32LE(length);
  return Buffer.concat([head, ...parts]);
}

function decodeBody(body: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32LE(at);
    fields.push(body.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return fields;
}

export class ChannelClosed extends Error {}

export interface Answer {
  kind: string;
  fields: Buffer[];
}

interface Pending {
  onAnswer(answer: Answer): void;
  onClose(error: Error): void;
}

export class Channel {
  readonly #socket: net.Socket;
  readonly #pending = new Map<string, Pending>();
  #received: Buffer = Buffer.alloc(0);
  #nextId = 1;
  #closedWhy: string | null = null;
  /** First frame a guest sends. */
  readonly hello: Promise<{ node: number; bootId: string }>;
  #greet: (hello: { node: number; bootId: string }) => void = () => {};

  constructor(socket: net.Socket) {
    this.#socket = socket;
    this.hello = new Promise((resolve) => {
      this.#greet = resolve;
    });
    socket.on('data', (bytes) => this.#receive(bytes));
    socket.on('error', () => {});
    socket.on('close', () => this.close('the guest hung up'));
  }

  get open(): boolean {
    return this.#closedWhy === null;
  }

  close(why: string): void {
    this.#closedWhy ??= why;
    this.#socket.destroy();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { onClose } of pending) onClose(new ChannelClosed(this.#closedWhy));
  }

  /** One question, one answer. `waitMs` bounds only this end: a frozen guest answers when it is thawed, to nobody. */
  ask(request: readonly (string | Buffer)[], waitMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const stop = this.follow(request, {
        onAnswer: (answer) => {
          clearTimeout(timer);
          stop();
          resolve(answer);
        },
        onClose: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      const timer = setTimeout(() => {
        stop();
        reject(
          new Error(`no answer within ${waitMs} ms to ${request.slice(0, 2).map(String).join(' ').slice(0, 200)}`),
        );
      }, waitMs);
    });
  }

  /** One question, several answers. Returns how to stop listening. */
  follow(request: readonly (string | Buffer)[], pending: Pending): () => void {
    const id = String(this.#nextId++);
    if (this.#closedWhy !== null) {
      const error = new ChannelClosed(this.#closedWhy);
      queueMicrotask(() => pending.onClose(error));
      return () => {};
    }
    this.#pending.set(id, pending);
    this.#socket.write(encodeFrame([id, ...request]));
    return () => this.#pending.delete(id);
  }

  #receive(bytes: Buffer): void {
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    while (this.#received.length >= 4) {
      const end = 4 + this.#received.readUInt32LE(0);
      if (this.#received.length < end) return;
      const [id, kind, ...fields] = decodeBody(this.#received.subarray(4, end));
      this.#received = this.#received.subarray(end);
      if (String(id) === 'hello') this.#greet({ node: Number(String(kind)), bootId: String(fields[0]) });
      else this.#pending.get(String(id))?.onAnswer({ kind: String(kind), fields });
    }
  }
}
