/**
 * libp2p makes up to four packets of a small frame: Noise writes the length of a message before the message, each with a
 * call of its own, and yamux answers each message with a window update, which is such a pair again. Every packet wakes a
 * thread at the other end. Here a message is one write, and a window is opened anew when half of it has been used, as the
 * yamux specification has it.
 */

import type { MessageStream, PeerId, Stream } from '@libp2p/interface';
import { noise } from '@libp2p/noise';

/** @param secured called with each connection, before and under encryption, once its peer has proved who it is */
export function noiseInOnePiece(
  secured: (peer: PeerId, raw: MessageStream, encrypted: MessageStream) => void,
): (components: Parameters<ReturnType<typeof noise>>[0]) => ReturnType<ReturnType<typeof noise>> {
  const make = noise();
  return (components) => {
    const encrypter = make(components);
    const { secureInbound, secureOutbound } = encrypter;
    encrypter.secureInbound = async (connection, options) => {
      const made = await secureInbound.call(encrypter, inOnePiece(connection), options);
      secured(made.remotePeer, connection, made.connection);
      return made;
    };
    encrypter.secureOutbound = async (connection, options) => {
      const made = await secureOutbound.call(encrypter, inOnePiece(connection), options);
      secured(made.remotePeer, connection, made.connection);
      return made;
    };
    return encrypter;
  };
}

function inOnePiece(connection: MessageStream): MessageStream {
  const send = connection.send.bind(connection);
  connection.send = (bytes) => send(bytes instanceof Uint8Array ? bytes : bytes.subarray());
  return connection;
}

/** yamux's StreamState. Before it, a window update also carries the acknowledgement of the stream. */
const ESTABLISHED = 3;

/** The stream as it is, if this is not the yamux that is known here. */
export function openWindowRarely(stream: Stream): void {
  const update: unknown = Reflect.get(stream, 'sendWindowUpdate');
  if (typeof update !== 'function') return;
  Reflect.set(stream, 'sendWindowUpdate', () => {
    const left: unknown = Reflect.get(stream, 'recvWindowCapacity');
    const whole: unknown = Reflect.get(stream, 'recvWindow');
    const enough = typeof left === 'number' && typeof whole === 'number' && left > whole / 2;
    if (enough && Reflect.get(stream, 'state') === ESTABLISHED) return;
    Reflect.apply(update, stream, []);
  });
}
