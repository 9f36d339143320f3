#!/usr/bin/env bash
# The demo and the tests of the program with its binary for arm64, which qemu interprets where the machine is another one.
#
#   scripts/arm64-test.sh [filter for the tests]
#
# docs/release.md says what emulation cannot show.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/tools.sh
source scripts/tools.sh

need_rust
need qemu-aarch64-static qemu-user-static
binary=$(STATIC_ARCH=aarch64 scripts/build-static.sh | tail -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Tests start the program with an empty environment, so the paths are whole.
printf '#!/bin/sh\nexec %s %s "$@"\n' "$(command -v qemu-aarch64-static)" "$(realpath "$binary")" >"$work/entra-sidecar"
chmod +x "$work/entra-sidecar"
export SIDECAR_BINARY=$work/entra-sidecar

"$SIDECAR_BINARY" --version
scripts/demo.sh --once | tail -1
cargo test --locked --test config_cli -- "$@"
cargo test --locked --test sidecar -- "$@"
