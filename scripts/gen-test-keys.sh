#!/bin/sh
# Makes the keys under tests/data/keys and tests/data/tls. They are test data: published on purpose, trusted by nothing.
set -eu
cd "$(dirname "$0")/../tests/data/keys"
make() {
    name=$1
    shift
    openssl genpkey "$@" | openssl pkcs8 -topk8 -nocrypt -outform DER -out "$name.pk8"
}
make rsa-a -algorithm RSA -pkeyopt rsa_keygen_bits:2048
make p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256

# A TLS server for names that only the tests resolve, and the root that vouches for it.
cd ../tls
issuer=$(mktemp)
trap 'rm -f "$issuer" "$issuer.csr" "$issuer.ext"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$issuer" -out root.pem -days 36500 \
    -subj '/CN=entra-sidecar tests' -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -subj '/CN=api.test' >"$issuer.csr"
echo 'subjectAltName=DNS:localhost,DNS:api.test,DNS:other.test' >"$issuer.ext"
openssl x509 -req -in "$issuer.csr" -CA root.pem -CAkey "$issuer" -days 36500 -out server.pem -extfile "$issuer.ext"
