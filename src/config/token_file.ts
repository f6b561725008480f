/** The secret that readers over TCP must send. */
import { open } from 'node:fs/promises';

/** What 128 random bits take in hexadecimal. */
const CHARACTERS_LEAST = 32;
const FILE_BYTES_MAX = 4096;

/** @throws with the remedy, when others than its owner may read the file, or when what it holds could be guessed or not be sent */
export async function readToken(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    // The mode of what is open, not of what the path names a moment later.
    const status = await file.stat();
    if (!status.isFile()) throw new Error('it is no regular file; name the file with the token');
    const mode = status.mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw new Error(`it has mode 0${mode.toString(8)}: others can read the token; run chmod 0600 ${path}`);
    }
    if (status.size > FILE_BYTES_MAX) throw new Error(`it is ${status.size} bytes long; it should hold one token`);
    const token = (await file.readFile('utf8')).trim();
    if (!/^[A-Za-z0-9._~+/=-]+$/.test(token) || token.length < CHARACTERS_LEAST) {
      const remedy = `make it with \`openssl rand -hex 32 > ${path}\``;
      throw new Error(`it does not hold one token of at least ${CHARACTERS_LEAST} letters and digits; ${remedy}`);
    }
    return token;
  } finally {
    await file.close();
  }
}
