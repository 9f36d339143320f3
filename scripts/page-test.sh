#!/usr/bin/env bash
# Looks at the page of the environment Development in headless Chromium (Debian: apt-get install chromium).
#
#   scripts/page-test.sh            tries it
#   scripts/page-test.sh --keep     and puts the pictures that it takes into docs/
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  '') keep=false ;;
  --keep) keep=true ;;
  *) echo "usage: scripts/page-test.sh [--keep]" >&2; exit 2 ;;
esac

command -v python3 >/dev/null || { echo "page-test: skipped: no Python here"; exit 0; }
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  { echo "page-test: skipped: no Chromium here"; exit 0; }

cargo build --locked --quiet --package entra-sidecar --package local-tenant
bin=${CARGO_TARGET_DIR:-target}/debug

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

start_tenant "$bin/local-tenant"
cat tests/local-tenant/keys/client-1.crt.pem tests/local-tenant/keys/client-1.pem >"$work/client.pem"
cat >"$work/appsettings.json" <<JSON
{
  "AzureAd": {
    "Instance": "$BASE_URL/",
    "TenantId": "$TENANT_ID",
    "ClientId": "$CLIENT_ID",
    "ClientCredentials": [
      { "SourceType": "ClientSecret", "ClientSecret": "$CLIENT_SECRET" },
      { "SourceType": "Path", "CertificateDiskPath": "$work/client.pem" }
    ]
  },
  "Partner": {
    "Instance": "$BASE_URL/",
    "TenantId": "$TENANT_ID",
    "ClientId": "$OTHER_CLIENT_ID",
    "ClientCredentials": [{ "SourceType": "ClientSecret", "ClientSecret": "$OTHER_CLIENT_SECRET" }]
  },
  "DownstreamApis": {
    "orders": { "BaseUrl": "$DOWNSTREAM_URL", "RelativePath": "orders", "Scopes": ["$DOWNSTREAM_SCOPE"] },
    "reports": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true },
    "partners": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true,
                  "AcquireTokenOptions": { "AuthenticationOptionsName": "Partner" } }
  }
}
JSON
# Another port of loopback is another origin, and so the tenant's pages are foreign ones.
env -i "$bin/entra-sidecar" serve --config "$work/appsettings.json" --environment Development --urls http://127.0.0.1:0 \
  >"$work/log" 2>&1 &
pids+=("$!")
await "$work/log" 'signing keys from'
sidecar=$(address_in "$work/log")

ask() { curl -q --noproxy '*' --silent --output /dev/null --max-time 30 "$@"; }
token() { curl -q --noproxy '*' --silent --fail "$BASE_URL/_control/mint?user=alice$1"; }
ask "$sidecar/AuthorizationHeaderUnauthenticated/reports"
ask "$sidecar/AuthorizationHeader/orders" -H "Authorization: Bearer $(token '')"
ask "$sidecar/Validate" -H "Authorization: Bearer $(token '&expires_in=-3600')"
ask "$sidecar/DownstreamApiUnauthenticated/reports?optionsOverride.Scopes=User.Read"
ask "$sidecar/AuthorizationHeaderUnauthenticated/invoices"

python3 scripts/page.py "$sidecar" "$BASE_URL" "$work"
if $keep; then
  for picture in page.png page-dark.png; do
    # Of 64 colours there is more than enough.
    if command -v pngquant >/dev/null; then
      pngquant --force --strip --speed 1 --output "docs/$picture" 64 "$work/$picture"
    else
      cp "$work/$picture" docs/
    fi
  done
fi
echo "page-test: the page fills its tables, judges tokens, and is of no use to other origins"
