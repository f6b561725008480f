/** The files of the page. When the program is bundled, this module is replaced by their bytes: scripts/bundling.ts. */
import type { PageFile } from './index.ts';

let built: Promise<PageFile[]> | null = null;

/** From the source they are made when they are first asked for. */
export function builtFiles(): Promise<PageFile[]> {
  built ??= import('../../scripts/page_files.ts').then(async ({ pageFiles }) => (await pageFiles()).files);
  return built;
}
