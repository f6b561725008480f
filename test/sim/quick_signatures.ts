/**
 * In a simulation a signature is a hash of the signer's public key and the bytes: as long as Ed25519's, and refused for other bytes or
 * another key, for a tenth of the processor time. Everybody could make it of anybody's key; nobody in a simulation does. What is
 * simulated is the protocol: the tests of the wire, of the network and of journals use the signatures themselves.
 */
import crypto, { type KeyObject } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

const publicKeys = new WeakMap<KeyObject, string>();

function publicKeyOf(key: KeyObject): string {
  const known = publicKeys.get(key);
  if (known !== undefined) return known;
  const { x } = key.export({ format: 'jwk' });
  if (x === undefined)
    throw new Error(`a key of type ${key.asymmetricKeyType} in a simulation; only Ed25519 is stood in for`);
  publicKeys.set(key, x);
  return x;
}

function signature(key: KeyObject, bytes: Uint8Array): Buffer {
  return crypto.hash('sha512', Buffer.concat([Buffer.from(publicKeyOf(key), 'latin1'), bytes]), 'buffer');
}

/** In this process, from now on. */
export function signQuickly(): void {
  const sign = (_algorithm: null, bytes: Uint8Array, key: KeyObject): Buffer => signature(key, bytes);
  const verify = (_algorithm: null, bytes: Uint8Array, key: KeyObject, given: Uint8Array): boolean =>
    signature(key, bytes).equals(given);
  Object.assign(crypto, { sign, verify });
  syncBuiltinESMExports();
}
