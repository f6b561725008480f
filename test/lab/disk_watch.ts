/**
 * Looks at the members' metadata on the host's side all the time, whoever writes it. In each place where a superblock or a mesh header
 * lies, the story may only go forward: a write of an old master after a newer one's commit would show as a step back.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { ArrayRecord, Version } from '../../src/arrays/record.ts';
import { compareVersions } from '../../src/arrays/record.ts';
import { decodeMeshHeaders, MESH_HEADER_BYTES, meshHeaderSectors } from '../../src/md/mesh_area.ts';
import { decodeSuperblockIfAny, SUPERBLOCK_BYTES, SUPERBLOCK_SECTOR } from '../../src/md/superblock.ts';
import type { Lab } from './lab.ts';

const SECTOR_BYTES = 512;
const LOOK_EVERY_MS = 10;

export class DiskWatch {
  /** Steps back, in words. */
  readonly regressions: string[] = [];
  readonly #legs: { index: number; fd: number; events: number; headers: (Version | null)[] }[];
  readonly #timer: NodeJS.Timeout;
  readonly #blank = new Uint8Array(MESH_HEADER_BYTES);
  /** Of each term the first index that was seen on a disk, and when (wall clock). */
  readonly terms = new Map<number, number>();
  looks = 0;

  constructor(lab: Lab, legs: readonly number[]) {
    this.#legs = legs.map((index) => {
      return { index, fd: openSync(lab.diskImage(index), 'r'), events: 0, headers: [null, null] };
    });
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  end(): void {
    clearInterval(this.#timer);
    for (const { fd } of this.#legs) closeSync(fd);
  }

  #look(): void {
    this.looks++;
    for (const leg of this.#legs) {
      const superblock = this.#superblock(leg.fd);
      if (superblock === null) continue;
      if (superblock.events < leg.events) {
        this.regressions.push(`disk ${leg.index}: events went from ${leg.events} to ${superblock.events}`);
      }
      leg.events = superblock.events;
      for (const [copy, sector] of (meshHeaderSectors(superblock) ?? []).entries()) {
        const record = this.#header(leg.fd, sector);
        if (record === null) continue;
        const before = leg.headers[copy] ?? null;
        if (before !== null && compareVersions(record.version, before) < 0) {
          const [from, to] = [before, record.version].map(({ term, index }) => `${term}.${index}`);
          this.regressions.push(`disk ${leg.index}, mesh header ${copy}: went from ${from} to ${to}`);
        }
        leg.headers[copy] = record.version;
        if (!this.terms.has(record.version.term)) this.terms.set(record.version.term, Date.now());
      }
    }
  }

  /** null: none, or one that is being written at this moment. */
  #superblock(fd: number): ReturnType<typeof decodeSuperblockIfAny> {
    const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
    readSync(fd, bytes, 0, bytes.length, SUPERBLOCK_SECTOR * SECTOR_BYTES);
    try {
      return decodeSuperblockIfAny(bytes, 'image');
    } catch {
      return null;
    }
  }

  #header(fd: number, sector: number): ArrayRecord | null {
    const bytes = Buffer.alloc(MESH_HEADER_BYTES);
    readSync(fd, bytes, 0, bytes.length, sector * SECTOR_BYTES);
    return decodeMeshHeaders(bytes, this.#blank)?.header.record ?? null;
  }
}
