/** Which versions understand each other, and what a cluster of several may say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { levelOf, peerVersion } from '../../src/net/protocol.ts';
import type { Hello } from '../../src/wire/messages.ts';

const own = { version: '0.2.0', protocol: { oldest: 2, newest: 3 } };
const uuid = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';

function hello(newest: number, oldest?: number): Hello {
  const said = { protocol: newest, cluster: uuid, node: 3, boot: uuid, bootNumber: 1, version: 'x.y.z' };
  return oldest === undefined ? said : { ...said, oldest };
}

test('versions one apart understand each other, versions two apart do not, and both are told whom to upgrade', () => {
  const refused = (said: Hello) => peerVersion(own, 1, said).refused;
  assert.equal(refused(hello(2, 1)), null, 'the version before');
  assert.equal(refused(hello(3, 2)), null);
  assert.equal(refused(hello(4, 3)), null, 'the next version');
  const old = refused(hello(1)) ?? '';
  assert.match(old, /node 3 runs mdmesh x\.y\.z \(protocol 1\), node 1 runs mdmesh 0\.2\.0 \(protocol 2 to 3\)/);
  assert.match(old, /upgrade node 3/);
  assert.match(refused(hello(5, 4)) ?? '', /protocol 4 to 5.*upgrade node 1/);
});

test('what all understand is the newest protocol of the oldest; who was not heard yet may be an old one', () => {
  const peer = (newest: number) => ({ version: '', protocol: { oldest: newest - 1, newest }, refused: null });
  assert.equal(levelOf(own.protocol, [peer(3), peer(3)]), 3);
  assert.equal(levelOf(own.protocol, [peer(3), peer(2)]), 2);
  assert.equal(levelOf(own.protocol, [peer(4), peer(4)]), 3);
  assert.equal(levelOf(own.protocol, [peer(3), undefined]), 2);
  assert.equal(levelOf(own.protocol, [peer(1)]), 2, 'one that is refused is not spoken with');
  assert.equal(levelOf(own.protocol, []), 3);
});
