#!/usr/bin/env bash
# Measures the release binary against nginx on this machine; writes docs/performance.md, its pictures and the figures in README.md.
#
#   scripts/bench.sh [--many] [--instructions] [--seconds N] [--rounds N] [--dry]
#   scripts/bench.sh --instructions-only
#
#   --many          also with 1,024 connections, and with 100,000 cached tokens
#   --instructions  also counts instructions with valgrind, and what refusing hostile tokens costs
#   --seconds       of each measurement (2)
#   --rounds        of which the median counts (3)
#   --dry           print only, write nothing
#
# Absolute figures say little on a shared machine. The two servers therefore run in alternation, and what counts is the
# ratio of each pair of measurements. BENCH_BINARY names a binary to measure in place of a fresh static build.
set -euo pipefail
cd "$(dirname "$0")/.."

connections=(1 16 64 256) seconds=2 rounds=3 dry=false many=false instructions=false only=false
while [ $# -gt 0 ]; do
  case $1 in
    --many) connections+=(1024) many=true ;;
    --instructions) instructions=true ;;
    --instructions-only) only=true ;;
    --seconds) seconds=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --dry) dry=true ;;
    *) sed -n '2,14s/^# \{0,1\}//p' scripts/bench.sh >&2; exit 2 ;;
  esac
  shift
done

# shellcheck source=scripts/tools.sh
source scripts/tools.sh

# Instructions repeat exactly, whatever else runs here. The binary is one of this machine's libc, as valgrind likes it best.
count_instructions() {
  cargo build --locked --quiet --release --package entra-sidecar >&2
  cargo build --locked --quiet --package local-tenant >&2
  scripts/instructions.py "${CARGO_TARGET_DIR:-target}/release/entra-sidecar" "${CARGO_TARGET_DIR:-target}/debug/local-tenant"
}
need_rust
need python3 python3
if $instructions || $only; then need valgrind valgrind; fi
if $only; then
  count_instructions
  exit
fi

need wrk wrk
need curl curl ca-certificates
# Debian's nginx lies where only root looks.
PATH=$PATH:/usr/sbin
need nginx nginx-light

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

if [ -n "${BENCH_BINARY:-}" ]; then
  binary=$BENCH_BINARY
else
  say "building the static binary"
  binary=$(scripts/build-static.sh | tail -1)
fi
say "building the stand-in for Entra"
cargo build --locked --quiet --package local-tenant
tenant=${CARGO_TARGET_DIR:-target}/debug/local-tenant
linkage=dynamic
if have readelf && ! readelf --program-headers --wide "$binary" | grep -q INTERP; then linkage=static; fi

ask() { curl -q --noproxy '*' --silent --show-error --fail --max-time 120 "$@"; }
free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
  done
}

start_tenant "$tenant"
cat >"$work/appsettings.json" <<JSON
{
  "AzureAd": {
    "Instance": "$BASE_URL/",
    "TenantId": "$TENANT_ID",
    "ClientId": "$CLIENT_ID",
    "ClientCredentials": [{ "SourceType": "ClientSecret", "ClientSecret": "$CLIENT_SECRET" }]
  },
  "DownstreamApis": {
    "reports": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true }
  }
}
JSON

# Starts a sidecar with further arguments; sets `pid` and `url`.
start_sidecar() { # name [argument...]
  local name=$1
  shift
  env -i "$binary" serve --config "$work/appsettings.json" --urls http://127.0.0.1:0 "$@" >"$work/$name" 2>&1 &
  pid=$!
  pids+=("$pid")
  await "$work/$name" 'is ready'
  await "$work/$name" 'signing keys'
  url=$(address_in "$work/$name")
}
# Resident memory, and how much of it is the process's own rather than pages of its file.
rss() { awk '/^VmRSS:/ { all = $2 } /^RssAnon:/ { own = $2 } END { printf "%.1f MiB, of which %.1f MiB anonymous", all / 1024, own / 1024 }' "/proc/$1/status"; }
# CPU time of processes so far, in microseconds: fields 14 and 15 of stat, counted after the name, which may hold spaces.
cpu() {
  local pid total=0 fields
  for pid in "$@"; do
    read -r -a fields < <(sed 's/.*) //' "/proc/$pid/stat")
    total=$((total + fields[11] + fields[12]))
  done
  echo $((total * 1000000 / $(getconf CLK_TCK)))
}
# Context switches of processes so far, wanted and not: a line for each thread.
switches() {
  local process
  for process in "$@"; do cat "/proc/$process"/task/*/status; done |
    awk '/^Pid:/ { thread = $2 } /ctxt_switches:/ { all[thread] += $2 } END { for (thread in all) print thread, all[thread] }'
}
# What was added between two of them. A thread that ended in between takes its count away, so it is left out.
switched() { # before after
  awk 'NR == FNR { before[$1] = $2; next } { all += $2 - before[$1] } END { print all + 0 }' <(echo "$1") <(echo "$2")
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# --- Start, memory, threads -----------------------------------------------------------------------------------------

say "time from exec to the first answer"
port=$(free_port)
for _ in $(seq 21); do
  began=${EPOCHREALTIME/./}
  env -i "$binary" serve --config "$work/appsettings.json" --urls "http://127.0.0.1:$port" >/dev/null 2>&1 &
  once=$!
  until { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; do
    kill -0 "$once" || { say "the sidecar did not start"; exit 1; }
  done
  printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3
  read -r -t 5 _ <&3
  echo $((${EPOCHREALTIME/./} - began)) >>"$work/starts"
  exec 3>&-
  kill "$once"
  wait "$once" || true
done
start_ms=$(median <"$work/starts" | awk '{ printf "%.1f ms", $1 / 1000 }')

say "memory"
start_sidecar memory
sleep 1
idle=$(rss "$pid")
threads=$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)
ask --output /dev/null \
  "$url/AuthorizationHeaderUnauthenticated/reports?optionsOverride.AcquireTokenOptions.FmiPath=p/[1-10000]"
cached=$(ask "$url/metrics" | awk '/^entra_sidecar_token_cache_entries / { print $2 }')
cached_bytes=$(ask "$url/metrics" | awk '/^entra_sidecar_token_cache_bytes / { print $2 }')
full=$(rss "$pid")
kill "$pid"
[ "$cached" -ge 10000 ] || { say "only $cached tokens are cached"; exit 1; }
many_row=
if $many; then
  start_sidecar many --set Sidecar:Limits:TokenCacheEntries=100000 --set Sidecar:Limits:TokenCacheBytes=512MiB
  ask --parallel --parallel-max 8 --output /dev/null \
    "$url/AuthorizationHeaderUnauthenticated/reports?optionsOverride.AcquireTokenOptions.FmiPath=p/[1-100000]" 2>/dev/null
  many_cached=$(ask "$url/metrics" | awk '/^entra_sidecar_token_cache_entries / { print $2 }')
  many_row=$'\n'"| resident memory with $many_cached cached tokens | $(rss "$pid") |"
  kill "$pid"
fi

# --- Throughput -----------------------------------------------------------------------------------------------------

# An API that never answers: the kernel takes the connections, and no one reads from them.
python3 -c '
import socket, time
hanging = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2)]
print(*(one.getsockname()[1] for one in hanging), flush=True)
time.sleep(86400)' >"$work/hanging" &
pids+=($!)
await "$work/hanging" ' '
read -r -a hanging <"$work/hanging"

# nginx answers bodies of the same size from its configuration: no file, no log. Another nginx is the API, and a third one
# the proxy before it that the sidecar's calls are compared with.
port=$(free_port) proxy_port=$(free_port) api_port=$(free_port)
api=(--set "Sidecar:Limits:DownstreamTimeout=1000")
for name in small medium large; do
  api+=(--set "DownstreamApis:$name:BaseUrl=http://127.0.0.1:$api_port/$name" --set "DownstreamApis:$name:Scopes=$DOWNSTREAM_APP_SCOPE")
done
api+=(--set "DownstreamApis:api:BaseUrl=http://127.0.0.1:$api_port" --set "DownstreamApis:api:Scopes=$DOWNSTREAM_APP_SCOPE")
for name in 0 1; do
  api+=(--set "DownstreamApis:hanging$name:BaseUrl=http://127.0.0.1:${hanging[name]}" --set "DownstreamApis:hanging$name:Scopes=$DOWNSTREAM_APP_SCOPE")
done
start_sidecar main "${api[@]}" --set "DownstreamApis:users:Scopes=$DOWNSTREAM_SCOPE"
sidecar_url=$url sidecar_pid=$pid
token=$(ask "$BASE_URL/_control/mint")
ask "$sidecar_url/AuthorizationHeaderUnauthenticated/reports" >"$work/token.body"
ask "$sidecar_url/AuthorizationHeader/users" -H "Authorization: Bearer $token" >"$work/user.body"
ask "$sidecar_url/Validate" -H "Authorization: Bearer $token" >"$work/validate.body"
ask "$sidecar_url/healthz" >"$work/healthz.body"

filler() { head -c "$(stat -c %s "$work/$1.body")" /dev/zero | tr '\0' x; }
# JSON as APIs send it: a tenth of its characters are quotes, which the sidecar's own JSON has to escape.
mkdir "$work/api"
printf '{"hello":"world"}' >"$work/api/small"
python3 -c 'print(("{\"value\":[" + "{\"id\":12345678,\"displayName\":\"Adele Vance\"}," * 2400)[:102400], end="")' >"$work/api/medium"
for _ in $(seq 100); do cat "$work/api/medium"; done >"$work/api/large"

# Starts an nginx of two workers with the given server; sets `started` to its workers.
start_nginx() { # name port: what stands in `http` on standard input
  local name=$1 tries=0
  cat >"$work/$name.conf" <<NGINX
daemon off;
worker_processes 2;
pid $work/$name.pid;
error_log $work/$name.log crit;
events { worker_connections 4096; }
http {
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  sendfile on;
  client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work; uwsgi_temp_path $work; scgi_temp_path $work;
$(cat)
}
NGINX
  nginx -c "$work/$name.conf" -p "$work" >"$work/$name.out" 2>&1 &
  local master=$!
  pids+=("$master")
  until ask "http://127.0.0.1:$2/healthz" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { say "nginx did not start:"; cat "$work/$name.out" >&2; exit 1; }
    sleep 0.05
  done
  mapfile -t started < <(tr ' ' '\n' <"/proc/$master/task/$master/children" | sed '/^$/d')
}
start_nginx fixed "$port" <<NGINX
  server {
    listen 127.0.0.1:$port backlog=4096;
    location = /token { return 200 "$(filler token)"; }
    location = /user { return 200 "$(filler user)"; }
    location = /validate { return 200 "$(filler validate)"; }
    location = /healthz { return 200 "$(filler healthz)"; }
  }
NGINX
nginx_workers=("${started[@]}")
start_nginx api "$api_port" <<NGINX
  server {
    listen 127.0.0.1:$api_port backlog=4096;
    root $work/api;
    location = /healthz { return 200 "up"; }
    location = /small { return 200 "{\"hello\":\"world\"}"; }
  }
NGINX
start_nginx proxy "$proxy_port" <<NGINX
  upstream api { server 127.0.0.1:$api_port; keepalive 256; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:$proxy_port backlog=4096;
    location / {
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_max_temp_file_size 0;
    }
  }
NGINX
proxy_workers=("${started[@]}")
nginx_url=http://127.0.0.1:$port proxy_url=http://127.0.0.1:$proxy_port

# wrk prints for people; this prints one line of figures.
cat >"$work/report.lua" <<'LUA'
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
LUA
# The same, with another token for each request.
cat >"$work/distinct.lua" <<'LUA'
local requests, at = {}, 0
init = function(arguments)
  for token in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", "/Validate", { ["Authorization"] = "Bearer " .. token, ["Host"] = "localhost" })
  end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
LUA
cat "$work/report.lua" >>"$work/distinct.lua"

# One measurement: appends "case connections round server requests/s p50 p99 cpu_us_per_request switches_per_request".
measure() { # case connections round server pids wrk-arguments...
  local case=$1 count=$2 round=$3 server=$4 processes=$5 before after line fields counts
  shift 5
  read -r -a processes <<<"$processes"
  counts=$(switches "${processes[@]}")
  before=$(cpu "${processes[@]}")
  line=$(wrk --threads 1 --connections "$count" --duration "${seconds}s" --timeout 5s "$@" | grep '^RESULT ')
  after=$(cpu "${processes[@]}")
  counts=$(switched "$counts" "$(switches "${processes[@]}")")
  read -r -a fields <<<"$line"
  [ "${fields[5]}" -eq 0 ] || { say "$server answered $case with errors: $line"; exit 1; }
  awk -v c="$case" -v n="$count" -v r="$round" -v s="$server" -v q="${fields[1]}" -v d="${fields[2]}" \
    -v p50="${fields[3]}" -v p99="${fields[4]}" -v cpu="$((after - before))" -v w="$counts" \
    'BEGIN { printf "%s %d %d %s %.0f %d %d %.2f %.3f\n", c, n, r, s, q * 1e6 / d, p50, p99, cpu / q, w / q }' >>"$work/results"
}

declare -A paths=(
  [token]=/AuthorizationHeaderUnauthenticated/reports
  [user]=/AuthorizationHeader/users
  [validate]=/Validate
  [healthz]=/healthz
)
call=/DownstreamApiUnauthenticated
pair() { # case connections round: the sidecar and nginx in turn
  local case=$1 count=$2 round=$3 header=(-H "Accept: */*")
  case $case in
    user | validate) header=(-H "Authorization: Bearer $token") ;;
    small | medium | large)
      measure "$case" "$count" "$round" sidecar "$sidecar_pid" -s "$work/report.lua" "$sidecar_url$call/$case"
      measure "$case" "$count" "$round" nginx "${proxy_workers[*]}" -s "$work/report.lua" "$proxy_url/$case"
      return
      ;;
    passed-*)
      local file=${case#passed-}
      measure "$case" "$count" "$round" sidecar "$sidecar_pid" -s "$work/report.lua" "$sidecar_url/ProxyUnauthenticated/api/$file"
      measure "$case" "$count" "$round" nginx "${proxy_workers[*]}" -s "$work/report.lua" "$proxy_url/$file"
      return
      ;;
  esac
  measure "$case" "$count" "$round" sidecar "$sidecar_pid" -s "$work/report.lua" "${header[@]}" "$sidecar_url${paths[$case]}"
  measure "$case" "$count" "$round" nginx "${nginx_workers[*]}" -s "$work/report.lua" "${header[@]}" "$nginx_url/$case"
}
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  for count in "${connections[@]}"; do
    for case in token user validate healthz; do pair "$case" "$count" "$round"; done
  done
  for count in 1 8 64; do pair small "$count" "$round"; done
  pair medium 8 "$round"
  pair large 4 "$round"
  for count in 8 64; do pair passed-small "$count" "$round"; done
  pair passed-large 4 "$round"
done

say "with as many calls hanging as there may be"
beside() { # what is beside: cached answers and validation at 16 connections
  local case header=(-H "Authorization: Bearer $token")
  for case in token user validate healthz; do
    measure "$1-$case" 16 "$2" sidecar "$sidecar_pid" -s "$work/report.lua" "${header[@]}" "$sidecar_url${paths[$case]}"
  done
}
for round in $(seq "$rounds"); do beside free "$round"; done
holders=()
for name in 0 1; do
  wrk --threads 1 --connections $((576 - name * 384)) --duration 600s --timeout 600s "$sidecar_url$call/hanging$name" >/dev/null &
  holders+=($!)
  pids+=($!)
done
until [ "$(ask "$sidecar_url/metrics" | awk '/upstream_calls.*active/ { print $2 }')" -ge 768 ]; do
  kill -0 "${holders[@]}" || { say "768 calls never hung"; exit 1; }
  sleep 0.1
done
for round in $(seq "$rounds"); do beside held "$round"; done
kill "${holders[@]}"
wait "${holders[@]}" || true

loaded=$(rss "$sidecar_pid")

say "tokens never seen before"
# Nothing is remembered, so that each token's signature is verified however often it comes.
start_sidecar distinct --set Sidecar:Limits:ValidatedTokens=1
ask "$BASE_URL/_control/mint?claim.number=[1-1000]" --output "$work/token-#1" >/dev/null
for file in "$work"/token-*; do cat "$file"; echo; done >"$work/tokens"
for round in $(seq "$rounds"); do
  measure distinct 16 "$round" sidecar "$pid" -s "$work/distinct.lua" "$url" "$work/tokens"
done
verify=
if have openssl; then
  verify=$(openssl speed -seconds 1 rsa2048 2>/dev/null |
    awk '/^rsa 2048/ { sub("s", "", $5); printf " (OpenSSL needs %.1f µs for the RSA-2048 verification alone)", $5 * 1e6 }')
fi

say "crowds"
scripts/crowd.py "$binary" >"$work/crowds"

say "doors"
scripts/doors.py "$binary" "$tenant" --rounds "$rounds" >"$work/doors"

# --- Report ---------------------------------------------------------------------------------------------------------

# The ratio is taken of each pair that ran side by side; the median of these counts, and their range shows the noise.
table() {
  awk '
    function sort(v, n,   i, j, x) { for (i = 2; i <= n; i++) { x = v[i]; for (j = i - 1; j > 0 && v[j] > x; j--) v[j + 1] = v[j]; v[j + 1] = x } }
    function middle(key, column,   i, n, v) { n = count[key]; for (i = 1; i <= n; i++) v[i] = value[key, column, i]; sort(v, n); return v[int((n + 1) / 2)] }
    function thousands(x,   s) { s = sprintf("%.0f", x); while (match(s, /[0-9][0-9][0-9][0-9]($|,)/)) s = substr(s, 1, RSTART) "," substr(s, RSTART + 1); return s }
    BEGIN {
      name["token"] = "`/AuthorizationHeaderUnauthenticated`, cached"; name["user"] = "`/AuthorizationHeader` on behalf of a user, cached"; name["validate"] = "`/Validate`, token seen before"; name["healthz"] = "`/healthz`"
      name["small"] = "`/DownstreamApiUnauthenticated`, 17 bytes, beside `proxy_pass`"; name["medium"] = "the same, 100 KiB of JSON"; name["large"] = "the same, 10 MiB of JSON"
      name["passed-small"] = "`/ProxyUnauthenticated`, 17 bytes, beside `proxy_pass`"; name["passed-large"] = "the same, 10 MiB of JSON"
      print "| request | connections | requests/s | nginx | ratio (range) | p50 | p99 | p99, nginx | CPU a request | nginx | context switches a request | nginx |"
      print "|---|---|---|---|---|---|---|---|---|---|---|---|"
    }
    $1 !~ /^(distinct$|held-|free-)/ {
      key = $1 " " $2 " " $4; count[key]++
      for (c = 5; c <= 9; c++) value[key, c, count[key]] = $c
      if (!(($1, $2) in seen)) { seen[$1, $2] = 1; order[++rows] = $1 " " $2 }
    }
    END {
      cases = split("token user validate healthz small medium large passed-small passed-large", wanted, " ")
      for (c = 1; c <= cases; c++) for (r = 1; r <= rows; r++) {
        split(order[r], part, " ")
        if (part[1] != wanted[c]) continue
        a = order[r] " sidecar"; b = order[r] " nginx"; n = count[a]
        for (i = 1; i <= n; i++) ratio[i] = value[a, 5, i] / value[b, 5, i]
        sort(ratio, n)
        printf "| %s | %d | %s | %s | **%.2f** (%.2f–%.2f) | %d µs | %d µs | %d µs | %.1f µs | %.1f µs | %.2f | %.2f |\n", name[part[1]], part[2],
          thousands(middle(a, 5)), thousands(middle(b, 5)), ratio[int((n + 1) / 2)], ratio[1], ratio[n],
          middle(a, 6), middle(a, 7), middle(b, 7), middle(a, 8), middle(b, 8), middle(a, 9), middle(b, 9)
      }
    }' "$work/results"
}
# 99th percentiles beside calls that hang, and of the same requests without them.
held() {
  echo '| request, 16 connections | p99 with 768 calls hanging | p99 without |'
  echo '|---|---|---|'
  local case
  for case in token user validate healthz; do
    echo "| \`${paths[$case]}\` | $(awk -v c="held-$case" '$1 == c { print $7 }' "$work/results" | median) µs | $(awk -v c="free-$case" '$1 == c { print $7 }' "$work/results" | median) µs |"
  done
}
distinct_cpu=$(awk '$1 == "distinct" { print $8 }' "$work/results" | median)
distinct_rate=$(awk '$1 == "distinct" { print $5 }' "$work/results" | median)
size=$(stat -c %s "$binary")

report() {
  cat <<MARKDOWN
<!-- Made by scripts/bench.sh. -->
# Performance

Measured on $(date -u +%F) at commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown) by \`scripts/bench.sh\`: $(nproc) cores of
$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), Linux $(uname -r); $(nginx -v 2>&1 | sed 's/.*: //'), two workers, \`return 200\` with a body
of the same size; wrk, one thread, on the same cores, over loopback with keep-alive; medians over rounds ($rounds) of $seconds s each, in alternation.
In the rows of \`/DownstreamApiUnauthenticated\` and \`/ProxyUnauthenticated\` the comparison is an nginx that passes the same call on to the same API (\`proxy_pass\` with keep-alive); the API is an
nginx of its own. The answer of \`/DownstreamApiUnauthenticated\` is JSON that holds the API's body as a string: it escapes what nginx passes on as it is.
Ratios depend on the machine, too: on an Intel Xeon, calls of 17 bytes reached 0.47 and 0.36 of nginx (\`/DownstreamApiUnauthenticated\` at 8 and 64 connections) and 0.59 and 0.55 (\`/ProxyUnauthenticated\`) on 2026-11-30.
Where other programs run on the machine, believe the ratios (of each pair that ran side by side), and those only as far as their range is narrow.

![Requests a second and 99th percentiles over connections, beside nginx](performance-connections.svg)

$(table)

$(held)

## Cached answers by endpoint

\`scripts/doors.py\`: cached tokens and validated tokens by every endpoint that gives them, each in alternation with \`/AuthorizationHeader\` where it judges a
user's token, else with \`/AuthorizationHeaderUnauthenticated\`. Longer requests and answers cost what they cost: a token exchange brings a token of 1 KiB in its body.

$(cat "$work/doors")

## Many callers at once

\`scripts/crowd.py\`: callers with a connection each, all at once, Entra and the APIs beside them in Python on the same cores.
At most 576 calls of one origin are under way at once, three quarters of \`Sidecar:Limits:UpstreamCalls\`; the callers beyond wait without a thread.

![Memory over waiting calls](performance-waiting.svg)

$(cat "$work/crowds")

## One process

| what | measured |
|---|---|
| \`/Validate\` of an RS256 token never seen, 16 connections | $distinct_rate requests/s, $distinct_cpu µs CPU a request$verify |
| resident memory, idle | $idle |
| resident memory after the load above | $loaded |
| resident memory with $cached cached tokens ($((cached_bytes / 1024)) KiB of tokens) | $full |$many_row
| from \`exec\` to the first answer, median of 21 | $start_ms |
| threads | $threads |
| binary, $linkage, stripped, default features | $size bytes |
MARKDOWN
  if $instructions; then
    cat <<'MARKDOWN'

## Instructions

Counted by callgrind (`scripts/bench.sh --instructions-only`), which repeats exactly: the figure to watch. It knows no SHA extensions, so hashing weighs far
more here than on a processor.

MARKDOWN
    count_instructions
    cat <<'MARKDOWN'

## Hostile tokens

What refusing a token costs beside accepting a good one of its kind, when nothing is remembered (`cargo bench --bench hostile_tokens`, which fails above twice as much).

MARKDOWN
    cargo bench --locked --quiet --bench hostile_tokens
  fi
}
report >"$work/performance.md"
# What is written by hand stays.
if grep -q '^<!-- by hand -->' docs/performance.md; then
  { echo; sed -n '/^<!-- by hand -->/,$p' docs/performance.md; } >>"$work/performance.md"
fi
cat "$work/performance.md"

# The README's excerpt: what a caller beside the sidecar is likely to see.
excerpt() {
  echo '| 16 connections | requests/s | as a ratio to nginx (range) | p50 | p99 | CPU a request |'
  echo '|---|---|---|---|---|---|'
  # Rows of twelve columns compare with nginx; those of the endpoints among each other have five.
  awk -F' [|] ' 'NF == 12 && $2 == 16 { print $1 " | " $3 " | " $5 " | " $6 " | " $7 " | " $9 " |" }' "$work/performance.md"
  echo
  echo "Resident memory: $idle; with $cached cached tokens $full. From \`exec\` to the first answer: $start_ms. Binary: $size bytes ($linkage)."
}
if ! $dry; then
  cp "$work/performance.md" docs/performance.md
  scripts/plots.py docs/performance.md docs
  excerpt >"$work/excerpt"
  sed -i -e "/^<!-- figures -->/,/^<!-- end -->/{
    /^<!-- figures -->/r $work/excerpt
    /^<!--/!d
  }" README.md
  say "written to docs/performance.md and README.md"
fi
