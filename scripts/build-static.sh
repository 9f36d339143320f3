#!/usr/bin/env bash
# Builds the release binary as one static file: no libc, no loader, nothing beside it in an image.
#
#   scripts/build-static.sh [cargo build arguments, e.g. --features shared-cache]      the path of the binary is the last line of standard output
#
# Three routes, the first that this machine allows:
#   rustup  a Rust toolchain with the musl target installed (rustup target add x86_64-unknown-linux-musl)
#   debian  Debian's own Rust (packages rustc-web, rust-web-src), unpacked into a cache without installation; the standard
#           library is built for musl from its sources
#   glibc   the toolchain that is here, glibc linked statically: works, though glibc may still look for libnss_* at run time
# STATIC_ROUTE=rustup|debian|glibc forces one; STATIC_CACHE names the cache (default ~/.cache/entra-sidecar-static).
# STATIC_ARCH=aarch64|x86_64 builds for that machine, if it is not this one by rustup or debian; the compiler is Debian's
# gcc-aarch64-linux-gnu (gcc-x86-64-linux-gnu).
#
# The same sources and toolchain make the same bytes, wherever they lie (scripts/reproduce.sh). More than BUDGET bytes are refused.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/tools.sh
source scripts/tools.sh

# What docs/design.md promises for the default features.
BUDGET=4194304

machine=${STATIC_ARCH:-$(uname -m)}
musl=$machine-unknown-linux-musl
gnu=$machine-unknown-linux-gnu
gcc=$machine-linux-gnu-gcc
libc=$tools/musl-$machine

musl_target_is_installed() { have rustup && rustup target list --installed 2>/dev/null | grep -x "$musl" >/dev/null; }

# What Debian's Rust needs to link musl programs for $machine, and to compile C for them.
musl_packages() { printf "%s:$(debian_architecture "$machine")\n" musl-dev "libunwind-$llvm-dev"; }

# Makes of Debian's packages a toolchain that links musl programs as the official one does.
debian_toolchain() {
  debian_architecture "$machine" >/dev/null && need_compiler "$machine" && debian_rust || return 1
  # The mark lies with what is made last: a compiler that is fetched again has none of it.
  local llvm file start=$debian/usr/lib/rustlib/$musl/lib/self-contained
  [ -e "$start/.ready" ] && [ -e "$libc" ] && return 0
  llvm=$("$debian/bin/rustc" --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  rm -rf "$libc"
  unpack_packages "$libc" "$(debian_architecture "$machine")" musl_packages || return 1

  # The C compiler for ring, with the unpacked headers in place of the system's.
  local libraries=$libc/usr/lib/$machine-linux-musl
  # What a condition calls goes on after a failure, so each step says what becomes of it.
  sed "s#\(/usr/lib\|/usr/include\)/$machine-linux-musl#$libc&#g" "$libraries/musl-gcc.specs" >"$libc/musl-gcc.specs" || return 1
  printf '#!/bin/sh\nexec %s "$@" -specs "%s"\n' "$gcc" "$libc/musl-gcc.specs" >"$libc/musl-gcc" || return 1
  chmod +x "$libc/musl-gcc" || return 1

  # The start files, libc and unwinder that rustc expects beside a self-contained target.
  mkdir -p "$start" && cp "$libraries"/{crt1.o,rcrt1.o,Scrt1.o,crti.o,crtn.o,libc.a} "$start/" || return 1
  for file in crtbegin.o crtbeginS.o crtend.o crtendS.o; do cp "$($gcc -print-file-name=$file)" "$start/" || return 1; done
  cp "$libc/usr/lib/$machine-linux-gnu/libunwind.a" "$start/" || return 1
  # Debian builds that unwinder for glibc with fortified stdio, of which musl lacks one function.
  cat >"$libc/shim.c" <<'C' || return 1
#include <stdarg.h>
#include <stdio.h>
int __fprintf_chk(FILE *file, int flag, const char *format, ...) {
  va_list arguments;
  (void)flag;
  va_start(arguments, format);
  int written = vfprintf(file, format, arguments);
  va_end(arguments);
  return written;
}
C
  "$libc/musl-gcc" -O2 -fPIC -c "$libc/shim.c" -o "$libc/shim.o" || return 1
  "$machine-linux-gnu-ar" q "$start/libunwind.a" "$libc/shim.o" || return 1
  [ -e "$debian/usr/lib/rustlib/src/rust/library/std/Cargo.toml" ] || return 1
  touch "$start/.ready"
}

route=${STATIC_ROUTE:-}
if [ -z "$route" ]; then
  if musl_target_is_installed; then route=rustup
  elif debian_toolchain; then route=debian
  else route=glibc; fi
elif [ "$route" = debian ]; then
  debian_toolchain || { say "Debian's toolchain cannot be had here"; exit 1; }
fi
if [ "$machine" != "$(uname -m)" ]; then
  if [ "$route" = glibc ]; then say "for $machine this needs: rustup target add $musl"; exit 1; fi
  need_compiler "$machine"
fi
say "by way of $route"

arguments=(build --locked --release --package entra-sidecar --bin entra-sidecar "$@")
# Panic messages name source files. Where these lay on the machine that built them must not be published, and would make
# every machine's binary a different one.
flags=(
  "--remap-path-prefix=$PWD=/src" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  "--remap-path-prefix=$debian=/toolchain"
)
encoded() { local IFS=$'\x1f'; echo "$*"; }
# Names of environment variables for the target: CC_x86_64_unknown_linux_musl, CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER.
suffix=${musl//-/_}
case $route in
  rustup)
    target=$musl
    if [ "$machine" != "$(uname -m)" ]; then
      export "CC_$suffix=$gcc" "CARGO_TARGET_${suffix^^}_LINKER=$gcc"
    elif have musl-gcc; then
      export "CC_$suffix=musl-gcc"
    fi
    CARGO_ENCODED_RUSTFLAGS=$(encoded "${flags[@]}") cargo "${arguments[@]}" --target "$target" >&2
    ;;
  debian)
    target=$musl
    # -Zbuild-std is unstable, hence RUSTC_BOOTSTRAP; panics unwind, because one request's panic must not end the process.
    # Backtraces are left out: without symbols they say nothing.
    env -u RUSTUP_TOOLCHAIN -u RUSTFLAGS -u LD_LIBRARY_PATH CARGO_ENCODED_RUSTFLAGS="$(encoded "${flags[@]}")" \
      RUSTC="$debian/bin/rustc" RUSTDOC="$debian/bin/rustdoc" RUSTC_BOOTSTRAP=1 \
      "CC_$suffix=$libc/musl-gcc" "AR_$suffix=$machine-linux-gnu-ar" "CARGO_TARGET_${suffix^^}_LINKER=$gcc" \
      "$debian/bin/cargo" "${arguments[@]}" --target "$target" -Zbuild-std=std,panic_unwind \
      -Zbuild-std-features=panic-unwind >&2
    ;;
  glibc)
    target=$gnu
    CARGO_ENCODED_RUSTFLAGS=$(encoded -Ctarget-feature=+crt-static "${flags[@]}") cargo "${arguments[@]}" --target "$target" >&2
    ;;
  *)
    say "unknown route: $route"
    exit 2
    ;;
esac

# Static means: the kernel needs no interpreter to run it, and it names no library.
binary=${CARGO_TARGET_DIR:-target}/$target/release/entra-sidecar
headers=$(readelf --program-headers --dynamic --wide "$binary")
case $headers in
  *INTERP* | *NEEDED*) say "$binary is not static"; exit 1 ;;
esac
size=$(stat -c %s "$binary")
say "static: $size bytes, of $BUDGET allowed"
if [ "$size" -gt "$BUDGET" ]; then
  # glibc brings more than the program itself has room for.
  if [ "$route" = glibc ]; then say "over the budget, which is for musl"
  elif [ $# -gt 0 ]; then say "over the budget, which is for the default features"
  else say "over the budget"; exit 1; fi
fi
echo "$binary"
