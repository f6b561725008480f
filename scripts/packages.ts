/** The packages that went into the program, by what the bundler took, and what is compiled into the addon; and their licences. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Metafile } from 'esbuild';

export interface ShippedPackage {
  name: string;
  version: string;
  /** An SPDX expression. */
  licence: string;
  homepage: string | null;
  /** Of the lock file: `sha512-…`. */
  integrity: string | null;
  author: string | null;
  directory: string;
  /** Package URL of what is not npm's. */
  purl?: string;
  /** Where no file of it says so. */
  words?: string;
}

/** Compiled into the addon: the bundler does not see it. */
const IN_THE_ADDON = 'node_modules/node-addon-api';
const RUNTIME = `node_modules/node-linux-${process.arch}`;

/** https://spdx.org/licenses/MIT */
const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished
to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

/** https://spdx.org/licenses/ISC */
const ISC = `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided
that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES
OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR
ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS
ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.`;

/** The library that is linked into the addon, as it stands on the machine that builds: the system's package. */
function libsodium(): ShippedPackage {
  const library = execFileSync('g++', ['-print-file-name=libsodium.a'], { encoding: 'utf8' }).trim();
  const version = execFileSync('g++', ['-include', 'sodium/version.h', '-E', '-x', 'c++', '-dM', '/dev/null'], {
    encoding: 'utf8',
  });
  const [, upstream] = /SODIUM_VERSION_STRING "([^"]+)"/.exec(version) ?? [];
  if (upstream === undefined) throw new Error('sodium/version.h: says no version');
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's, not JavaScript's
  const debian = spawnSync('dpkg-query', ['-W', '-f=${Version} ${Architecture}', 'libsodium-dev'], {
    encoding: 'utf8',
  });
  const [packaged, architecture] = debian.status === 0 ? debian.stdout.split(' ') : [];
  return {
    name: 'libsodium',
    version: packaged ?? upstream,
    licence: 'ISC',
    homepage: 'https://libsodium.org',
    integrity: `sha512-${createHash('sha512').update(readFileSync(library)).digest('base64')}`,
    author: 'Frank Denis, 2013-2017',
    directory: library,
    purl:
      packaged === undefined
        ? `pkg:generic/libsodium@${upstream}`
        : `pkg:deb/debian/libsodium-dev@${encodeURIComponent(packaged)}?arch=${architecture}`,
    words: ISC,
  };
}

/** Sorted by name and version, each once: npm lays the same one in several places. The runtime is one of them. */
export function packagesIn(metafile: Metafile): ShippedPackage[] {
  const directories = new Set([IN_THE_ADDON, RUNTIME]);
  for (const path of Object.keys(metafile.inputs)) {
    const directory = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
    if (directory !== undefined) directories.add(directory);
  }
  const locked: { packages: Record<string, { integrity?: string }> } = JSON.parse(
    readFileSync('package-lock.json', 'utf8'),
  );
  const found = [...directories].map((directory) => {
    const manifest: { name: string; version: string; license?: unknown; homepage?: unknown; author?: unknown } =
      JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
    const { name, version, license: licence, homepage, author } = manifest;
    if (typeof licence !== 'string' || licence === '') {
      throw new Error(`${directory}/package.json: license is ${JSON.stringify(licence)}, no SPDX expression`);
    }
    return {
      name,
      version,
      licence,
      homepage: typeof homepage === 'string' ? homepage : null,
      author: typeof author === 'string' ? author : null,
      integrity: locked.packages[directory]?.integrity ?? null,
      directory,
    };
  });
  const all: ShippedPackage[] = [...found, libsodium()];
  const key = ({ name, version }: ShippedPackage) => `${name}@${version}`;
  // The set of directories has no order of its own: which of several is taken must not depend on it.
  const ordered = all.sort((a, b) => (`${key(a)} ${a.directory}` < `${key(b)} ${b.directory}` ? -1 : 1));
  return ordered.filter((each, index) => index === 0 || key(each) !== key(ordered[index - 1] ?? each));
}

/**
 * Every package's own words. Some bring no file. For Apache-2.0, if as one of two, this project's own LICENSE is the text; for MIT
 * its usual text under the author's name. Throws for any other that brings none: it could not be given away with the program.
 */
export function licences(packages: readonly ShippedPackage[]): string {
  const line = '='.repeat(100);
  const sections = packages.map((each) => {
    const title = `${line}\n${each.name} ${each.version} (${each.licence})\n${line}\n\n`;
    if (each.words !== undefined) return `${title}Copyright (c) ${each.author}\n\n${each.words}\n`;
    const texts = licenceFiles(each.directory).map((file) => readFileSync(join(each.directory, file), 'utf8').trim());
    if (texts.length > 0) return `${title}${texts.join('\n\n')}\n`;
    if (each.licence.split(' OR ').includes('Apache-2.0')) {
      return `${title}Used under the Apache License 2.0; its text stands at the end of this file.\n`;
    }
    if (each.licence === 'MIT' && each.author !== null) return `${title}Copyright (c) ${each.author}\n\n${MIT}\n`;
    throw new Error(`${each.directory}: has no licence file (${each.licence})`);
  });
  return [
    'mdmesh contains the following works of others, under their own licences.\n',
    ...sections,
    `${line}\nApache License 2.0\n${line}\n\n${readFileSync('LICENSE', 'utf8').trim()}\n`,
  ].join('\n');
}

function licenceFiles(directory: string): string[] {
  return readdirSync(directory)
    .filter((file) => /^(licen[cs]e|copying|notice)/i.test(file))
    .sort();
}

export function runtimeOf(packages: readonly ShippedPackage[]): ShippedPackage {
  const runtime = packages.find(({ directory }) => directory === RUNTIME);
  if (runtime === undefined || !existsSync(runtime.directory)) throw new Error(`${RUNTIME}: is not installed`);
  return runtime;
}
