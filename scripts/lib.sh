# shellcheck shell=bash
# Sourced by the scripts that start programs: a folder for what these write, an end for them, and the stand-in for Entra.

work=$(mktemp -d)
pids=()
finish() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits until a started program has printed what is looked for.
await() { # file pattern
  local tries=0
  until grep -q "$2" "$1" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ]; then
      echo "${0##*/}: '$2' never came:" >&2
      cat "$1" >&2
      exit 1
    fi
    sleep 0.05
  done
}

# Starts the stand-in for Entra; what it prints becomes variables.
start_tenant() { # program
  "$1" >"$work/tenant" &
  pids+=($!)
  await "$work/tenant" '^USER_IDENTITY_CLIENT_ID='
  # shellcheck source=/dev/null
  source "$work/tenant"
}

# The address in a sidecar's log.
address_in() { sed -n 's/.*listening on \(http:.*\)/\1/p' "$1" | head -1; }
