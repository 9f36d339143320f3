#!/usr/bin/env bash
# Fuzzes every target, or those named, for so many seconds each: scripts/fuzz.sh [seconds] [target...]
# The seeds under fuzz/seeds are read and left alone; what is found on top lies under fuzz/target. Needs cargo-fuzz
# (`cargo install cargo-fuzz`). FUZZ_SANITIZER=address looks into the C and the unsafe code of dependencies too, and needs a
# nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
sanitizer=${FUZZ_SANITIZER:-none}
toolchain=()
if [ "$sanitizer" = none ]; then
  # libFuzzer's instrumentation alone works with a stable compiler that is told not to mind.
  export RUSTC_BOOTSTRAP=1
else
  toolchain=(+nightly)
fi

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

failed=()
for target in "${targets[@]}"; do
  found=fuzz/target/corpus/$target
  log=fuzz/target/$target.log
  mkdir -p "$found"
  if cargo "${toolchain[@]}" fuzz run --sanitizer "$sanitizer" "$target" "$found" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
    printf '%-18s %s executions\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  else
    printf '%-18s FAILED: see %s\n' "$target" "$log"
    failed+=("$target")
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "fuzz: failed: ${failed[*]}" >&2; exit 1; }
