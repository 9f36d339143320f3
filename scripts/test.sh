#!/usr/bin/env bash
# Everything that must hold before a change goes in; CI runs this and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
step() { printf '\n== %s (after %d s)\n' "$1" "$((SECONDS - started))"; }
skip() { echo "skipped: $1"; }
finish() {
  if [ "$1" -ne 0 ]; then printf '\ntest: FAILED in the step above, after %d s\n' "$((SECONDS - started))"; fi
}
trap 'finish $?' EXIT

# shellcheck source=scripts/tools.sh
source scripts/tools.sh

step "tools"
need_rust
# What the scripts and tests call besides, which smallest systems lack.
need git git
need python3 python3
need pgrep procps
have shellcheck || install_packages shellcheck || true
# What replicas share their tokens through: tests without it say that they skip.
have redis-server || install_packages redis-server || skip "redis-server is not here: the shared cache is not tested"
# Not every Rust brings both: of Debian's, clippy is no part.
cargo fmt --version >/dev/null 2>&1 || ! have rustup || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || ! have rustup || rustup component add clippy
cargo --version
# The lock file says what is built; nothing here may change it.
cargo fetch --locked --quiet

features=("" "--no-default-features" "--all-features")

step "format"
if cargo fmt --version >/dev/null 2>&1; then
  cargo fmt --all --check
else
  skip "rustfmt is not here"
fi

step "shell scripts"
if have shellcheck; then
  git ls-files '*.sh' .ci/run deploy/debian/postinst deploy/debian/prerm | xargs shellcheck
else
  skip "shellcheck is not here"
fi

for set in "${features[@]}"; do
  step "clippy ${set:-with default features}"
  cargo clippy --version >/dev/null 2>&1 || { skip "clippy is not here"; break; }
  # shellcheck disable=SC2086 # an empty set is no argument
  cargo clippy --locked --quiet --workspace --all-targets $set -- -D warnings
done

step "documentation"
# Private items included: the crate is a program, and its readers are those who work on it.
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
  cargo doc --locked --quiet --workspace --no-deps --document-private-items

for set in "${features[@]}"; do
  step "tests ${set:-with default features}"
  # nextest runs test binaries side by side, and shows each test that is slow or hangs.
  # shellcheck disable=SC2086
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace --no-fail-fast $set --status-level slow --final-status-level fail
  else
    cargo test --locked --quiet --workspace --no-fail-fast --lib --bins --tests $set
  fi
done
step "tests in documentation"
cargo test --locked --quiet --workspace --doc

step "generated files"
scripts/gen-docs.sh
git diff --exit-code -- docs/configuration.md

step "demo"
said=$(scripts/demo.sh --once 2>&1) || { echo "$said"; exit 1; }
tail -1 <<<"$said"

step "examples and real clients"
scripts/examples.sh

step "kubectl"
scripts/kubectl-test.sh

step "code blocks of the documentation"
scripts/docs-test.sh

step "OpenAPI"
scripts/openapi-test.sh

step "generated clients"
scripts/generated-clients.sh

step "the page in a browser"
scripts/page-test.sh

step "deployment files"
have promtool || install_packages prometheus || true
scripts/deploy-test.sh

step "what a release refuses"
scripts/release-test.sh

# cargo-deny keeps the advisories as a clone. When that was fetched does not tell, because git marks attempts that failed, too; the
# database changes nearly every day.
advisories_time() {
  local clone
  for clone in "${CARGO_HOME:-$HOME/.cargo}"/advisory-dbs/*/.git; do
    [ ! -e "$clone" ] || git --git-dir "$clone" log -1 --format=%ct
  done | sort -n | tail -1
}

step "dependencies"
# The licences, sources and bans of deny.toml; cargo-deny knows the advisories besides.
scripts/sbom.sh --check
scripts/sbom.sh --validate
deny=false
if cargo deny --version >/dev/null 2>&1; then
  deny=true
  cargo deny --locked --log-level error check licenses bans sources
  cargo deny --locked fetch db >/dev/null 2>&1 || echo "the database of advisories cannot be fetched now"
else
  skip "cargo-deny is not here"
fi
changed=$(advisories_time)
if [ -z "$changed" ]; then
  skip "advisories: no database of them is here, so they were never looked up on this machine"
else
  days=$((($(date +%s) - changed) / 86400))
  those="those of $(date --utc --date "@$changed" +%Y-%m-%d), $days days old"
  # cargo-deny refuses such as are older than 90 days.
  if $deny && [ "$days" -lt 90 ]; then
    cargo deny --locked --offline --log-level error check advisories
    echo "advisories: looked up in $those"
  else
    skip "advisories: not looked up now; fetched here were $those"
  fi
fi

step "image"
if [ -n "${IMAGE_TEST:-}" ]; then
  scripts/image-test.sh
else
  skip "IMAGE_TEST=1 builds the static binary, which takes minutes, and runs it in an empty root"
fi

# That every target holds for its seeds and some changes of them was a test above (tests/fuzz_smoke.rs), the same each time. This
# looks further, finds something else each time, and so runs where it is asked for.
step "fuzzing"
if [ -n "${FUZZ_SECONDS:-}" ]; then
  scripts/fuzz.sh "$FUZZ_SECONDS"
else
  skip "FUZZ_SECONDS says for how many seconds each target is to run"
fi

printf '\ntest: everything passed, in %d min %d s\n' "$(((SECONDS - started) / 60))" "$(((SECONDS - started) % 60))"
