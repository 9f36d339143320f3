#!/usr/bin/env bash
# Builds the static binary of the committed sources twice, in two folders with nothing in common, and compares the bytes.
#
#   scripts/reproduce.sh [commit]
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for place in one another/and/deeper; do
  mkdir -p "$work/$place"
  git archive "${1:-HEAD}" | tar -x -C "$work/$place"
  binary=$(env -u CARGO_TARGET_DIR "$work/$place/scripts/build-static.sh" | tail -1)
  sha256sum "$work/$place/$binary" | cut -d' ' -f1 | tee -a "$work/sums"
done
if [ "$(sort -u "$work/sums" | wc -l)" -ne 1 ]; then
  echo "reproduce: the two differ" >&2
  exit 1
fi
echo "reproduce: the same bytes twice"
