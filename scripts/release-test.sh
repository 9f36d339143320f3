#!/usr/bin/env bash
# What scripts/release.sh refuses, each with its own words and before anything is built or written.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A repository of what lies here, which is clean as a release has it.
mkdir "$work/tree"
git ls-files -z | xargs -0 cp --parents --target-directory "$work/tree"
cd "$work/tree"
git init --quiet
git add --all
git -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false commit --quiet --message test
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

refused=0
refuses() { # words version [folder]
  local words=$1 code=0
  scripts/release.sh "${@:2}" >"$work/said" 2>&1 || code=$?
  if [ "$code" -eq 0 ] || ! grep -qF "$words" "$work/said"; then
    echo "release-test: exit $code, without: $words" >&2
    cat "$work/said" >&2
    exit 1
  fi
  if [ -e dist ] || [ -e target ]; then echo "release-test: something was written before: $words" >&2; exit 1; fi
  refused=$((refused + 1))
  git reset --quiet --hard
  git clean --quiet -d --force
}

refuses "usage:" "$version" one two
refuses "Cargo.toml has another version" 99.0.0
sed -i 's/^ARG VERSION=.*/ARG VERSION=99.0.0/' Dockerfile.scratch
refuses "Dockerfile.scratch has another version" "$version"
sed -i "s/^## $version .*/## 99.0.0/" CHANGELOG.md
refuses "CHANGELOG.md says nothing about $version" "$version"
echo "// changed" >>src/main.rs
refuses "the tree is not clean" "$version"
touch forgotten
refuses "the tree is not clean" "$version"
mkdir "$work/earlier"
touch "$work/earlier/SHA256SUMS"
refuses "is not empty" "$version" "$work/earlier"
echo "release-test: $refused refusals, each before anything was built"
