import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { generateIdentity, IdentityError, loadIdentity, publicKeyOfPeerId, saveIdentity } from '#src/wire/index.ts';

let directory = '';
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mdmesh-identity-'));
});
after(() => rm(directory, { recursive: true, force: true }));

const refuses = (path: string, words: RegExp) =>
  assert.rejects(loadIdentity(path), (error: unknown) => {
    assert(error instanceof IdentityError);
    assert.match(error.message, words);
    assert(error.message.includes(path), 'names the file');
    return true;
  });

test('a key that was saved is the same node when it is loaded', async () => {
  const path = join(directory, 'key');
  const identity = await generateIdentity();
  await saveIdentity(path, identity);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const loaded = await loadIdentity(path);
  assert.equal(loaded.peerId, identity.peerId);
  assert(loaded.privateKey.equals(identity.privateKey));
  assert(publicKeyOfPeerId(loaded.peerId).equals(identity.privateKey.publicKey));
  assert((await readFile(path, 'utf8')).includes(`# identity of mdmesh node ${identity.peerId};`));
});

test('a key is never overwritten', async () => {
  const path = join(directory, 'first');
  const first = await generateIdentity();
  await saveIdentity(path, first);
  await assert.rejects(saveIdentity(path, await generateIdentity()), /never overwritten/);
  assert.equal((await loadIdentity(path)).peerId, first.peerId);
});

test('a key that group or others may read, write or run is refused', async () => {
  const path = join(directory, 'open');
  await saveIdentity(path, await generateIdentity());
  for (const mode of [0o640, 0o604, 0o620, 0o601, 0o677]) {
    await chmod(path, mode);
    await refuses(path, new RegExp(`mode 0${mode.toString(8)}.*chmod 0600`));
  }
  await chmod(path, 0o400);
  await loadIdentity(path);
});

test('a damaged key is refused with words, whichever character was hit', async () => {
  const path = join(directory, 'damaged');
  const identity = await generateIdentity();
  await saveIdentity(path, identity);
  const text = await readFile(path, 'utf8');
  const keyAt = text.lastIndexOf(' ') + 1;
  for (let at = keyAt; at < text.length - 3; at += 7) {
    const hit = text[at] === 'A' ? 'B' : 'A';
    await writeFile(path, `${text.slice(0, at)}${hit}${text.slice(at + 1)}`);
    await refuses(path, /damaged/);
  }
  for (const wrong of [
    '',
    'mdmesh-ed25519 \n',
    'rsa AAAA\n',
    `${text}${text}`,
    `${text.slice(0, -20)}\n`,
    'x'.repeat(9000),
  ]) {
    await writeFile(path, wrong);
    await refuses(path, /damaged/);
  }
  const other = await generateIdentity();
  await writeFile(path, text.replace(identity.peerId, other.peerId));
  await refuses(path, /do not belong together/);
});

test('a directory is not a key; a peer ID of another kind is none of ours', async () => {
  await chmod(directory, 0o700);
  await refuses(directory, /not a regular file/);
  assert.throws(() => publicKeyOfPeerId('12D3KooWnonsense'), IdentityError);
  assert.throws(() => publicKeyOfPeerId(''), IdentityError);
});
