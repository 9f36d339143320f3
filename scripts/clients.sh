#!/usr/bin/env bash
# Puts the clients that scripts/examples.sh and scripts/docs-test.sh run, at fixed versions, into a
# folder that outlives a build, and prints its path: venv/ has those for Python, node/ those for
# Node. Fails where there is no package index.
#
#   clients=$(scripts/clients.sh)
set -euo pipefail

# Fixed, so that a new release of theirs does not fail a change of ours.
packages=(requests==2.34.2 microsoft-agents-authentication-entra-auth-sidecar==1.9.0 authlib==1.9.10 requests-oauthlib==2.0.0
  azure-identity==1.27.0 msal==1.39.0 openai==3.57.0 langchain-openai==1.7.4 azure-ai-inference==1.0.0b9 msgraph-core==1.5.2
  microsoft-kiota-serialization-json==1.16.0 azure-storage-blob==12.31.1 azure-keyvault-secrets==4.12.0)
node_packages=(oauth4webapi@3.8.8 openai@6.49.0 @microsoft/microsoft-graph-client@3.0.7 @azure/identity@4.13.1 @azure/msal-node@7.2.3
  @azure/storage-blob@12.32.0 @azure/keyvault-secrets@4.11.2)
folder=${CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/entra-sidecar-clients}

ready=$folder/$(printf '%s\n' "${packages[@]}" "${node_packages[@]}" | sha256sum | cut -c 1-16)
if [ ! -e "$ready/.ready" ]; then
  rm -rf "$ready"
  mkdir -p "$ready/node"
  { python3 -m venv "$ready/venv" && "$ready/venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"; } >&2 ||
    { echo "clients: those for Python cannot be had from PyPI" >&2; exit 1; }
  npm install --silent --no-audit --no-fund --prefix "$ready/node" "${node_packages[@]}" >&2 ||
    { echo "clients: those for Node cannot be had from npm" >&2; exit 1; }
  touch "$ready/.ready"
fi
echo "$ready"
