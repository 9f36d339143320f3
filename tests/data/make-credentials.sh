#!/bin/sh
# Makes the certificates and keys in tests/data/credentials: one RSA key and its chain in every container and
# encryption that is found in the field. They are test data, published with the source, and protect nothing.
# Run once; the result is committed. Needs openssl 3 with its legacy provider.
set -eu
mkdir -p "$(dirname "$0")/credentials"
cd "$(dirname "$0")/credentials"
password="pass word"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

key() { openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1"; }
issue() { # key, subject, issuer's certificate, issuer's key, extension, file
    openssl req -new -key "$1" -subj "$2" -out "$work/request.pem"
    printf 'basicConstraints=%s\n' "$5" >"$work/extensions"
    openssl x509 -req -in "$work/request.pem" -CA "$3" -CAkey "$4" -CAserial "$work/serial" -CAcreateserial -days 36500 -sha256 \
        -extfile "$work/extensions" -out "$6" 2>/dev/null
}

key "$work/root.key"
openssl req -new -x509 -key "$work/root.key" -subj "/CN=Test Root" -days 36500 -sha256 -out root.crt.pem
key "$work/middle.key"
issue "$work/middle.key" "/CN=Test Intermediate" root.crt.pem "$work/root.key" CA:TRUE middle.crt.pem
key key-pkcs8.pem
issue key-pkcs8.pem "/O=Example, Inc./CN=app.example" middle.crt.pem "$work/middle.key" CA:FALSE leaf.crt.pem
openssl x509 -in leaf.crt.pem -noout -pubkey >public.pem

# PEM.
openssl rsa -in key-pkcs8.pem -traditional -out key-pkcs1.pem 2>/dev/null
cat leaf.crt.pem key-pkcs8.pem >pkcs8.pem
# Issuers first: the order in a file says nothing.
cat key-pkcs1.pem root.crt.pem middle.crt.pem leaf.crt.pem >pkcs1-chain.pem
sealed() { # name, arguments
    name=$1
    shift
    openssl pkcs8 -topk8 -in key-pkcs8.pem -passout "pass:$password" -out "$work/sealed.pem" "$@"
    cat leaf.crt.pem "$work/sealed.pem" >"sealed-$name.pem"
}
sealed aes256
sealed aes128-sha512 -v2 aes-128-cbc -v2prf hmacWithSHA512
sealed 3des-sha1 -v2 des3 -v2prf hmacWithSHA1
sealed scrypt -scrypt
sealed pkcs12-3des -v1 PBE-SHA1-3DES
openssl rsa -in key-pkcs8.pem -traditional -aes256 -passout "pass:$password" -out sealed-pkcs1.pem 2>/dev/null
cat leaf.crt.pem >>sealed-pkcs1.pem

# PKCS#12.
pfx() { # name, password, arguments
    name=$1 word=$2
    shift 2
    openssl pkcs12 -export -inkey key-pkcs8.pem -in leaf.crt.pem -passout "pass:$word" -out "$name.pfx" "$@"
}
pfx modern "$password"
pfx modern-empty ""
pfx modern-chain "$password" -certfile middle.crt.pem -name "A friendly name"
cat middle.crt.pem root.crt.pem >"$work/chain.pem"
pfx legacy "$password" -legacy
pfx legacy-empty "" -legacy
pfx legacy-chain "$password" -legacy -certfile "$work/chain.pem"
pfx 3des "$password" -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1
pfx rc2-128 "$password" -legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-128
pfx aes128-mac-sha512 "$password" -keypbe AES-128-CBC -certpbe AES-192-CBC -macalg sha512
pfx open-key "$password" -keypbe NONE -certpbe NONE
pfx no-mac "$password" -nomac
pfx iterations "$password" -iter 600000
# BER: as NSS writes it (pk12util of libnss3-tools), and with every string in pieces.
printf %s "$password" >"$work/password"
mkdir "$work/nss"
certutil -N -d "sql:$work/nss" --empty-password
pk12util -i modern.pfx -d "sql:$work/nss" -w "$work/password" -K ""
pk12util -o nss.pfx -n app.example -d "sql:$work/nss" -w "$work/password" -K ""
chmod 644 nss.pfx
python3 ../ber-pieces.py no-mac.pfx ber-pieces.pfx
pfx unicode "pässwörd €"
pfx unicode-legacy "pässwörd €" -legacy
# As people turn one into the other: attributes before each section, the key first.
openssl pkcs12 -in modern-chain.pfx -passin "pass:$password" -nodes -out bag-attributes.pem
# The largest key.
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out "$work/large.key"
openssl req -new -x509 -key "$work/large.key" -subj "/CN=large.example" -days 36500 -sha256 -out large.crt.pem
openssl pkcs12 -export -inkey "$work/large.key" -in large.crt.pem -passout "pass:$password" -out large.pfx
# A certificate on its own, as if the key's bag had no identifier in common with it.
openssl pkcs12 -export -nokeys -in leaf.crt.pem -passout "pass:$password" -out no-key.pfx

# What Entra does not take.
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/ec.key"
openssl req -new -x509 -key "$work/ec.key" -subj "/CN=ec.example" -days 36500 -out "$work/ec.crt"
cat "$work/ec.crt" "$work/ec.key" >ec-pkcs8.pem
{ cat "$work/ec.crt"; openssl ec -in "$work/ec.key" 2>/dev/null; } >ec-sec1.pem
cat leaf.crt.pem "$work/root.key" >foreign-key.pem
