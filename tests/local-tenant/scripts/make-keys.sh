#!/bin/sh
# Makes the keys and certificates that the local tenant embeds. They protect nothing: they are published
# with the source, so that a test starts without waiting for RSA key generation. Run once; the result is
# committed. Needs openssl 3.
set -eu
cd "$(dirname "$0")/../keys"

rsa() { openssl genpkey -quiet -algorithm RSA -pkeyopt "rsa_keygen_bits:$2" -out "$1.pem"; }
ec() { openssl genpkey -quiet -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -out "$1.pem"; }
certificate() { # name
    openssl req -new -x509 -key "$1.pem" -subj "/CN=$1.local-tenant.test" -sha256 -days 36500 -out "$1.crt.pem"
}
expired_certificate() { # name; only `openssl ca` sets both ends of the validity before OpenSSL 3.4
    ca=$(mktemp -d)
    touch "$ca/index.txt"
    printf '[ca]\ndefault_ca=c\n[c]\ndatabase=%s\nnew_certs_dir=%s\nserial=%s\npolicy=p\ndefault_md=sha256\n[p]\ncommonName=supplied\n' \
        "$ca/index.txt" "$ca" "$ca/serial" >"$ca/ca.conf"
    openssl req -new -key "$1.pem" -subj "/CN=$1.local-tenant.test" -out "$ca/request.pem"
    openssl ca -config "$ca/ca.conf" -batch -notext -selfsign -create_serial -keyfile "$1.pem" -in "$ca/request.pem" \
        -startdate 20200101000000Z -enddate 20210101000000Z -out "$1.crt.pem" 2>/dev/null
    rm -r "$ca"
}

for name in signing-1 signing-2 signing-3 signing-4 encryption federated client-1 client-2 client-expired; do
    rsa "$name" 2048
done
rsa weak 1024
ec signing-p256 P-256
ec signing-p384 P-384
ec client-ec P-256

certificate client-1
certificate client-2
certificate client-ec
expired_certificate client-expired

pfx() { # file, name, password, arguments
    file=$1 name=$2 password=$3
    shift 3
    openssl pkcs12 -export -inkey "$name.pem" -in "$name.crt.pem" -passout "pass:$password" -out "$file.pfx" "$@"
}
pfx client-1 client-1 ""
pfx client-1-password client-1 "pass word"
# The encryption that Windows and older vaults still write.
pfx client-1-legacy client-1 "pass word" -legacy
