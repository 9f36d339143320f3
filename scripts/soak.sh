#!/usr/bin/env bash
# Mixed load with every answer checked, while upstreams are slow and fail now and then (tests/sidecar/soak.rs).
#
#   scripts/soak.sh [--seconds N]     180 by default; a storm and a calm go before, and one more may be under way
#
# Prints what was asked, what failed and what memory, descriptors and threads came to, loaded and at rest; ends with 1
# where anything was wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/tools.sh
source scripts/tools.sh

seconds=180
case ${1:-} in
  '') ;;
  --seconds) seconds=${2:?"--seconds needs a number"} ;;
  *) sed -n '2,7s/^# \{0,1\}//p' scripts/soak.sh >&2; exit 2 ;;
esac

# Optimised, since what is looked for is load; linked as fast as may be, since nothing is measured to the microsecond.
export SOAK_SECONDS=$seconds CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
some_tests cargo test --locked --quiet --release --package entra-sidecar --test sidecar -- \
  --ignored --exact --nocapture soak::nothing_is_wrong_lost_or_leaked_amid_failures
