#!/usr/bin/env bash
# Runs docs/examples, the real clients in tests/clients and Prometheus against a local stand-in for
# Entra, and compares what they say with what they should. scripts/clients.sh has the clients;
# python3 with venv, node with npm and Prometheus are installed where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/tools.sh
source scripts/tools.sh

fail() { echo "examples: $*" >&2; exit 1; }
skip() { echo "examples: skipped: $1"; exit 0; }

need curl curl ca-certificates
if ! { need node nodejs && need npm npm && need prometheus prometheus; }; then skip "not all of Node, npm and Prometheus can be had"; fi
python3 -c 'import venv, ensurepip' 2>/dev/null || install_packages python3 python3-venv || skip "Python makes no environments here"
target=${CARGO_TARGET_DIR:-target}
clients=$(scripts/clients.sh) || skip "the clients cannot be had"
venv=$clients/venv

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

cargo build --locked --quiet --package entra-sidecar --package local-tenant
start_tenant "$target/debug/local-tenant"
cat >"$work/appsettings.json" <<JSON
{
  "AzureAd": {
    "Instance": "$BASE_URL/",
    "TenantId": "$TENANT_ID",
    "ClientId": "$CLIENT_ID",
    "ClientCredentials": [{ "SourceType": "ClientSecret", "ClientSecret": "$CLIENT_SECRET" }]
  },
  "DownstreamApis": {
    "orders": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_SCOPE"] },
    "reports": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true },
    "default": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"] },
    "openai": { "BaseUrl": "$BASE_URL/", "Scopes": ["https://cognitiveservices.azure.com/.default"] },
    "graph": { "BaseUrl": "$BASE_URL/", "Scopes": ["https://graph.microsoft.com/.default"] },
    "blob": { "BaseUrl": "$BASE_URL/blob/", "Scopes": ["https://storage.azure.com/.default"] },
    "agenticblueprint": { "Scopes": ["api://AzureAdTokenExchange/.default"], "RequestAppToken": true },
    // Nobody has started this session: the one case in which these endpoints answer 401.
    "session": { "Scopes": ["$DOWNSTREAM_SCOPE"], "AcquireTokenOptions": { "LongRunningWebApiSessionKey": "none" } }
  },
  "Sidecar": { "IdentityEndpoint": { "Resources": "https://vault.azure.net" } }
}
JSON
env -i "$target/debug/entra-sidecar" serve --config "$work/appsettings.json" --urls http://127.0.0.1:0 >"$work/log" 2>&1 &
pids+=($!)
await "$work/log" 'signing keys'
SIDECAR=$(address_in "$work/log")
# SDKs send tokens over https alone.
python3 tests/clients/tls.py "${BASE_URL#http://}" >"$work/tls" 2>&1 &
pids+=($!)
await "$work/tls" '^port'
HTTPS=https://localhost:$(cut -d' ' -f2 <"$work/tls")
ROOT=$PWD/tests/data/tls/root.pem
TOKEN=$(curl -q --noproxy '*' --silent --show-error --fail "$BASE_URL/_control/mint?user=alice")

# Runs a program with this machine's proxies out of its way; every pattern must be in what it prints.
expect() { # program... -- pattern...
  local command=() pattern
  while [ "$1" != -- ]; do command+=("$1"); shift; done
  shift
  env -i PATH="$PATH" HOME="$work" no_proxy='*' SIDECAR="$SIDECAR" TOKEN="$TOKEN" TENANT="$BASE_URL" TENANT_ID="$TENANT_ID" \
    CLIENT_ID="$CLIENT_ID" AGENT_ID="$AGENT_ID" AGENT_USERNAME="$AGENT_USERNAME" AGENT_USER_ID=0b1ec700-0000-4000-8000-000000000006 \
    API="${DOWNSTREAM_URL}open" AUTHLIB_INSECURE_TRANSPORT=1 OAUTHLIB_INSECURE_TRANSPORT=1 \
    SCOPE="$DOWNSTREAM_SCOPE" APP_SCOPE="$DOWNSTREAM_APP_SCOPE" GRAPH_SCOPE=https://graph.microsoft.com/.default \
    OTHER_SCOPE=https://management.azure.com/.default HTTPS="$HTTPS" ROOT="$ROOT" NODE_EXTRA_CA_CERTS="$ROOT" "${command[@]}" >"$work/out" 2>&1 ||
    { cat "$work/out" "$work/log" >&2; fail "${command[*]} failed"; }
  for pattern; do
    grep -qF -- "$pattern" "$work/out" || { cat "$work/out" >&2; fail "${command[*]} does not say: $pattern"; }
  done
  echo "${command[*]##*/}: as expected$(sed -n 's/^version: /, with /p' "$work/out")"
}

header='header: Bearer eyJ'
expect docs/examples/curl.sh -- "$header" '{"statusCode":200,' 'limit=3&sort=-date' '{\\\"year\\\":2026}' "Downstream API 'no-such-api' not configured"
app=('caller: alice@contoso.onmicrosoft.com' 'orders: /api/open' 'upload: 200' "$header" 'problem: 401 Unauthorized')
expect "$venv/bin/python" docs/examples/app.py -- "${app[@]}"
expect node docs/examples/app.mjs -- "${app[@]}"
expect "$venv/bin/python" docs/examples/agent.py -- 'healthy: True' "application: token of $CLIENT_ID" "agent: token of $AGENT_ID" \
  "agent user: token of $AGENT_ID" 'user 0b1ec700-0000-4000-8000-000000000006, scopes read' 'blueprint: token of'
expect "$venv/bin/python" tests/clients/agents_sdk.py -- 'as its documentation says'

# Libraries that speak OAuth and know nothing of the sidecar.
expect "$venv/bin/python" tests/clients/oauth.py -- 'authlib, application: 200' 'authlib, user: 200 True' \
  "authlib, introspection: True {'active': False}" 'requests-oauthlib: 200'
# Modules are looked for beside the program.
modules=$work/node
mkdir "$modules"
ln -s "$clients/node/node_modules" "$modules/node_modules"
cp tests/clients/*.mjs "$modules/"
expect node "$modules/oauth.mjs" -- 'oauth4webapi, application: 200' 'oauth4webapi, user: 200' 'oauth4webapi, introspection: true' \
  'oauth4webapi, error: 400 invalid_request'

# SDKs whose base URL is the sidecar's pass-through.
errors='errors of the API and of the sidecar'
expect "$venv/bin/python" tests/clients/openai_sdk.py -- 'openai: a completion for the application' 'openai: a stream, piece by piece as it comes' \
  'openai: for a user' 'openai: for an agent and its user' 'openai: errors of the sidecar' 'openai: its own retries' 'AzureOpenAI: whole, streamed'
expect "$venv/bin/python" tests/clients/langchain_sdk.py -- 'langchain-openai: whole and streamed' 'langchain-openai: an error of the API'
expect node "$modules/openai_sdk.mjs" -- 'openai for Node: whole' 'openai for Node: for a user' "openai for Node: $errors" 'AzureOpenAI for Node: whole'
expect "$venv/bin/python" tests/clients/graph_sdk.py -- 'msgraph-core: a page' 'msgraph-core: every page' "msgraph-core: $errors"
expect node "$modules/graph_sdk.mjs" -- 'microsoft-graph-client: a page' 'microsoft-graph-client: every page' "microsoft-graph-client: $errors"

# Prometheus scrapes an API that lets nobody in without a token.
cat >"$work/prometheus.yaml" <<YAML
global: { scrape_interval: 1s }
scrape_configs:
  - job_name: with
    metrics_path: /api/metrics
    params: &answer { _body: [empty], _content_type: [text/plain] }
    static_configs: &targets [{ targets: ["${BASE_URL#http://}"] }]
    oauth2: { client_id: any, client_secret: any, token_url: "$SIDECAR/oauth2/token/reports" }
  - { job_name: without, metrics_path: /api/metrics, params: *answer, static_configs: *targets }
YAML
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
env -i PATH="$PATH" prometheus --config.file="$work/prometheus.yaml" --storage.tsdb.path="$work/prometheus" \
  --web.listen-address="127.0.0.1:$port" >"$work/prometheus.log" 2>&1 &
pids+=($!)
await "$work/prometheus.log" 'ready to receive'
for _ in $(seq 60); do
  curl -q --noproxy '*' --silent "http://127.0.0.1:$port/api/v1/query" --data-urlencode query=up >"$work/up" || true
  if grep -q '"job":"with"' "$work/up" && grep -q '"job":"without"' "$work/up"; then break; fi
  sleep 0.5
done
python3 - "$work/up" <<'PYTHON' || { cat "$work/up" "$work/prometheus.log" >&2; fail "prometheus gets no token"; }
import json, sys
up = {series["metric"]["job"]: series["value"][1] for series in json.load(open(sys.argv[1]))["data"]["result"]}
sys.exit(up != {"with": "1", "without": "0"})
PYTHON
echo "$(prometheus --version 2>&1 | head -1 | cut -d' ' -f1-3): as expected"

# Azure SDKs that get their tokens from the managed identity endpoint, and then call https services
# that verify these.
expect "$venv/bin/python" tests/clients/azure_sdk.py -- 'expires in an hour: True' "azure-identity: an agent's own token" \
  'azure-identity: refusals in their own words' 'msal: the same token, and the same refusal' \
  "azure-storage-blob: with the token of DefaultAzureCredential: ['a//b']" 'azure-keyvault-secrets: with the token of DefaultAzureCredential'

# Storage clients that have no credential, through pass-through.
storage=('a megabyte in blocks and back in ranges: 1000003' 'names arrive as they are' 'errors of the service in its own words')
expect "$venv/bin/python" tests/clients/storage.py -- "${storage[@]}"

# The same in Node, whose Azure SDKs ask for version 20. Debian 12 and Ubuntu 24.04 have 18, by which they get no token.
if [ "$(node --print 'process.versions.node.split(".")[0]')" -ge 20 ]; then
  expect node "$modules/azure_sdk.mjs" -- 'expires in an hour: true' "@azure/identity: an agent's own token" \
    '@azure/identity: refusals in their own words' '@azure/msal-node: the same token, and the same refusal' \
    '@azure/storage-blob: with the token' '@azure/keyvault-secrets: with the token'
  expect node "$modules/storage.mjs" -- "${storage[@]}"
else
  echo "examples: skipped: azure_sdk.mjs and storage.mjs need Node 20, and $(node --version) is here"
fi
