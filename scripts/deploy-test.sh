#!/usr/bin/env bash
# Holds what lies in deploy/ against the schemas and parsers of those who read it. That its settings and metrics exist is a test
# of the program (tests/sidecar/deploy.rs, deploy_metrics.rs). A real Prometheus then watches a running sidecar.
set -euo pipefail
cd "$(dirname "$0")/.."

# What .dockerignore lets through is enough for the build of Dockerfile.scratch. No container engine is needed to know that.
context=$PWD/target/image-context
rm -rf "$context"
mkdir -p "$context"
sed -n 's/^!//p' .dockerignore | xargs git ls-files | xargs cp --parents --preserve=timestamps --target-directory "$context"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} cargo check --locked --quiet --package entra-sidecar --bin entra-sidecar --manifest-path "$context/Cargo.toml"
echo "deploy-test: the build context of the image is complete"

# When alerts fire, and that they and the dashboard show a running sidecar.
if command -v prometheus >/dev/null && command -v promtool >/dev/null && command -v python3 >/dev/null; then
  promtool check rules deploy/prometheus/alerts.yaml >/dev/null
  promtool test rules tests/data/alerts-test.yaml >/dev/null
  echo "deploy-test: the alerts fire at their times (promtool)"
  cargo build --locked --quiet --package entra-sidecar --package local-tenant
  scripts/observers.py "${CARGO_TARGET_DIR:-target}/debug/entra-sidecar" "${CARGO_TARGET_DIR:-target}/debug/local-tenant"
else
  echo "deploy-test: skipped: no Prometheus here (Debian's package prometheus): alerts and dashboard were not evaluated"
fi

# The unit, where systemd's own judge is here; the binary need not be where the unit says.
if command -v systemd-analyze >/dev/null; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' deploy/systemd/entra-sidecar.service >"$folder/entra-sidecar.service"
  said=$(systemd-analyze verify "$folder/entra-sidecar.service" 2>&1) || { echo "$said"; exit 1; }
  if [ -n "$said" ]; then echo "$said"; exit 1; fi
  # From 0 (nothing is open) to 10.
  systemd-analyze security --offline=true --threshold=15 "$folder/entra-sidecar.service" >/dev/null
  echo "deploy-test: the unit is accepted"
fi

tools=$(scripts/python-tools.sh) || { echo "deploy-test: skipped: no Python tools here"; exit 0; }
"$tools/kubernetes-validate" --strict --quiet deploy/kubernetes/*.yaml
"$tools/check-jsonschema" --quiet --builtin-schema vendor.compose-spec deploy/docker-compose.yaml deploy/docker-compose.shared-cache.yaml

"$tools/python" - <<'PYTHON'
import glob, json, sys, yaml, promql_parser

problems = []

# Every expression parses.
expressions = [(rule["alert"], rule["expr"]) for group in yaml.safe_load(open("deploy/prometheus/alerts.yaml"))["groups"] for rule in group["rules"]]
dashboard = json.load(open("deploy/grafana/entra-sidecar.json"))
expressions += [(panel["title"], target["expr"].replace("$__rate_interval", "5m")) for panel in dashboard["panels"] for target in panel["targets"]]
for name, expression in expressions:
    try:
        promql_parser.parse(expression)
    except ValueError as error:
        problems.append(f"{name}: {error}")

# Panels lie beside one another.
taken = {}
for panel in dashboard["panels"]:
    grid = panel["gridPos"]
    for cell in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
        if cell in taken or cell[0] >= 24:
            problems.append(f"{panel['title']} lies over {taken.get(cell)}")
            break
        taken[cell] = panel["title"]

# The restricted profile of pod security (kubernetes.io/docs/concepts/security/pod-security-standards), and a read-only root.
for path in glob.glob("deploy/kubernetes/*.yaml"):
    for document in yaml.safe_load_all(open(path)):
        if document["kind"] != "Deployment":
            continue
        pod = document["spec"]["template"]["spec"]
        if not pod["securityContext"].get("runAsNonRoot") or pod["securityContext"]["seccompProfile"]["type"] != "RuntimeDefault":
            problems.append(f"{path}: the pod is not restricted")
        for container in pod.get("initContainers", []) + pod["containers"]:
            context = container["securityContext"]
            good = not context["allowPrivilegeEscalation"] and context["readOnlyRootFilesystem"] and context["runAsUser"] > 0
            if not good or context["capabilities"] != {"drop": ["ALL"]}:
                problems.append(f"{path}: {container['name']} is not restricted")

print("\n".join(problems) or f"deploy-test: {len(expressions)} expressions parse, the manifests fit their schemas")
sys.exit(bool(problems))
PYTHON
