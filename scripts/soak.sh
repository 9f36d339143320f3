#!/usr/bin/env bash
# Mixed load with every answer checked, while everything around the sidecar fails now and then (tests/sidecar/soak.rs).
#
#   scripts/soak.sh [--seconds N]     180 by default; it ends at most one storm and one calm later
#
# Prints what was asked, what failed and what memory and descriptors came to; ends with 1 where anything was wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=180
case ${1:-} in
  '') ;;
  --seconds) seconds=${2:?"--seconds needs a number"} ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

# Optimised, since what is looked for is load; linked as fast as may be, since nothing is measured to the microsecond.
export SOAK_SECONDS=$seconds CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
exec cargo test --locked --quiet --release --package entra-sidecar --test sidecar -- \
  --ignored --exact --nocapture soak::nothing_is_wrong_lost_or_leaked_amid_failures
