/**
 * md: the only room that touches arrays and disks. In come records, paths and deadlines; out go observations of what the
 * kernel does, and bytes on members. It decides nothing: which member has failed, who may write and when a gate is answered
 * is told to it.
 *
 * `driver.ts` is the contract. `realDriver` keeps it with sysfs and the native guard, `simulatedDriver` in memory; one suite
 * (test/compliance/driver.ts) holds both to it. The codecs turn superblocks and the mesh area into bytes and back;
 * `metadata.ts` says which bytes a record means. Nothing native is loaded before `loadNative` is called.
 */
export * from './driver.ts';
export {
  decodeMeshHeaders,
  encodeMeshHeader,
  meshGeometry,
  meshHeaderSectors,
} from './mesh_area.ts';
export {
  componentSectorsFor,
  dataOffsetSectorsFor,
  defaultChunkSectors,
  defaultLayout,
  recordFromDisks,
  recordFromSuperblocks,
  releaseWrites,
  superblocksFor,
  writesFor,
} from './metadata.ts';
export { loadNative, type NativeAddon } from './native.ts';
export { type RealDriverOptions, realDriver } from './real.ts';
export { type SimulatedOptions, SimulatedStorage, simulatedDriver } from './simulated.ts';
export { adoptable, decodeSuperblock, decodeSuperblockIfAny, encodeSuperblock, ownRole } from './superblock.ts';
