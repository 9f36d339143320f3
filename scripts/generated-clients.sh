#!/usr/bin/env bash
# Makes clients of the OpenAPI document with openapi-python-client (PyPI) and with
# openapi-typescript and openapi-fetch (npm), has tsc check the latter, and lets both call a running
# sidecar (tests/clients/generated).
set -euo pipefail
cd "$(dirname "$0")/.."

python_packages=(openapi-python-client==0.29.1)
node_packages=(openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3 @types/node@22.20.7)

skip() { echo "generated-clients: skipped: $1"; exit 0; }
for tool in python3 node npm curl; do command -v "$tool" >/dev/null || skip "$tool is not here"; done

# The list that was installed stands in the folder: another one makes it anew.
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/generated-clients")
if [ "$(cat "$folder/packages" 2>/dev/null)" != "${python_packages[*]} ${node_packages[*]}" ]; then
  rm -rf "$folder"
  mkdir -p "$folder"
  python3 -m venv "$folder/venv" || skip "Python makes no environments here"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}" || skip "PyPI gives no packages"
  echo '{ "private": true, "type": "module" }' >"$folder/package.json"
  npm install --silent --no-audit --no-fund --prefix "$folder" "${node_packages[@]}" || skip "npm gives no packages"
  echo "${python_packages[*]} ${node_packages[*]}" >"$folder/packages"
fi

cargo build --locked --quiet --package entra-sidecar --package local-tenant
bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

# A warning means that an operation or a type is left out. The client is not formatted: it is not
# read.
"$bin/entra-sidecar" openapi >"$folder/openapi.json"
echo 'post_hooks: []' >"$folder/generator.yaml"
rm -rf "$folder/sidecar" "$folder/client.js"
"$folder/venv/bin/openapi-python-client" generate --path "$folder/openapi.json" --output-path "$folder/sidecar" --meta none \
  --config "$folder/generator.yaml" --fail-on-warning >"$work/generated" 2>&1 || { cat "$work/generated"; exit 1; }
cp tests/clients/generated/* "$folder/"
(
  cd "$folder"
  node_modules/.bin/openapi-typescript openapi.json --output sidecar.d.ts >"$work/generated" 2>&1 || { cat "$work/generated"; exit 1; }
  node_modules/.bin/tsc --project .
)

start_tenant "$bin/local-tenant"
env -i "AzureAd__Instance=$BASE_URL/" "AzureAd__TenantId=$TENANT_ID" "AzureAd__ClientId=$CLIENT_ID" \
  AzureAd__ClientCredentials__0__SourceType=ClientSecret "AzureAd__ClientCredentials__0__ClientSecret=$CLIENT_SECRET" \
  "DownstreamApis__orders__BaseUrl=$DOWNSTREAM_URL" "DownstreamApis__orders__Scopes=$DOWNSTREAM_SCOPE" \
  "DownstreamApis__reports__BaseUrl=$DOWNSTREAM_URL" "DownstreamApis__reports__Scopes=$DOWNSTREAM_APP_SCOPE" \
  "$bin/entra-sidecar" --urls http://127.0.0.1:0 >"$work/log" 2>&1 &
pids+=($!)
await "$work/log" 'signing keys'
token=$(curl -q --noproxy '*' --silent --fail "$BASE_URL/_control/mint?user=alice")

for client in "$folder/venv/bin/python $folder/client.py" "node $folder/client.js"; do
  # shellcheck disable=SC2086 # a program and its file
  env -i PATH="$PATH" NO_PROXY='*' SIDECAR="$(address_in "$work/log")" TOKEN="$token" APP_SCOPE="$DOWNSTREAM_APP_SCOPE" $client ||
    { cat "$work/log"; exit 1; }
done
