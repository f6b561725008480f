/** Address and port of a listener, as `127.0.0.1:7947` or `[::1]:7947`. */
import { isIP } from 'node:net';

export interface Listen {
  address: string;
  port: number;
}

/** null: it is none. No names: where the agent listens must not depend on DNS. */
export function parseListen(text: string): Listen | null {
  const [, v6, v4, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const address = v6 ?? v4 ?? '';
  const port = Number(digits);
  if (isIP(address) !== (v6 === undefined ? 4 : 6) || port < 1 || port > 65535) return null;
  return { address, port };
}

/** Only programs on this machine can reach it. */
export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}
