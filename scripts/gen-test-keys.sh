#!/bin/sh
# Makes the keys under tests/data/keys. They are test data: published on purpose, trusted by nothing.
set -eu
cd "$(dirname "$0")/../tests/data/keys"
make() {
    name=$1
    shift
    openssl genpkey "$@" | openssl pkcs8 -topk8 -nocrypt -outform DER -out "$name.pk8"
}
make rsa-a -algorithm RSA -pkeyopt rsa_keygen_bits:2048
make rsa-b -algorithm RSA -pkeyopt rsa_keygen_bits:2048
make p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256
make p384 -algorithm EC -pkeyopt ec_paramgen_curve:P-384
