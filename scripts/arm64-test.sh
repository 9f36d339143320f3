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

started=$SECONDS
need_rust
binary=$(STATIC_ARCH=aarch64 scripts/build-static.sh | tail -1)
binary=$(realpath "$binary")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "$(uname -m)" != aarch64 ]; then
  need qemu-aarch64-static qemu-user-static
  # Tests start the program with an empty environment, so the paths are whole.
  printf '#!/bin/sh\nexec %s %s "$@"\n' "$(command -v qemu-aarch64-static)" "$binary" >"$work/entra-sidecar"
  chmod +x "$work/entra-sidecar"
  binary=$work/entra-sidecar
fi
export SIDECAR_BINARY=$binary
"$SIDECAR_BINARY" --version

failed=()
part() { # name command...
  "${@:2}" 2>&1 | tee "$work/$1" || failed+=("$1")
}
part demo scripts/demo.sh --once
for suite in config_cli sidecar; do
  part "$suite" cargo test --locked --test "$suite" -- "$@"
done

printf '\narm64-test: after %d min %d s:\n' "$(((SECONDS - started) / 60))" "$(((SECONDS - started) % 60))"
echo "demo: $(tail -1 "$work/demo")"
for suite in config_cli sidecar; do echo "$suite: $(grep '^test result: ' "$work/$suite" || tail -1 "$work/$suite")"; done
if [ ${#failed[@]} -gt 0 ]; then
  grep -h '^test .* FAILED$' "$work"/* || true
  echo "arm64-test: FAILED: ${failed[*]}"
  exit 1
fi
echo "arm64-test: everything passed"
