/** Ed25519 for who verifies nothing but signatures: libsodium's, in the addon, takes half the time of the runtime's own. */
import type { NativeAddon } from '../../native-addon/index.d.ts';
import { loadNative } from '../md/native.ts';
import { withAddon } from '../one_binary.ts';
import { type Verifies, verifies } from '../wire/index.ts';

export interface Ed25519 {
  verifies: Verifies;
  /** Many at once, by threads that run no JavaScript and so take no time to start. null: there are none. */
  each: NativeAddon['verifyEd25519Each'] | null;
}

/** Where the addon cannot be loaded (an auditor's machine need not be able to run an agent) the runtime's own: the same, slower. */
export function fastEd25519(): Ed25519 {
  try {
    const { verifyEd25519, verifyEd25519Each } = withAddon(loadNative);
    return { verifies: (key, signed, signature) => verifyEd25519(key.raw, signed, signature), each: verifyEd25519Each };
  } catch {
    return { verifies, each: null };
  }
}

const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/**
 * Signatures that are taken for good until they have been verified. Whoever judged by them judges again when one of them is none; so
 * what stands at the end is what would have come of verifying each at once.
 */
export class Assumed {
  readonly #each: NativeAddon['verifyEd25519Each'];
  #bytes = Buffer.allocUnsafe(256 * 1024);
  #ends: number[] = [];
  /** Of each signature what to do if it is none. */
  #again: (() => void)[] = [];

  constructor(each: NativeAddon['verifyEd25519Each']) {
    this.#each = each;
  }

  readonly takes: Verifies = ({ raw }, signed, signature) => {
    if (raw.byteLength !== KEY_BYTES || signature.byteLength !== SIGNATURE_BYTES) return false;
    const begin = this.#ends.at(-1) ?? 0;
    const end = begin + KEY_BYTES + SIGNATURE_BYTES + signed.byteLength;
    while (end > this.#bytes.byteLength) this.#bytes = Buffer.concat([this.#bytes, this.#bytes]);
    this.#bytes.set(raw, begin);
    this.#bytes.set(signature, begin + KEY_BYTES);
    this.#bytes.set(signed, begin + KEY_BYTES + SIGNATURE_BYTES);
    this.#ends.push(end);
    return true;
  };

  /** All that were taken since the last call of this came up in one judgement, or in one that was given up before. */
  judged(again: () => void): void {
    while (this.#again.length < this.#ends.length) this.#again.push(again);
  }

  /** Has them verified, and begins anew. What was judged by them holds when this has come to its end. */
  async settle(): Promise<void> {
    const [ends, again] = [Uint32Array.from(this.#ends), this.#again];
    this.#ends = [];
    this.#again = [];
    if (ends.length === 0) return;
    const fits = await this.#each(this.#bytes.subarray(0, ends.at(-1)), ends);
    for (const [at, judge] of again.entries()) if (fits[at] !== 1) judge();
  }
}
