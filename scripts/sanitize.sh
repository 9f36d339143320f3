#!/usr/bin/env bash
# Looks for data races: the program is built with ThreadSanitizer, the standard library with it, and the tests that load its threads
# run against that binary.
#
#   scripts/sanitize.sh [filter for the tests...]
#
# Needs rustup with a nightly toolchain, whose rust-src it adds; the build takes five minutes on two cores, the tests three. The
# C code and assembly of ring are not instrumented. docs/design.md says what was found.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/tools.sh
source scripts/tools.sh

need_rust
need setarch util-linux
cargo +nightly --version >/dev/null 2>&1 || { say "this needs: rustup toolchain install nightly"; exit 1; }
if ! [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src" ]; then rustup component add --toolchain nightly rust-src; fi

filters=("$@")
if [ ${#filters[@]} -eq 0 ]; then
  filters=(concurrency upstream_calls pass_through downstream outages renewals survival lifecycle sessions)
fi
target=$(uname -m)-unknown-linux-gnu
built=$(realpath "${CARGO_TARGET_DIR:-target}")/sanitize
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Tests start the program with an empty environment, in which the sanitizer would not find a program that names lines, and take its
# standard error for its log. Its shadow memory does not stand random addresses, hence setarch. A report fails this script; it must
# not change what a test sees.
instrumented() { # program
  cat <<SH
#!/bin/sh
PATH="$PATH" TSAN_OPTIONS="exitcode=0 log_path=$work/report" exec setarch -R "$1" "\$@"
SH
}
reports() { find "$work" -name 'report.*'; }

# A race that must be found, or else that none is found says nothing.
cat >"$work/race.rs" <<'RUST'
static mut COUNT: u32 = 0;
fn main() {
    let threads = [(); 2].map(|()| std::thread::spawn(|| (0..1000).for_each(|_| unsafe { COUNT += 1 })));
    let _ = threads.map(|thread| thread.join().unwrap());
}
RUST
rustc +nightly --edition 2024 -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer -o "$work/race" "$work/race.rs"
sh <(instrumented "$work/race")
[ -n "$(reports)" ] || { say "the sanitizer does not find a race here"; exit 1; }
rm "$work"/report.*

say "building in $built"
CARGO_TARGET_DIR=$built CARGO_PROFILE_DEV_OPT_LEVEL=1 RUSTFLAGS=-Zsanitizer=thread \
  cargo +nightly build --locked --quiet -Zbuild-std --target "$target" --bin entra-sidecar
instrumented "$built/$target/debug/entra-sidecar" >"$work/entra-sidecar"
chmod +x "$work/entra-sidecar"

# One test measures memory, of which the sanitizer takes its own share.
failed=
for filter in "${filters[@]}"; do
  SIDECAR_BINARY=$work/entra-sidecar some_tests timeout 1200 \
    cargo test --locked --quiet --test sidecar -- "$filter" --skip bodies_of_any_size_cost_no_memory || failed="$failed $filter"
done
for report in $(reports); do
  cat "$report"
  failed="$failed races"
done
[ -z "$failed" ] || { say "failed: $failed"; exit 1; }
say "no race in: ${filters[*]}"
