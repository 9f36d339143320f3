#!/bin/sh
# The application's own token, and a call with it, from a shell.
set -eu
SIDECAR=${SIDECAR:-http://127.0.0.1:5000}

# A header for a call of your own. `--fail` makes a problem an error, and the script ends.
header=$(curl --fail --silent --show-error "$SIDECAR/AuthorizationHeaderUnauthenticated/reports" |
  sed -n 's/.*"authorizationHeader":"\([^"]*\)".*/\1/p')
echo "header: ${header%%.*}..."

# Or let the sidecar call. Its answer is 200 whatever the API's was; `statusCode` says that.
# `--get` and `--data-urlencode` encode the value, so that its `?` and `&` stay part of it.
curl --fail --silent --show-error --get "$SIDECAR/DownstreamApiUnauthenticated/reports" \
  --data-urlencode 'optionsOverride.RelativePath=monthly?limit=3&sort=-date'
echo

# A body goes along as it is.
curl --fail --silent --show-error "$SIDECAR/DownstreamApiUnauthenticated/reports" \
  --header 'Content-Type: application/json' --data '{"year":2026}'
echo

# A problem says in `detail` what is wrong.
curl --silent --show-error "$SIDECAR/AuthorizationHeaderUnauthenticated/no-such-api"
echo
