# shellcheck shell=bash
# Sourced by the scripts that build: finds what they need on this machine, and gets what is missing on Debian and Ubuntu.

have() { command -v "$1" >/dev/null 2>&1; }
say() { echo "${0##*/}: $*" >&2; }

# What is fetched and unpacked without installation lies here. Remove the folder and it is gone.
tools=${STATIC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/entra-sidecar-static}
debian=$tools/rust

# Runs tests, and fails where none was run: a filter that fits nothing passes in cargo's eyes.
some_tests() { # cargo test...
  local said code=0
  said=$(mktemp)
  "$@" 2>&1 | tee "$said" || code=1
  grep -q '^test result: ok\. [1-9]' "$said" || code=1
  rm -f "$said"
  return $code
}

# Installs packages of the system: as root, or with sudo where it asks nothing.
install_packages() { # package...
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
  have apt-get && { [ ${#as_root[@]} -eq 0 ] || have sudo; } || return 1
  say "installing $*"
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Makes sure of a program, whose package may have another name.
need() { # program [package...]
  have "$1" && return
  if install_packages "${@:2}" && have "$1"; then return; fi
  say "$1 is needed and cannot be had here"
  return 1
}

# The compiler that makes C code for a machine, and that links.
need_compiler() { # machine
  if [ "$1" = "$(uname -m)" ]; then
    need gcc gcc libc6-dev
  else
    need "$1-linux-gnu-gcc" "gcc-${1//_/-}-linux-gnu" "libc6-dev-$(debian_architecture "$1")-cross"
  fi
}

debian_architecture() { # machine
  case $1 in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) return 1 ;;
  esac
}

# Unpacks packages into a folder. Nothing is installed, and no root is needed: apt keeps lists of its own, which are fresh, and know
# packages of other machines too.
unpack_packages() { # folder architecture command-that-prints-packages
  local packages package
  local options=(
    -o "Dir::State::lists=$1/apt/lists" -o "Dir::Cache=$1/apt/cache" -o "APT::Architectures::=$2"
    # Whom root hands the work to may not enter this folder.
    -o APT::Sandbox::User=root
  )
  # For the command in $3, too.
  # shellcheck disable=SC2317
  apt_get() { apt-get -qq "${options[@]}" "$@"; }
  # shellcheck disable=SC2317
  apt_cache() { apt-cache "${options[@]}" "$@"; }
  mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial" "$1/apt/packages" &&
    apt_get update >&2 && packages=$("$3") && [ -n "$packages" ] || return 1
  # shellcheck disable=SC2086 # names, one a line
  (cd "$1/apt/packages" && apt_get download $packages >&2) || return 1
  for package in "$1"/apt/packages/*.deb; do
    # Of Rust's sources only the library is built.
    dpkg-deb --fsys-tarfile "$package" |
      tar -x -C "$1" --anchored --no-wildcards-match-slash \
        --exclude='./usr/src/rustc-*/'{compiler,src,debian} --exclude=./usr/share/doc || return 1
  done
  rm -rf "$1/apt"
}

# Debian's newer Rust follows the browsers, so the names of what belongs to it carry versions that change.
rust_packages() {
  local version library wanted
  version=$(apt_cache show rustc-web | awk '/^Version:/ { print $2; exit }')
  [ -n "$version" ] || return 1
  library=libstd-rust-web-$(cut -d. -f1,2 <<<"$version")
  wanted=(rustc-web cargo-web rustfmt-web rust-web-src libstd-rust-web-dev "$library")
  {
    printf '%s\n' "${wanted[@]}"
    # What those need that is not on this machine, as a simulated installation lists it.
    apt_get install --simulate --no-install-recommends "${wanted[@]}" | awk '/^Inst/ { print $2 }'
    apt_cache depends "$library" | awk '/Depends: libllvm/ { print $2; exit }'
  } | sort -u
}

# Debian's Rust in the folder $debian, as programs in its bin.
debian_rust() {
  [ -e "$debian/.ready" ] && return 0
  have apt-get && have dpkg-deb || return 1
  say "fetching Debian's Rust into $debian (about 150 MB, once)"
  local new=$debian.$$ tool
  rm -rf "$debian" "$new"
  unpack_packages "$new" "$(dpkg --print-architecture)" rust_packages || { rm -rf "$new"; return 1; }
  mkdir -p "$new/bin"
  for tool in rustc rustdoc cargo rustfmt cargo-fmt; do
    # Packages put libraries into either folder, which are one on a system that is installed.
    printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s"\nexec "%s" "$@"\n' \
      "$debian/usr/lib/$(uname -m)-linux-gnu:$debian/lib/$(uname -m)-linux-gnu" "$debian/usr/bin/$tool" >"$new/bin/$tool"
  done
  chmod +x "$new"/bin/*
  mv "$new" "$debian"
  "$debian/bin/rustc" --version >&2 && "$debian/bin/cargo" --version >&2 || return 1
  touch "$debian/.ready"
}

rust_is_here() {
  local found
  # rustup's stand-ins are there before what they stand for.
  found=$(rustc --version 2>/dev/null) && cargo --version >/dev/null 2>&1 || return 1
  [ "$(printf '%s\n' "$1" "$(cut -d' ' -f2 <<<"$found")" | sort -V | head -1)" = "$1" ]
}

# rustup as its own page has it, without a change to anybody's profile.
rustup_rust() { # version
  PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH rust_is_here "$1" && return
  local from folder code=0
  from=https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu
  mkdir -p "$tools"
  folder=$(mktemp -d "$tools/rustup.XXXXXX")
  (
    cd "$folder" &&
      curl -q --proto =https --tlsv1.2 --fail --silent --show-error --connect-timeout 10 --remote-name-all \
        "$from/rustup-init" "$from/rustup-init.sha256" &&
      echo "$(cut -d' ' -f1 rustup-init.sha256)  rustup-init" | sha256sum --check --quiet &&
      chmod +x rustup-init &&
      say "fetching Rust $1 by rustup into ${CARGO_HOME:-$HOME/.cargo} and ${RUSTUP_HOME:-$HOME/.rustup}" &&
      ./rustup-init -y --quiet --no-modify-path --profile minimal --component clippy --component rustfmt \
        --default-toolchain "$1" >/dev/null
  ) || code=1
  rm -rf "$folder"
  return $code
}

# Ubuntu's newer Rust is a package for each version, beside the system's own.
ubuntu_rust() {
  local version
  version=$(apt-cache search --names-only '^rustc-1\.[0-9]+$' | cut -d' ' -f1 | sort -V | tail -1)
  version=${version#rustc-}
  [ -n "$version" ] && install_packages "rustc-$version" "cargo-$version" "rustfmt-$version" "rust-$version-clippy" || return 1
  PATH=/usr/lib/rust-$version/bin:$PATH
}

# Puts a Rust on the path that is new enough for Cargo.toml: one that is here, else rustup's, else the distribution's newer one.
# RUST_FROM=rustup|debian|ubuntu leaves only that one. A C compiler, for ring and for linking, belongs to it.
need_rust() {
  local wanted folder from
  need cc gcc libc6-dev
  need curl curl ca-certificates
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if [ -z "${RUST_FROM:-}" ]; then
    rust_is_here "$wanted" && return
    for folder in "${CARGO_HOME:-$HOME/.cargo}/bin" "$debian/bin"; do
      if PATH=$folder:$PATH rust_is_here "$wanted"; then
        export PATH=$folder:$PATH
        return
      fi
    done
  fi
  for from in ${RUST_FROM:-rustup debian ubuntu}; do
    case $from in
      rustup) rustup_rust "$wanted" && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH ;;
      debian) debian_rust && PATH=$debian/bin:$PATH ;;
      ubuntu) ubuntu_rust ;;
    esac || continue
    if rust_is_here "$wanted"; then
      export PATH
      say "Rust by way of $from: PATH=$PATH"
      return
    fi
  done
  say "Rust $wanted is needed and cannot be had here: https://rustup.rs"
  return 1
}
