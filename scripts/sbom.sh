#!/usr/bin/env bash
# The software bill of materials of the released binary, as CycloneDX 1.6, on standard output: every package that is compiled into it, with
# version, licence, source and checksum. From the lock file and cargo's metadata; nothing is fetched that a build would not fetch. Rust's standard
# library and the C library come with the toolchain, which `rustc --version` and the build's log name; they are not listed.
#
#   scripts/sbom.sh              default features, musl; STATIC_ARCH=aarch64 for another machine than this one
#   scripts/sbom.sh --check      judges all packages of the workspace by the licences, sources and bans of deny.toml; for where cargo-deny is missing
#   scripts/sbom.sh --validate   holds the bill itself against the schema of CycloneDX
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in '' | --check | --validate) ;; *) echo "usage: scripts/sbom.sh [--check | --validate]" >&2; exit 2 ;; esac
if [ "${1:-}" = --validate ]; then
  tools=$(scripts/python-tools.sh) || { echo "sbom: not validated: no Python tools here"; exit 0; }
  scripts/sbom.sh | "$tools/python" -c '
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = sys.stdin.read()
if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
    sys.exit("sbom: " + str(problem).splitlines()[0])
bill = json.loads(text)
known = {entry["ref"] for entry in bill["dependencies"]}
listed = {component["bom-ref"] for component in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
if known != listed or any(set(entry["dependsOn"]) - listed for entry in bill["dependencies"]):
    sys.exit("sbom: components and their dependencies do not agree")
print("sbom: valid, with", len(bill["components"]), "components")'
  exit 0
fi
command -v python3 >/dev/null || { echo "sbom: python3 is needed" >&2; exit 1; }

metadata=$(mktemp)
tree=$(mktemp)
trap 'rm -f "$metadata" "$tree"' EXIT
target=${STATIC_ARCH:-$(uname -m)}-unknown-linux-musl
cargo metadata --locked --format-version 1 --filter-platform "$target" --all-features >"$metadata"
# What is compiled into the program: without tests, build scripts and macros, and with the features that a release has.
cargo tree --locked --package entra-sidecar --target "$target" --edges normal,no-proc-macro --prefix none --format '{p}' >"$tree"
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
python3 - "$metadata" "$tree" "$revision" "${1:-}" <<'PYTHON'
import json, re, sys, tomllib

metadata, tree, revision, mode = json.load(open(sys.argv[1])), open(sys.argv[2]).read(), sys.argv[3], sys.argv[4]
packages = {package["id"]: package for package in metadata["packages"]}
checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in tomllib.load(open("Cargo.lock", "rb"))["package"]}


def satisfied(expression, allowed):
    """Whether an SPDX expression (Annex D) is met by licences that are allowed: OR binds least, WITH most."""
    words = re.findall(r"[()]|[^\s()/]+|/", expression.replace("/", " OR "))

    def alternative():
        good = term()
        while words and words[0] == "OR":
            words.pop(0)
            good = term() | good
        return good

    def term():
        good = licence()
        while words and words[0] == "AND":
            words.pop(0)
            good = licence() & good
        return good

    def licence():
        word = words.pop(0)
        if word == "(":
            good = alternative()
            words.pop(0)
            return good
        if words and words[0] == "WITH":
            word = f"{word} {words.pop(0)} {words.pop(0)}"
        return word in allowed

    return alternative()


if mode == "--check":
    rules = tomllib.load(open("deny.toml", "rb"))
    exceptions = {entry["crate"]: entry["allow"] for entry in rules["licenses"]["exceptions"]}
    banned = {entry["crate"]: entry["reason"] for entry in rules["bans"]["deny"]}
    registries = {f"registry+{registry}" for registry in rules["sources"]["allow-registry"]}
    problems, used = [], set()
    for package in packages.values():
        name, expression = f"{package['name']} {package['version']}", package["license"]
        allowed = rules["licenses"]["allow"] + exceptions.get(package["name"], [])
        if not expression or not satisfied(expression, allowed):
            problems.append(f"{name}: the licence {expression} is not allowed")
        if package["name"] in banned:
            problems.append(f"{name} is banned: {banned[package['name']]}")
        if package["source"] is not None and package["source"] not in registries:
            problems.append(f"{name} comes from {package['source']}")
        if package["source"] is not None and not checksums.get((package["name"], package["version"])):
            problems.append(f"{name} has no checksum in Cargo.lock")
    print("\n".join(problems) or f"sbom: licences, sources and bans hold for {len(packages)} packages")
    sys.exit(bool(problems))

nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = next(package["id"] for package in packages.values() if package["name"] == "entra-sidecar")
compiled = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
found = {id for id, package in packages.items() if (package["name"], f"v{package['version']}") in compiled}
assert len(found) == len(compiled), "cargo's tree and its metadata do not agree"


def compiled_in(node):
    """What a package needs of the others."""
    for dependency in nodes[node]["deps"]:
        if dependency["pkg"] in found and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
            yield dependency["pkg"]


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package):
    made = {"type": "library", "bom-ref": reference(package), "name": package["name"], "version": package["version"], "purl": reference(package)}
    if package["license"]:
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := checksums.get((package["name"], package["version"])):
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


described = sorted((packages[package] for package in found), key=lambda package: (package["name"], package["version"]))
program = component(packages[root]) | {"type": "application", "version": packages[root]["version"]}
program["properties"] = [{"name": "revision", "value": revision}]
document = {
    "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "metadata": {"component": program},
    "components": [component(package) for package in described if package["id"] != root],
    "dependencies": [
        {"ref": reference(package), "dependsOn": sorted(reference(packages[other]) for other in compiled_in(package["id"]))} for package in described
    ],
}
json.dump(document, sys.stdout, indent=2)
print()
PYTHON
