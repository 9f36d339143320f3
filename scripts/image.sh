#!/usr/bin/env bash
# Makes the image of finished binaries: a layout as the OCI image specification has it, with a manifest for each machine.
#
#   scripts/image.sh FOLDER VERSION MACHINE=BINARY...
#   scripts/image.sh dist/image 0.1.0 x86_64=one/entra-sidecar aarch64=other/entra-sidecar
#
# It is the last stage of Dockerfile.scratch, built by buildah: without a network, without a daemon, and without root where the
# kernel allows user namespaces. The same binaries at the same SOURCE_DATE_EPOCH (default: the commit's time) make the same bytes.
# HEALTHCHECK is Docker's own and OCI has no word for it, so the layout has none.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/tools.sh
source scripts/tools.sh

[ $# -ge 3 ] || { echo "usage: scripts/image.sh FOLDER VERSION MACHINE=BINARY..." >&2; exit 2; }
folder=$1 version=$2
shift 2
[ -z "$(ls -A "$folder" 2>/dev/null)" ] || { say "$folder is not empty"; exit 1; }
need buildah buildah
umask 022
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Storage of its own, so that nothing of it is left.
run_buildah() {
  STORAGE_DRIVER=vfs buildah --root "$work/storage" --runroot "$work/run" --log-level error "$@" >"$work/said" 2>&1 ||
    { cat "$work/said" >&2; return 1; }
}
sed -n '/^FROM scratch/,$p' Dockerfile.scratch | sed 's#--from=build /image/#image/#' >"$work/Dockerfile"
run_buildah manifest create entra-sidecar
for pair in "$@"; do
  rm -rf "$work/image"
  mkdir -p "$work/image/app"
  install -m 0755 "${pair#*=}" "$work/image/entra-sidecar"
  run_buildah build --isolation chroot --format oci --timestamp "$epoch" --manifest entra-sidecar \
    --platform "linux/$(debian_architecture "${pair%%=*}")" --file "$work/Dockerfile" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" \
    --build-arg "CREATED=$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" "$work"
done
run_buildah manifest push --all entra-sidecar "oci:$folder:$version"
