#!/usr/bin/env bash
# Makes everything that a release consists of, for both machines, in one folder.
#
#   scripts/release.sh VERSION [folder]      the folder is dist by default, and must not hold anything yet
#
#   entra-sidecar-VERSION-MACHINE-linux-musl.tar.gz   the static binary, with LICENSE and README
#   entra-sidecar_VERSION_ARCHITECTURE.deb            the same for Debian and Ubuntu, with a unit for systemd
#   entra-sidecar-VERSION-MACHINE.cdx.json            what is compiled into it
#   entra-sidecar-VERSION.oci.tar                     the image for both machines
#   openapi.json                                      what the program answers
#   SHA256SUMS                                        of all of these
#
# The same commit and toolchain make the same bytes. Both binaries come from one toolchain: rustup's where both musl targets are
# installed, Debian's otherwise; STATIC_ROUTE forces one (scripts/build-static.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/tools.sh
source scripts/tools.sh

[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: scripts/release.sh VERSION [folder]" >&2; exit 2; }
version=$1
refuse() { say "$1"; exit 1; }

[ "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" = "$version" ] || refuse "Cargo.toml has another version"
grep -qx "ARG VERSION=$version" Dockerfile.scratch || refuse "Dockerfile.scratch has another version"
heading=$(grep -F "## $version (" CHANGELOG.md) || refuse "CHANGELOG.md says nothing about $version"
[ -z "$(git status --porcelain)" ] || refuse "the tree is not clean: what is released must be committed"
case $heading in *unreleased*) say "note: CHANGELOG.md still says: $heading" ;; esac

mkdir -p "${2:-dist}"
dist=$(realpath "${2:-dist}")
[ -z "$(ls -A "$dist")" ] || refuse "$dist is not empty"
need_rust
need python3 python3
need buildah buildah
[ "$(id -u)" -eq 0 ] || buildah unshare true || refuse "buildah makes no image here without root: the kernel gives no user namespaces"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
umask 022
machines=(x86_64 aarch64)
if [ -z "${STATIC_ROUTE:-}" ]; then
  STATIC_ROUTE=rustup
  for machine in "${machines[@]}"; do
    rustup target list --installed 2>/dev/null | grep -x "$machine-unknown-linux-musl" >/dev/null || STATIC_ROUTE=debian
  done
fi
export STATIC_ROUTE
[ "$STATIC_ROUTE" != glibc ] || refuse "what is released is linked with musl"

# A tar file that says nothing of who made it, where or when.
archive() { # folder name...
  tar --create --directory "$1" --format ustar --sort name --mtime "@$SOURCE_DATE_EPOCH" --owner 0 --group 0 --numeric-owner \
    "${@:2}"
}

# A package for Debian and Ubuntu: the binary, its unit, its user, and settings to fill in.
package() { # machine binary
  local architecture root=$work/package-$1
  architecture=$(debian_architecture "$1")
  install -D -m 0755 "$2" "$root/usr/bin/entra-sidecar"
  mkdir -p "$root/usr/lib/systemd/system"
  sed 's#/usr/local/bin/#/usr/bin/#' deploy/systemd/entra-sidecar.service >"$root/usr/lib/systemd/system/entra-sidecar.service"
  install -D -m 0644 deploy/debian/sysusers.conf "$root/usr/lib/sysusers.d/entra-sidecar.conf"
  install -D -m 0600 deploy/debian/appsettings.json "$root/etc/entra-sidecar/appsettings.json"
  install -D -m 0644 LICENSE "$root/usr/share/doc/entra-sidecar/copyright"
  install -m 0644 README.md "$root/usr/share/doc/entra-sidecar/README.md"
  gzip -n -9 <CHANGELOG.md >"$root/usr/share/doc/entra-sidecar/changelog.gz"
  mkdir "$root/DEBIAN"
  install -m 0755 deploy/debian/postinst deploy/debian/prerm "$root/DEBIAN/"
  echo /etc/entra-sidecar/appsettings.json >"$root/DEBIAN/conffiles"
  cat >"$root/DEBIAN/control" <<CONTROL
Package: entra-sidecar
Version: $version
Architecture: $architecture
Maintainer: the authors of entra-sidecar <entra-sidecar@localhost>
Section: net
Priority: optional
Recommends: systemd
Installed-Size: $(find "$root" -type f -printf '%s\n' | awk '{ bytes += $1 } END { print int((bytes + 1023) / 1024) }')
Description: $(sed -n 's/^description = "\(.*\)"/\1/p' Cargo.toml)
CONTROL
  (cd "$root" && find usr etc -type f | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
  dpkg-deb --root-owner-group -Zgzip -z9 --build "$root" "$dist/entra-sidecar_${version}_$architecture.deb" >/dev/null
}

images=()
for machine in "${machines[@]}"; do
  binary=$(STATIC_ARCH=$machine scripts/build-static.sh | tail -1)
  name=entra-sidecar-$version-$machine-linux-musl
  install -D -m 0755 "$binary" "$work/$name/entra-sidecar"
  install -m 0644 LICENSE README.md "$work/$name/"
  archive "$work" "$name" | gzip -n -9 >"$dist/$name.tar.gz"
  STATIC_ARCH=$machine scripts/sbom.sh >"$dist/entra-sidecar-$version-$machine.cdx.json"
  package "$machine" "$work/$name/entra-sidecar"
  images+=("$machine=$work/$name/entra-sidecar")
  if [ "$machine" = "$(uname -m)" ]; then
    [ "$("$binary" --version)" = "entra-sidecar $version" ] || refuse "the program has another version"
    "$binary" openapi >"$dist/openapi.json"
  fi
done

scripts/image.sh "$work/image" "$version" "${images[@]}"
archive "$work/image" oci-layout index.json blobs >"$dist/entra-sidecar-$version.oci.tar"
(cd "$dist" && sha256sum -- * >"$work/SHA256SUMS")
mv "$work/SHA256SUMS" "$dist/"
cat "$dist/SHA256SUMS"
