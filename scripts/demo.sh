#!/usr/bin/env bash
# Shows every endpoint of the sidecar at work against a local stand-in for Entra and a web API: no Azure tenant is needed.
#
#   scripts/demo.sh           shows everything, then stays up for your own application until Ctrl-C
#   scripts/demo.sh --once    shows everything and ends; fails where an answer is not the expected one
#
# Rust, a C compiler and curl are fetched where they are missing (scripts/tools.sh). SIDECAR_BINARY names another binary than the
# one that is built.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  '') once=false ;;
  --once) once=true ;;
  *) echo "usage: scripts/demo.sh [--once]" >&2; exit 2 ;;
esac

# shellcheck source=scripts/tools.sh
source scripts/tools.sh
need_rust

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' red='' plain=''; fi

# The debug build: half the time of the release build, and fast enough to look at.
echo "Building (a minute or two the first time) ..."
cargo build --locked --quiet --package entra-sidecar --package local-tenant
bin=${CARGO_TARGET_DIR:-target}/debug
binary=${SIDECAR_BINARY:-$bin/entra-sidecar}

start_tenant "$bin/local-tenant"
TENANT=$BASE_URL

# What a user would write for a real tenant too; only the addresses differ.
cat >"$work/appsettings.json" <<JSON
{
  "AzureAd": {
    "Instance": "$BASE_URL/",
    "TenantId": "$TENANT_ID",
    "ClientId": "$CLIENT_ID",
    "ClientCredentials": [{ "SourceType": "ClientSecret", "ClientSecret": "$CLIENT_SECRET" }]
  },
  // A second app registration, for the APIs that name it.
  "Partner": {
    "Instance": "$BASE_URL/",
    "TenantId": "$TENANT_ID",
    "ClientId": "$OTHER_CLIENT_ID",
    "ClientCredentials": [{ "SourceType": "ClientSecret", "ClientSecret": "$OTHER_CLIENT_SECRET" }]
  },
  "DownstreamApis": {
    // Called as the user whose token comes in.
    "orders": { "BaseUrl": "$DOWNSTREAM_URL", "RelativePath": "orders", "Scopes": ["$DOWNSTREAM_SCOPE"] },
    // Called as the application itself.
    "reports": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true },
    // Wants signed requests.
    "vouchers": { "BaseUrl": "${DOWNSTREAM_URL}pop/", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true,
                  "AcquireTokenOptions": { "AuthenticationScheme": "PoP" } },
    // Called as another app registration.
    "partners": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true,
                  "AcquireTokenOptions": { "AuthenticationOptionsName": "Partner" } },
    // Called as the machine, by its managed identity: no credential at all.
    "storage": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["$DOWNSTREAM_APP_SCOPE"],
                 "AcquireTokenOptions": { "ManagedIdentity": { "UserAssignedClientId": "$USER_IDENTITY_CLIENT_ID" } } },
    // For the SDKs of docs/sdk.md.
    "openai": { "BaseUrl": "$BASE_URL/", "Scopes": ["https://cognitiveservices.azure.com/.default"] },
    "graph": { "BaseUrl": "$BASE_URL/", "Scopes": ["https://graph.microsoft.com/.default"] },
    "blob": { "BaseUrl": "$BASE_URL/blob/", "Scopes": ["https://storage.azure.com/.default"] },
    // Nobody consented to this one.
    "mail": { "BaseUrl": "$DOWNSTREAM_URL", "Scopes": ["https://graph.microsoft.com/Mail.Send"] },
    // Cannot be reached.
    "absent": { "BaseUrl": "http://127.0.0.1:9/", "Scopes": ["$DOWNSTREAM_APP_SCOPE"], "RequestAppToken": true }
  }
}
JSON

# An empty environment: settings and proxies of this machine are no part of the demo.
# Development, for then the sidecar also shows its OpenAPI document and its page.
env -i AZURE_POD_IDENTITY_AUTHORITY_HOST="$BASE_URL" "$binary" serve --config "$work/appsettings.json" --environment Development \
  --urls http://127.0.0.1:0 >"$work/log" 2>&1 &
sidecar_pid=$!
pids+=("$sidecar_pid")
await "$work/log" 'is ready'
SIDECAR=$(address_in "$work/log")

# Every command of the demo runs through this, so that what is shown is what is run.
curl() {
  command curl -q --noproxy '*' --silent --show-error --max-time 30 \
    --dump-header "$work/head" --output "$work/body" "$@"
}
ask() { command curl -q --noproxy '*' --silent --show-error --fail --max-time 30 "$@"; }

# shellcheck disable=SC2034 # the commands below, which `step` evaluates, use them
{
  TOKEN=$(ask "$TENANT/_control/mint?user=alice")
  BOB=$(ask "$TENANT/_control/mint?user=bob")
  EXPIRED=$(ask "$TENANT/_control/mint?user=alice&expires_in=-3600")
  FOREIGN=$(ask "$TENANT/_control/mint?user=alice&aud=api://somebody-else")
}

# The public key of RFC 7638, section 3.1, as a caller might have one.
# shellcheck disable=SC2034
PUBLIC_KEY='{"kty":"RSA","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}'

# Tokens are long; their first characters are enough for the eye.
shorten() { sed -E 's/(eyJ[A-Za-z0-9_-]{6})[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+/\1…/g'; }

failures=0
steps=0
# Runs a command line, shows it with its answer, and compares status and body (or a header) with what is expected.
step() { # status pattern command
  local status pattern=$2 seen
  steps=$((steps + 1))
  echo
  printf '%s$ %s%s\n' "$bold" "$3" "$plain"
  rm -f "$work/head" "$work/body"
  eval "$3" || true
  touch "$work/head" "$work/body"
  status=$(sed -n '1s/^HTTP[^ ]* \([0-9]*\).*/\1/p' "$work/head")
  {
    tr -d '\r' <"$work/head" | grep -iE '^(HTTP/|WWW-Authenticate:|Retry-After:|X-Long-Running-Session-Key:)' || true
  } | sed "s/^/$dim/; s/\$/$plain/"
  if [ "$(wc -l <"$work/body")" -gt 10 ]; then
    grep -F -- "$pattern" "$work/body" | shorten || true
    echo "${dim}… and the rest of $(wc -l <"$work/body") lines${plain}"
  else
    shorten <"$work/body" | cut -c 1-1200
  fi
  seen=$(cat "$work/head" "$work/body")
  if [ "$status" != "$1" ]; then
    echo "${red}demo: expected status $1, got ${status:-no answer}${plain}"
    failures=$((failures + 1))
  elif [[ $seen != *"$pattern"* ]]; then
    echo "${red}demo: expected to read: $pattern${plain}"
    failures=$((failures + 1))
  fi
}
chapter() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }

echo
echo "SIDECAR=$SIDECAR   the sidecar"
echo "TENANT=$TENANT    stands in for Entra and for the web API"
echo "TOKEN, EXPIRED, FOREIGN: tokens of the user alice, as an application's user would bring them; BOB: one of bob"

# The commands stand in single quotes because `step` shows them as they are and then runs them.
# shellcheck disable=SC2016
{
  chapter "Who is calling? The claims of a valid token"
  step 200 '"preferred_username":"alice@' 'curl $SIDECAR/Validate -H "Authorization: Bearer $TOKEN"'
  step 400 'No token found' 'curl $SIDECAR/Validate'
  step 401 'error="invalid_token"' 'curl $SIDECAR/Validate -H "Authorization: Bearer $EXPIRED"'
  step 401 'error="invalid_token"' 'curl $SIDECAR/Validate -H "Authorization: Bearer $FOREIGN"'

  chapter "An Authorization header for a web API, on behalf of the user"
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl $SIDECAR/AuthorizationHeader/orders -H "Authorization: Bearer $TOKEN"'
  step 401 'WWW-Authenticate: Bearer' 'curl $SIDECAR/AuthorizationHeader/orders'

  chapter "The same for the application itself: no user"
  step 200 '{"authorizationHeader":"Bearer ' 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/reports'

  chapter "An Azure SDK, which takes the sidecar for a managed identity endpoint"
  step 200 '"token_type":"Bearer"' \
    'curl "$SIDECAR/identity/token?resource=api://downstream&api-version=2019-08-01" -H "X-IDENTITY-HEADER: any"'

  chapter "A tool with a token URL: OAuth's client credentials, token exchange and introspection"
  step 200 '"token_type":"Bearer"' 'curl $SIDECAR/oauth2/token/reports -d grant_type=client_credentials'
  step 200 '"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"' \
    'curl $SIDECAR/oauth2/token/orders -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange -d subject_token_type=urn:ietf:params:oauth:token-type:jwt -d subject_token=$TOKEN'
  step 200 '{"active":true,' 'curl $SIDECAR/oauth2/introspect -d token=$TOKEN'
  step 200 '{"active":false}' 'curl $SIDECAR/oauth2/introspect -d token=nonsense'

  chapter "An SDK, by its base URL: the API itself, with the token put in"
  step 200 'Bearer' 'curl $SIDECAR/ProxyUnauthenticated/reports/any/path?x=1 -d "{\"year\":2026}"'
  step 200 'Bearer' 'curl $SIDECAR/Proxy/orders/any/path -H "Authorization: Bearer $TOKEN"'
  step 404 '' 'curl "$SIDECAR/ProxyUnauthenticated/reports/missing?_status=404"'
  step 200 '[DONE]' 'curl $SIDECAR/ProxyUnauthenticated/openai/openai/v1/chat/completions -H "Content-Type: application/json" -d "{\"model\":\"gpt-4o\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"'
  step 200 'displayName' 'curl "$SIDECAR/ProxyUnauthenticated/graph/v1.0/users?\$top=1&\$select=displayName"'

  chapter "A reverse proxy asks before it lets a request through"
  step 200 'X-Auth-Kind: user' 'curl "$SIDECAR/ForwardAuth?scope=access_as_user" -H "Authorization: Bearer $TOKEN"'
  step 403 "The role 'Auditor' is required" 'curl "$SIDECAR/ForwardAuth?role=Auditor" -H "Authorization: Bearer $TOKEN"'

  chapter "The same as another app registration, and as the machine's managed identity"
  step 200 '{"authorizationHeader":"Bearer ' 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/partners'
  step 200 '{"authorizationHeader":"Bearer ' 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/storage'

  chapter "Other scopes, another tenant, a fresh token: overrides of one request"
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeader/orders?optionsOverride.Scopes=api://downstream/write" -H "Authorization: Bearer $TOKEN"'
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.AcquireTokenOptions.Tenant=fabrikam.onmicrosoft.com"'
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.AcquireTokenOptions.ForceRefresh=true"'
  step 400 "ends in '/.default'" 'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.Scopes=User.Read"'

  chapter "The sidecar calls the web API, which shows what it received"
  step 200 '{"statusCode":200,' 'curl $SIDECAR/DownstreamApi/orders -H "Authorization: Bearer $TOKEN"'
  step 200 '\"body\":\"{\\\"year\\\":2026}\"' \
    'curl -X POST $SIDECAR/DownstreamApiUnauthenticated/reports -H "Content-Type: application/json" -d "{\"year\":2026}"'
  step 200 '{"statusCode":404,' \
    'curl "$SIDECAR/DownstreamApiUnauthenticated/reports?optionsOverride.RelativePath=nothing-here?_status=404"'

  chapter "The web API wants more than the token says (continuous access evaluation): the sidecar gets it"
  step 200 '1700000000' \
    'curl "$SIDECAR/DownstreamApi/orders?optionsOverride.RelativePath=orders?_challenge=1700000000" -H "Authorization: Bearer $TOKEN"'

  chapter "Signed requests (proof of possession): the sidecar holds the key"
  step 200 '{"authorizationHeader":"PoP ' 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/vouchers'
  step 200 '{"statusCode":200,' 'curl $SIDECAR/DownstreamApiUnauthenticated/vouchers'

  chapter "Proof of possession: you hold the key, and sign your requests yourself"
  step 200 '{"authorizationHeader":"PoP ' \
    'curl -G $SIDECAR/AuthorizationHeaderUnauthenticated/reports --data-urlencode "optionsOverride.AcquireTokenOptions.PopPublicKey=$PUBLIC_KEY"'
  step 400 'PopPublicKey' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.AcquireTokenOptions.PopPublicKey=nonsense"'

  chapter "Agents: the agent itself, for the user who calls, and its user account"
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?AgentIdentity=$AGENT_ID"'
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeader/orders?AgentIdentity=$AGENT_ID" -H "Authorization: Bearer $TOKEN"'
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/orders?AgentIdentity=$AGENT_ID&AgentUsername=$AGENT_USERNAME"'
  step 200 '\"preferred_username\":\"agent-user@' \
    'curl "$SIDECAR/DownstreamApiUnauthenticated/orders?AgentIdentity=$AGENT_ID&AgentUserId=$AGENT_USER_ID"'
  step 400 'AgentUsername requires AgentIdentity to be specified' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/orders?AgentUsername=$AGENT_USERNAME"'

  chapter "A long-running session outlives the user's token"
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeader/orders?optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=job-17" -H "Authorization: Bearer $TOKEN"'
  step 200 '{"authorizationHeader":"Bearer ' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/orders?optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=job-17"'
  step 401 'No long-running session for this key' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/orders?optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=job-18"'

  step 403 'belongs to another user' \
    'curl "$SIDECAR/AuthorizationHeader/orders?optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=job-17" -H "Authorization: Bearer $BOB"'
  step 200 'X-Long-Running-Session-Key: ' \
    'curl "$SIDECAR/AuthorizationHeader/orders?optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=AllocateForMe" -H "Authorization: Bearer $TOKEN"'

  chapter "Requests that make no sense"
  step 400 'Service name is required' 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/'
  step 404 "Downstream API 'invoices' not configured" 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/invoices'
  step 400 'RequestAppToken' 'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.RequestAppTokens=true"'
  step 400 'BaseUrl' \
    'curl "$SIDECAR/DownstreamApiUnauthenticated/reports?optionsOverride.BaseUrl=https://attacker.example/"'
  step 405 'Allow: GET' 'curl -X DELETE $SIDECAR/Validate'
  step 403 'Forbidden' 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/reports -H "Origin: https://web.page.example"'

  chapter "Entra refuses: its own words reach the caller"
  step 500 '"errorCode":"invalid_grant"' 'curl $SIDECAR/AuthorizationHeader/mail -H "Authorization: Bearer $TOKEN"'

  chapter "Entra throttles: it is left alone for as long as it said, and the caller is told"
  ask -X POST "$TENANT/_control/faults?kind=token&status=429&retry_after=60"
  step 503 'Retry-After: 60' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.AcquireTokenOptions.FmiPath=busy"'
  step 503 'Retry-After: ' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.AcquireTokenOptions.FmiPath=busy"'

  chapter "Entra is down: cached tokens are still served, others are 503 and may be retried"
  ask -X POST "$TENANT/_control/faults?kind=token&cut=answer&times=1000000"
  step 200 '{"authorizationHeader":"Bearer ' 'curl $SIDECAR/AuthorizationHeaderUnauthenticated/reports'
  step 503 'Retry-After:' \
    'curl "$SIDECAR/AuthorizationHeaderUnauthenticated/reports?optionsOverride.Scopes=https://vault.azure.net/.default"'
  ask -X DELETE "$TENANT/_control/faults"

  chapter "Operating it"
  step 200 'Healthy' 'curl $SIDECAR/healthz'
  step 200 'entra_sidecar_token_cache_requests_total' 'curl $SIDECAR/metrics'
  step 200 '"openapi"' 'curl $SIDECAR/openapi/v1.json'
  step 200 '<title>entra-sidecar</title>' 'curl $SIDECAR/'
}

echo
if [ "$failures" -gt 0 ]; then
  echo "The sidecar's log:"
  shorten <"$work/log"
  echo "${red}demo: $failures of $steps answers were not as expected${plain}"
  if $once; then exit 1; fi
else
  echo "All $steps answers were as expected."
fi
if $once; then exit 0; fi

cat <<TEXT

${bold}Both stay up until Ctrl-C. In another terminal:${plain}

  export SIDECAR=$SIDECAR
  export TENANT=$TENANT
  export TOKEN=\$(curl -s "\$TENANT/_control/mint?user=alice")      # lasts an hour
  export EXPIRED=\$(curl -s "\$TENANT/_control/mint?user=alice&expires_in=-3600")
  export APP_TOKEN=\$(curl -s "\$TENANT/_control/mint?kind=app")
  export AGENT_ID=$AGENT_ID AGENT_USERNAME=$AGENT_USERNAME AGENT_USER_ID=$AGENT_USER_ID
  export AZURE_POD_IDENTITY_AUTHORITY_HOST=\$TENANT      # the machine's identity, for: entra-sidecar check --online
  export PATH=$(dirname "$(realpath "$binary")"):\$PATH
  cd $work      # the sidecar's appsettings.json, for commands such as: entra-sidecar header reports

  curl -s \$SIDECAR/Validate -H "Authorization: Bearer \$TOKEN"
  curl -s \$SIDECAR/AuthorizationHeader/orders -H "Authorization: Bearer \$TOKEN"
  curl -s \$SIDECAR/AuthorizationHeaderUnauthenticated/reports
  curl -s \$SIDECAR/DownstreamApi/orders -H "Authorization: Bearer \$TOKEN"

Every request of docs/scenarios.md works there. Open $SIDECAR in a browser to see the
configuration and the last requests. tests/local-tenant/src/control.rs lists the commands of the
stand-in: faults, keys, a journal of its requests. From here on you see the log of the sidecar.

TEXT
tail -n 0 -f "$work/log" &
pids+=($!)
wait "$sidecar_pid"
