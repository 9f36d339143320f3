#!/usr/bin/env bash
# Holds the OpenAPI document against its standard, and the running sidecar against the document: generated requests, whose answers
# must have the status, the headers and the body that are described there.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(scripts/python-tools.sh) || { echo "openapi-test: skipped: no Python tools here"; exit 0; }
cargo build --locked --quiet --package entra-sidecar --package local-tenant
bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

"$bin/entra-sidecar" openapi >"$work/openapi.json"
"$tools/openapi-spec-validator" "$work/openapi.json" >"$work/verdict" || { cat "$work/verdict"; exit 1; }

start_tenant "$bin/local-tenant"
env -i "AzureAd__Instance=$BASE_URL/" "AzureAd__TenantId=$TENANT_ID" "AzureAd__ClientId=$CLIENT_ID" \
  AzureAd__ClientCredentials__0__SourceType=ClientSecret "AzureAd__ClientCredentials__0__ClientSecret=$CLIENT_SECRET" \
  "DownstreamApis__orders__BaseUrl=$DOWNSTREAM_URL" "DownstreamApis__orders__Scopes=$DOWNSTREAM_SCOPE" \
  "DownstreamApis__reports__BaseUrl=$DOWNSTREAM_URL" "DownstreamApis__reports__Scopes=$DOWNSTREAM_APP_SCOPE" \
  "$bin/entra-sidecar" --environment Development --urls http://127.0.0.1:0 >"$work/log" 2>&1 &
sidecar=$!
pids+=("$sidecar")
await "$work/log" 'signing keys'
address=$(address_in "$work/log")
token=$(curl -q --noproxy '*' --silent --fail "$BASE_URL/_control/mint?user=alice")

# Not asked for: that every 5xx is a defect (Entra's refusals are 500 here, as documented), that
# every generated value is accepted (a scope or tenant that nobody knows is none), that a missing
# token is found before a contradiction in the query, that /Validate answers 401 without a token (it
# is 400, as in the original), that /ForwardAuth and /Proxy* refuse methods that the document leaves
# out (they take any), and that a body which says it is JSON and is none is refused where bodies go
# on to the API as they are.
for api in orders reports; do
  cat >"$work/schemathesis.toml" <<TOML
headers = { Authorization = "Bearer $token" }
[parameters]
"path.apiName" = "$api"
[[operations]]
include-path = "/Validate"
checks = { ignored_auth = { enabled = false } }
[[operations]]
include-path = "/ForwardAuth"
checks = { unsupported_method = { enabled = false } }
[[operations]]
include-path-regex = "^/Proxy"
checks = { unsupported_method = { enabled = false }, negative_data_rejection = { enabled = false } }
[[operations]]
include-path-regex = "^/DownstreamApi"
checks = { negative_data_rejection = { enabled = false } }
[[operations]]
include-path = "/identity/token"
parameters = { "resource" = "api://downstream", "api-version" = "2019-08-01", "client_id" = "$CLIENT_ID" }
TOML
  (
    cd "$work"
    NO_PROXY='*' timeout 600 "$tools/st" --config-file "$work/schemathesis.toml" run "$address/openapi/v1.json" \
      --phases examples,coverage,fuzzing --max-examples "${OPENAPI_EXAMPLES:-15}" --seed 1 --request-timeout 10 \
      --exclude-checks not_a_server_error,positive_data_acceptance,missing_required_header --no-color
  ) >"$work/verdict" 2>&1 || { cat "$work/verdict"; exit 1; }
  echo "openapi-test: $api: $(grep -E '[0-9]+ generated' "$work/verdict" | tr -s ' ')"
done
kill -0 "$sidecar"
curl -q --noproxy '*' --silent --fail "$address/metrics" >"$work/metrics"
grep -qx 'entra_sidecar_panics_total 0' "$work/metrics" || { echo "openapi-test: the program panicked" >&2; exit 1; }
# Enough of it must have been good for the answers of success to be judged as well.
for endpoint in /Validate '/AuthorizationHeader/{serviceName}' '/AuthorizationHeaderUnauthenticated/{serviceName}' \
  '/DownstreamApi/{serviceName}' '/DownstreamApiUnauthenticated/{serviceName}' /ForwardAuth /identity/token /healthz /metrics \
  /openapi/v1.json / '/oauth2/token/{serviceName}' /oauth2/introspect; do
  case $endpoint in /oauth2/*) method=POST ;; *) method=GET ;; esac
  grep -qF "http_requests_total{endpoint=\"$endpoint\",method=\"$method\",status=\"200\"}" "$work/metrics" ||
    { echo "openapi-test: $endpoint never succeeded" >&2; exit 1; }
done
