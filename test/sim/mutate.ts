/**
 * Loads the sources with one rule switched off: `node --import ./test/sim/mutate.ts …` with MDMESH_MUTATION=NAME. Nothing of it is
 * in the sources themselves.
 */
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MUTATIONS, type Mutation } from './mutations.ts';

const ROOT = join(import.meta.dirname, '../..');

type Edit = Pick<Mutation, 'file' | 'from' | 'to'>;

/** All places of a mutation. */
export function editsOf({ file, from, to, also }: Mutation): Edit[] {
  return [{ file, from, to }, ...(also === undefined ? [] : [also])];
}

/** The source without the rule. @throws when the fragment is not there, or not once: the list has to follow the code */
export function mutated(source: string, name: string, { file, from, to }: Edit): string {
  const parts = source.split(from);
  if (parts.length !== 2) {
    const found = parts.length - 1;
    throw new Error(
      `mutation ${name}: its fragment stands ${found} times in ${file}, not once; bring test/sim/mutations.ts up to date`,
    );
  }
  return parts.join(to);
}

const wanted = process.env.MDMESH_MUTATION;
if (wanted !== undefined && wanted !== '') {
  const mutation = MUTATIONS.find(({ name }) => name === wanted);
  if (mutation === undefined) throw new Error(`no mutation ${wanted}; see test/sim/mutations.ts`);
  const edits = editsOf(mutation).map((edit) => ({ ...edit, url: pathToFileURL(join(ROOT, edit.file)).href }));
  registerHooks({
    load(loading, context, nextLoad) {
      const loaded = nextLoad(loading, context);
      const own = edits.filter(({ url }) => url === loading);
      if (own.length === 0) return loaded;
      const source =
        typeof loaded.source === 'string' ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString('utf8');
      return { ...loaded, source: own.reduce((before, edit) => mutated(before, mutation.name, edit), source) };
    },
  });
}
