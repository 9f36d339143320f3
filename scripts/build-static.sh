#!/usr/bin/env bash
# Builds the release binary as one static file: no libc, no loader, nothing beside it in an image.
#
#   scripts/build-static.sh [cargo build arguments, e.g. --features shared-cache]      the path of the binary is the last line of standard output
#
# Three routes, the first that this machine allows:
#   rustup  a Rust toolchain with the musl target installed (rustup target add x86_64-unknown-linux-musl)
#   debian  Debian's own Rust (packages rustc-web, rust-web-src), unpacked into a cache without root or installation;
#           the standard library is built for musl from its sources (x86-64 only)
#   glibc   the toolchain that is here, glibc linked statically: works, though glibc may still look for libnss_* at run time
# STATIC_ROUTE=rustup|debian|glibc forces one; STATIC_CACHE names the cache (default ~/.cache/entra-sidecar-static).
# STATIC_ARCH=aarch64 builds for that machine by way of rustup, where its musl target and a C compiler for it are installed.
#
# The same sources and toolchain make the same bytes, wherever they lie (scripts/reproduce.sh). More than BUDGET bytes are refused.
set -euo pipefail
cd "$(dirname "$0")/.."

# What docs/design.md promises for the default features.
BUDGET=4194304

machine=${STATIC_ARCH:-$(uname -m)}
musl=$machine-unknown-linux-musl
gnu=$machine-unknown-linux-gnu
cache=${STATIC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/entra-sidecar-static}
root=$cache/debian

say() { echo "build-static: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

musl_target_is_installed() { have rustup && rustup target list --installed 2>/dev/null | grep -qx "$musl"; }

# Fetches Debian's packages and unpacks them into $1. A subshell: it fails as a whole.
unpack_debian() (
  set -e
  mkdir -p "$1/packages"
  cd "$1/packages"
  # The toolchain follows the browsers in Debian's security archive, so the names of what belongs to it carry
  # versions that change: they are derived.
  version=$(apt-cache show rustc-web | awk '/^Version:/ { print $2; exit }')
  std=libstd-rust-web-$(cut -d. -f1,2 <<<"$version")
  llvm=$(apt-cache depends "$std" | awk '/Depends: libllvm/ { print $2; exit }')
  wanted=(rustc-web cargo-web rust-web-src libstd-rust-web-dev "$std" "$llvm" "libunwind-${llvm#libllvm}-dev"
    musl musl-dev musl-tools)
  # A simulated installation lists what those need that is not on this machine.
  mapfile -t missing < <(apt-get install --simulate --no-install-recommends "${wanted[@]}" | awk '/^Inst/ { print $2 }')
  mapfile -t all < <(printf '%s\n' "${wanted[@]}" "${missing[@]}" | sort -u)
  apt-get download "${all[@]}" >&2
  for package in *.deb; do dpkg-deb --extract "$package" "$1"; done
  # Of the sources only the library is built.
  rm -rf "$1/packages" "$1"/usr/src/rustc-*/{compiler,src,debian} "$1"/usr/share/doc
)

# Makes of the unpacked packages a toolchain that links musl programs as the official one does.
debian_toolchain() {
  [ "$machine" = x86_64 ] && have apt-get && have dpkg-deb && have gcc && have ar || return 1
  [ -e "$root/.ready" ] && return 0
  say "fetching Debian's toolchain into $cache (about 150 MB, once)"
  rm -rf "$root" "$root.new"
  unpack_debian "$root.new" || { rm -rf "$root.new"; return 1; }
  mv "$root.new" "$root"

  local libraries=$root/usr/lib/x86_64-linux-musl start=$root/usr/lib/rustlib/$musl/lib/self-contained
  local objects=$root/objects tool file
  mkdir -p "$start" "$root/bin" "$objects"

  # The C compiler for ring, with the unpacked headers in place of the system's.
  sed "s#/usr/lib/x86_64-linux-musl#$libraries#g; s#/usr/include/x86_64-linux-musl#$root/usr/include/x86_64-linux-musl#g" \
    "$libraries/musl-gcc.specs" >"$root/musl-gcc.specs"
  printf '#!/bin/sh\nexec gcc "$@" -specs "%s"\n' "$root/musl-gcc.specs" >"$root/bin/musl-gcc"
  for tool in rustc rustdoc cargo; do
    # Packages put libraries into either folder, which are one on a system that is installed.
    printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s"\nexec "%s" "$@"\n' \
      "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" "$root/usr/bin/$tool" >"$root/bin/$tool"
  done
  chmod +x "$root"/bin/*

  # The start files, libc and unwinder that rustc expects beside a self-contained target.
  cp "$libraries"/{crt1.o,rcrt1.o,Scrt1.o,crti.o,crtn.o,libc.a} "$start/"
  for file in crtbegin.o crtbeginS.o crtend.o crtendS.o; do cp "$(gcc -print-file-name=$file)" "$start/"; done
  cp "$(find "$root/usr/lib" -name libunwind.a -type f | head -1)" "$start/libunwind.a"
  # Debian builds that unwinder for glibc with fortified stdio, of which musl lacks one function.
  cat >"$objects/shim.c" <<'C'
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
  "$root/bin/musl-gcc" -O2 -fPIC -c "$objects/shim.c" -o "$objects/shim.o"
  ar q "$start/libunwind.a" "$objects/shim.o" 2>/dev/null
  [ -e "$root/usr/lib/rustlib/src/rust/library/std/Cargo.toml" ] || return 1
  "$root/bin/rustc" --version >&2 && "$root/bin/cargo" --version >&2 || return 1
  touch "$root/.ready"
}

route=${STATIC_ROUTE:-}
if [ "$machine" != "$(uname -m)" ]; then
  route=rustup
  cross=
  for tool in "$machine-linux-musl-gcc" "$machine-linux-gnu-gcc"; do
    if have "$tool"; then cross=$tool; break; fi
  done
  if [ -z "$cross" ] || ! musl_target_is_installed; then
    say "for $machine this needs: rustup target add $musl, and $machine-linux-musl-gcc or $machine-linux-gnu-gcc"
    exit 1
  fi
  variable=CARGO_TARGET_${musl^^}_LINKER
  export "${variable//-/_}=$cross" "CC_${musl//-/_}=$cross"
elif [ -z "$route" ]; then
  if musl_target_is_installed; then route=rustup
  elif debian_toolchain; then route=debian
  else route=glibc; fi
elif [ "$route" = debian ]; then
  debian_toolchain || { say "Debian's toolchain cannot be had here"; exit 1; }
fi
say "by way of $route"

arguments=(build --locked --release --package entra-sidecar --bin entra-sidecar "$@")
# Panic messages name source files. Where these lay on the machine that built them is nobody's business, and would make every
# machine's binary a different one.
flags=(
  "--remap-path-prefix=$PWD=/src" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  "--remap-path-prefix=$root=/toolchain"
)
encoded() { local IFS=$'\x1f'; echo "$*"; }
case $route in
  rustup)
    target=$musl
    if [ "$machine" = "$(uname -m)" ] && have musl-gcc; then export "CC_${musl//-/_}=musl-gcc"; fi
    CARGO_ENCODED_RUSTFLAGS=$(encoded "${flags[@]}") cargo "${arguments[@]}" --target "$target" >&2
    ;;
  debian)
    target=$musl
    # -Zbuild-std is unstable, hence RUSTC_BOOTSTRAP; panics unwind, because one request's panic must not end the process.
    # Backtraces are left out: without symbols they say nothing.
    env -u RUSTUP_TOOLCHAIN -u RUSTFLAGS -u LD_LIBRARY_PATH CARGO_ENCODED_RUSTFLAGS="$(encoded "${flags[@]}")" \
      RUSTC="$root/bin/rustc" RUSTDOC="$root/bin/rustdoc" RUSTC_BOOTSTRAP=1 \
      CC_x86_64_unknown_linux_musl="$root/bin/musl-gcc" AR_x86_64_unknown_linux_musl=ar \
      "$root/bin/cargo" "${arguments[@]}" --target "$target" -Zbuild-std=std,panic_unwind \
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
if readelf --program-headers --wide "$binary" | grep -q INTERP || readelf --dynamic --wide "$binary" | grep -q NEEDED; then
  say "$binary is not static"
  exit 1
fi
size=$(stat -c %s "$binary")
say "static: $size bytes, of $BUDGET allowed"
if [ "$size" -gt "$BUDGET" ]; then
  # glibc brings more than the program itself has room for.
  if [ "$route" = glibc ]; then say "over the budget, which is for musl"
  elif [ $# -gt 0 ]; then say "over the budget, which is for the default features"
  else say "over the budget"; exit 1; fi
fi
echo "$binary"
