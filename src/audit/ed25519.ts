/** Ed25519 for who verifies nothing but signatures: libsodium's, in the addon, takes half the time of the runtime's own. */
import { loadNative } from '../md/native.ts';
import { withAddon } from '../one_binary.ts';
import { type Verifies, verifies } from '../wire/index.ts';

/** Where the addon cannot be loaded (an auditor's machine need not be able to run an agent) the runtime's own: the same, slower. */
export function fastVerifies(): Verifies {
  try {
    const { verifyEd25519 } = withAddon(loadNative);
    return (key, signed, signature) => verifyEd25519(key.raw, signed, signature);
  } catch {
    return verifies;
  }
}
