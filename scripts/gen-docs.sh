#!/bin/sh
# Writes docs/configuration.md from the table of settings; the test config_docs fails while they differ.
set -eu
cd "$(dirname "$0")/.."
UPDATE_DOCS=1 cargo test --locked --quiet -p entra-sidecar --test config_docs
