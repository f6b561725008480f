#!/bin/bash
# deb.sh NODE [DIRECTORY PROGRAM]: lays dist/mdmesh, or PROGRAM in its place, into a Debian package with Debian's own tools:
# dist/mdmesh_VERSION_ARCH.deb, or one in DIRECTORY. Tests put a script there that runs dist/mdmesh: everything else is the same.
set -euo pipefail
cd "$(dirname "$0")/.."
node=$1
out=${2:-dist}
program=${3:-dist/mdmesh}
for needed in dh dpkg-deb; do
  command -v "$needed" > /dev/null || { echo "make deb: no program $needed; run make packages as root (debhelper)" >&2; exit 1; }
done
version=$("$node" -p 'JSON.parse(require("fs").readFileSync("package.json", "utf8")).version')
# Every time in the package is that of the commit: two packages of one commit are the same.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2> /dev/null || stat -c %Y package.json)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8

tree=$out/tree/mdmesh
rm -rf "$out/tree"
mkdir -p "$tree/docs"
cp -r packaging/debian packaging/is-member packaging/initramfs "$tree/"
cp "$program" "$tree/mdmesh"
cp dist/mdmesh.cdx.json dist/THIRD-PARTY-LICENCES.txt README.md config/mdmesh.example.yaml "$tree/"
cp docs/*.md "$tree/docs/"
cp config/mdmesh.service "$tree/debian/mdmesh.service"
"$node" --no-warnings scripts/man_pages.ts "$tree/man"
"$node" --no-warnings scripts/completions.ts "$tree/completions"
cat > "$tree/debian/changelog" << END
mdmesh ($version) unstable; urgency=medium

  * Built from commit $(git rev-parse --short=12 HEAD 2> /dev/null || echo unknown).

 -- mdmesh <mdmesh@localhost.localdomain>  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
END
(cd "$tree" && debian/rules binary > ../build.log 2>&1) || { cat "$out/tree/build.log" >&2; exit 1; }
mv "$out"/tree/mdmesh_*.deb "$out/"
rm -rf "$out/tree"
ls "$out"/mdmesh_*.deb
