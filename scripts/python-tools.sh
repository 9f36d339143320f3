#!/usr/bin/env bash
# Puts the checkers that are Python programs, at fixed versions, into a folder of their own, and prints the path of its bin/.
# Fails where there is no Python or no package index; who calls it then skips what needs them.
#
#   tools=$(scripts/python-tools.sh)
set -euo pipefail

packages=(openapi-spec-validator==0.9.0 schemathesis==4.32.5 kubernetes-validate==1.37.0 PyYAML==6.0.3
  promql-parser==0.11.0 check-jsonschema==0.39.0 'cyclonedx-python-lib[json-validation]==11.12.0')
folder=${PYTHON_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/entra-sidecar-tools}

ready=$folder/$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c 1-16)
if [ ! -e "$ready/.ready" ]; then
  command -v python3 >/dev/null || { echo "python-tools: python3 is not here" >&2; exit 1; }
  rm -rf "$ready"
  { python3 -m venv "$ready" && "$ready/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"; } >&2 ||
    { echo "python-tools: the packages cannot be installed" >&2; exit 1; }
  touch "$ready/.ready"
fi
echo "$ready/bin"
