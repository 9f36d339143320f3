#!/usr/bin/env bash
# Proves what Dockerfile.scratch promises, without a container engine: an empty, read-only file system that holds the static binary
# and nothing else, entered with chroot by a user who does not exist, as process 1, without capabilities, in a network of its own,
# which a caller reaches from another one, as through a container engine's bridge.
#
#   scripts/image-test.sh [binary | image.oci.tar]      the image of a release (scripts/release.sh), of a binary, or of the one
#                                                       that scripts/build-static.sh makes
#
# It needs root (for namespaces and chroot), iproute2, curl and python3, and fails where the machine or the kernel refuses.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() { echo "image-test: $1" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || refuse "chroot and namespaces need root"
for tool in unshare nsenter chroot setpriv ip mount python3 curl pgrep; do
  command -v "$tool" >/dev/null || refuse "$tool is not here"
done
unshare --net --mount --pid --fork true 2>/dev/null || refuse "the kernel gives no namespaces here"

if [ "${1:-}" != --inside ]; then
  cargo build --locked --quiet --package local-tenant
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/layout" "$work/root"
  case ${1:-} in
    *.tar) tar -x -C "$work/layout" -f "$1" ;;
    *) scripts/image.sh "$work/layout" test "$(uname -m)=${1:-$(scripts/build-static.sh | tail -1)}" ;;
  esac
  # As container engines do it: the manifest for this machine, its layers one over the other, and its configuration.
  python3 - "$work" "$(uname -m)" <<'PYTHON'
import hashlib, json, os, sys, tarfile

work, machine = sys.argv[1:]


def blob(descriptor):
    algorithm, digest = descriptor["digest"].split(":")
    path = f"{work}/layout/blobs/{algorithm}/{digest}"
    with open(path, "rb") as file:
        content = file.read()
    assert hashlib.new(algorithm, content).hexdigest() == digest and len(content) == descriptor["size"], path
    return path


def document(descriptor):
    return json.load(open(blob(descriptor)))


assert json.load(open(f"{work}/layout/oci-layout")) == {"imageLayoutVersion": "1.0.0"}
(listed,) = json.load(open(f"{work}/layout/index.json"))["manifests"]
manifests = {manifest["platform"]["architecture"]: document(manifest) for manifest in document(listed)["manifests"]}
manifest = manifests[{"x86_64": "amd64", "aarch64": "arm64"}[machine]]
for layer in manifest["layers"]:
    with tarfile.open(blob(layer)) as tar:
        tar.extractall(f"{work}/root")
held = [(os.path.relpath(folder, f"{work}/root"), sorted(folders + files)) for folder, folders, files in os.walk(f"{work}/root")]
assert held == [(".", ["app", "entra-sidecar"]), ("app", [])], held
config = document(manifest["config"])["config"]
assert config["Entrypoint"] == ["/entra-sidecar"] and config["WorkingDir"] == "/app" and config["StopSignal"] == "SIGTERM", config
with open(f"{work}/config", "w") as file:
    print(config["User"], *config["Env"], sep="\n", file=file)
print("image-test: an image for", ", ".join(sorted(manifests)))
PYTHON
  # Everything below happens in namespaces of its own, so nothing of it is left when this ends.
  unshare --net --mount --pid --mount-proc --fork --kill-child scripts/image-test.sh --inside "$work"
  # With an engine that works, the image itself.
  if docker info >/dev/null 2>&1; then
    docker build --quiet --file Dockerfile.scratch --tag entra-sidecar:image-test . >/dev/null
    container=$(docker run --detach --read-only --cap-drop ALL --security-opt no-new-privileges \
      --env AzureAd__TenantId=common --env AzureAd__ClientId=11111111-2222-4333-8444-555555555555 entra-sidecar:image-test)
    docker exec "$container" /entra-sidecar healthcheck
    docker stop "$container" >/dev/null
    [ "$(docker wait "$container")" -eq 0 ]
    docker rm "$container" >/dev/null
    echo "image-test: the image is built and runs"
  else
    echo "image-test: no container engine answers here, so the first stage of Dockerfile.scratch was not built"
  fi
  exit 0
fi

work=$2
root=$work/root
pids=()
finish() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
}
trap finish EXIT
ip link set lo up
# The caller's network: a namespace of its own, at the other end of a cable.
unshare --net sleep infinity &
caller=$!
pids+=("$caller")
until [ "$(readlink "/proc/$caller/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add cable type veth peer name cable netns "$caller"
ip address add 10.99.0.1/24 dev cable
ip link set cable up
nsenter --target "$caller" --net ip address add 10.99.0.2/24 dev cable
nsenter --target "$caller" --net ip link set cable up

cases=0
# Compares what a command says with a pattern.
expect() { # what pattern command...
  local what=$1 pattern=$2 said
  shift 2
  said=$("$@" 2>&1) || true
  cases=$((cases + 1))
  # shellcheck disable=SC2053 # a pattern is wanted
  if [[ $said != $pattern ]]; then
    echo "image-test: FAILED: $what: expected $pattern, got: ${said:0:2000}" >&2
    cat "$work"/*log >&2
    exit 1
  fi
}
await() { # pattern file
  local tries=0
  until grep -q "$1" "$2" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ]; then echo "image-test: never saw '$1':" >&2; cat "$2" >&2; exit 1; fi
    sleep 0.05
  done
}
ask() { curl -q --noproxy '*' --silent --show-error --max-time 20 "$@"; }
ask_from_outside() { nsenter --target "$caller" --net curl -q --noproxy '*' --silent --show-error --max-time 20 "$@"; }

# The tenant and the web API, outside of the image.
"${CARGO_TARGET_DIR:-target}/debug/local-tenant" >"$work/tenant" &
pids+=($!)
await '^USER_IDENTITY_CLIENT_ID=' "$work/tenant"
# shellcheck source=/dev/null
source "$work/tenant"

# In front of the API: TLS with a certificate of a private authority, and a name server that knows one name.
cat >"$work/network.py" <<'PYTHON'
import socket, ssl, sys, threading

def pipe(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

def tls(listener, context, upstream):
    while True:
        client, _ = listener.accept()
        try:
            client = context.wrap_socket(client, server_side=True)
        except OSError:
            continue
        server = socket.create_connection(upstream)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=pipe, args=pair, daemon=True).start()

def dns(server, name, address):
    # RFC 1035, section 4: the question is repeated; an A record follows where it is the known name's.
    wanted = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    while True:
        query, peer = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        question, known = query[12:end], query[12:end - 4].lower() == wanted
        answer = known and question[-4:-2] == b"\0\1"
        head = query[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address) if answer else b""
        server.sendto(head + question + record, peer)

certificate, key, port = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
listener = socket.create_server(("0.0.0.0", 8443))
threading.Thread(target=tls, args=(listener, context, ("127.0.0.1", int(port))), daemon=True).start()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
print("ready", flush=True)
dns(server, "other.test", "10.99.0.1")
PYTHON
python3 "$work/network.py" tests/data/tls/server.pem tests/data/tls/server.key "${BASE_URL##*:}" >"$work/network" &
pids+=($!)
await ready "$work/network"

# The image, and what a container engine or an operator mounts.
{ read -r user; mapfile -t environment; } <"$work/config"
mkdir -p "$root/etc" "$root/tls"
install -m 0644 tests/data/tls/root.pem "$root/tls/root.pem"
printf '127.0.0.1 localhost\n10.99.0.1 api.test\n' >"$root/etc/hosts"
printf 'nameserver 127.0.0.53\n' >"$root/etc/resolv.conf"
chmod -R a+rX "$work"
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"

settings=(
  "AzureAd__Instance=$BASE_URL/" "AzureAd__TenantId=$TENANT_ID" "AzureAd__ClientId=$CLIENT_ID"
  AzureAd__ClientCredentials__0__SourceType=ClientSecret "AzureAd__ClientCredentials__0__ClientSecret=$CLIENT_SECRET"
  "DownstreamApis__plain__BaseUrl=$DOWNSTREAM_URL" "DownstreamApis__plain__Scopes=$DOWNSTREAM_APP_SCOPE"
  DownstreamApis__hosts__BaseUrl=https://api.test:8443/api/ "DownstreamApis__hosts__Scopes=$DOWNSTREAM_APP_SCOPE"
  DownstreamApis__resolver__BaseUrl=https://other.test:8443/api/ "DownstreamApis__resolver__Scopes=$DOWNSTREAM_APP_SCOPE"
  DownstreamApis__nowhere__BaseUrl=https://absent.test:8443/api/ "DownstreamApis__nowhere__Scopes=$DOWNSTREAM_APP_SCOPE"
  "DownstreamApis__user__BaseUrl=$DOWNSTREAM_URL" "DownstreamApis__user__Scopes=$DOWNSTREAM_SCOPE"
  "${environment[@]}"
)
# As container engines do it: a user by number, nothing that could win privileges back, /app to work in.
contained=(setpriv --no-new-privs chroot --userspec="$user" --groups= "$root" /entra-sidecar)
run() { # settings... -- arguments
  local own=()
  while [ "$1" != -- ]; do own+=("$1"); shift; done
  shift
  env -i "PATH=$PATH" "${settings[@]}" "${own[@]}" "${contained[@]}" "$@"
}
# Called in the background only, where exec leaves no shell in between.
run_as_init() { exec env -i "PATH=$PATH" "${settings[@]}" "$@" unshare --pid --fork --kill-child "${contained[@]}"; }

expect "the version" "entra-sidecar 0.*" run -- --version
expect "nothing runs yet" "*unhealthy: *" run -- healthcheck
expect "a look at the settings" "*DownstreamApis:hosts*" run -- check

# As process 1, for which the kernel does nothing at a signal that the program does not handle.
run_as_init SSL_CERT_FILE=/tls/root.pem >"$work/log" 2>&1 &
init=$!
await 'is ready' "$work/log"
process=$(pgrep --parent "$init")
expect "it is process 1" "*NSpid:*1" grep '^NSpid' "/proc/$process/status"
expect "the user" "Uid:?65532?65532?65532?65532" grep '^Uid' "/proc/$process/status"
expect "no capability" "CapEff:?0000000000000000" grep '^CapEff' "/proc/$process/status"
expect "no way back" "NoNewPrivs:?1" grep '^NoNewPrivs' "/proc/$process/status"
expect "health" "Healthy" ask http://127.0.0.1:8080/healthz
expect "the health check" "" run -- healthcheck
run -- healthcheck
await 'signing keys' "$work/log"

token=$(ask "$BASE_URL/_control/mint?user=alice")
bearer="Authorization: Bearer $token"
expect "validation" '{"protocol":"Bearer"*' ask http://127.0.0.1:8080/Validate -H "$bearer"
expect "the application's header" '{"authorizationHeader":"Bearer *' ask http://127.0.0.1:8080/AuthorizationHeaderUnauthenticated/plain
expect "the user's header" '{"authorizationHeader":"Bearer *' ask http://127.0.0.1:8080/AuthorizationHeader/user -H "$bearer"
expect "a call" '{"statusCode":200,*' ask http://127.0.0.1:8080/DownstreamApi/user -H "$bearer"
expect "TLS to a private authority, a name of /etc/hosts" '{"statusCode":200,*' \
  ask http://127.0.0.1:8080/DownstreamApiUnauthenticated/hosts
expect "a name of the resolver" '{"statusCode":200,*' ask http://127.0.0.1:8080/DownstreamApiUnauthenticated/resolver
expect "a name that nobody knows" '*"status":502*' ask http://127.0.0.1:8080/DownstreamApiUnauthenticated/nowhere
expect "the network sees health" "Healthy" ask_from_outside http://10.99.0.1:8080/healthz
expect "the network sees metrics" "*entra_sidecar_build_info*" ask_from_outside http://10.99.0.1:8080/metrics
expect "the network sees no more, and is told why" '*"status":403*Sidecar:AllowedCallers*' \
  ask_from_outside http://10.99.0.1:8080/AuthorizationHeaderUnauthenticated/plain
kill -TERM "$process"
code=0
wait "$init" || code=$?
expect "a clean end" 0 echo "$code"

# With the built-in roots the private authority is nobody. The network is served where one setting names it.
run_as_init Sidecar__AllowedCallers=10.99.0.0/16 >"$work/second-log" 2>&1 &
init=$!
await 'is ready' "$work/second-log"
expect "an unknown authority" '*"status":502*' ask http://127.0.0.1:8080/DownstreamApiUnauthenticated/hosts
expect "the network is served by address" '{"authorizationHeader":"Bearer *' \
  ask_from_outside http://10.99.0.1:8080/AuthorizationHeaderUnauthenticated/plain
expect "the network is served by a name of one label" '{"authorizationHeader":"Bearer *' \
  ask_from_outside http://10.99.0.1:8080/AuthorizationHeaderUnauthenticated/plain -H "Host: sidecar:8080"
expect "overrides from the network name their setting" '*"status":403*Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated*' \
  ask_from_outside "http://10.99.0.1:8080/AuthorizationHeaderUnauthenticated/plain?optionsOverride.RequestAppToken=true"
expect "a public name stays refused, and is told why" '*"status":403*AllowedHosts*' \
  ask_from_outside http://10.99.0.1:8080/AuthorizationHeaderUnauthenticated/plain -H "Host: sidecar.example.com"
expect "a token without a server" "eyJ*" run -- token plain
kill -TERM "$(pgrep --parent "$init")"
wait "$init"

echo "image-test: $cases facts hold in an empty read-only root ($(stat -c %s "$root/entra-sidecar") bytes)"
