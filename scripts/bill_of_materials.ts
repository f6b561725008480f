/** The CycloneDX document of the program (ECMA-424): what is inside, by package URL, with checksums: the lock file's, and a library's own. */
import { Enums, Models, Serialize, Spec } from '@cyclonedx/cyclonedx-library';
import { PackageURL } from 'packageurl-js';
import { VERSION } from '../src/version.ts';
import { runtimeOf, type ShippedPackage } from './packages.ts';

/**
 * @param digest SHA-256 of the program, in hex: it is also where the serial number comes from, so that two builds of one
 * commit have one document. No time stands in it, for the same reason.
 */
export function billOfMaterials(packages: readonly ShippedPackage[], digest: string): string {
  const program = new Models.Component(Enums.ComponentType.Application, 'mdmesh', {
    version: VERSION,
    bomRef: 'mdmesh',
    hashes: new Models.HashDictionary([[Enums.HashAlgorithm['SHA-256'], digest]]),
    licenses: new Models.LicenseRepository([new Models.SpdxLicense('Apache-2.0')]),
  });
  const bom = new Models.Bom({ metadata: new Models.Metadata({ component: program }), serialNumber: serialOf(digest) });
  for (const each of packages) {
    const component = componentOf(each);
    if (each === runtimeOf(packages)) {
      for (const [name, version] of Object.entries(process.versions)) {
        if (name === 'node' || version === undefined || version === '') continue;
        component.components.add(
          new Models.Component(Enums.ComponentType.Library, name, { version, bomRef: `node/${name}@${version}` }),
        );
      }
    }
    bom.components.add(component);
    program.dependencies.add(component.bomRef);
  }
  const serializer = new Serialize.JsonSerializer(new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6));
  return `${serializer.serialize(bom, { sortLists: true, space: 1 })}\n`;
}

function componentOf({ name, version, licence, homepage, integrity, purl: own }: ShippedPackage): Models.Component {
  const [scope, bare] = name.startsWith('@') ? name.split('/') : [undefined, name];
  const purl = own ?? new PackageURL('npm', scope, bare ?? name, version, undefined, undefined).toString();
  const component = new Models.Component(Enums.ComponentType.Library, bare ?? name, {
    version,
    purl,
    bomRef: purl,
    ...(scope === undefined ? {} : { group: scope }),
    licenses: new Models.LicenseRepository([
      / (OR|AND|WITH) /.test(licence) ? new Models.LicenseExpression(licence) : new Models.SpdxLicense(licence),
    ]),
  });
  const sha512 = /^sha512-(.+)$/.exec(integrity ?? '')?.[1];
  if (sha512 !== undefined) {
    component.hashes.set(Enums.HashAlgorithm['SHA-512'], Buffer.from(sha512, 'base64').toString('hex'));
  }
  if (homepage !== null) {
    component.externalReferences.add(new Models.ExternalReference(homepage, Enums.ExternalReferenceType.Website, {}));
  }
  return component;
}

/** A UUID of version 8, which is free for one's own use (RFC 9562, 5.8), out of the digest. */
function serialOf(digest: string): string {
  const hex = `${digest.slice(0, 12)}8${digest.slice(13, 16)}8${digest.slice(17, 32)}`;
  return `urn:uuid:${hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;
}
