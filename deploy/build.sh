#!/usr/bin/env bash
# Builds pihook for a 64-bit Raspberry Pi with what this machine has:
#
#   deploy/build.sh            the first of these that works
#   deploy/build.sh rustup     rustup's aarch64 target, and aarch64-linux-gnu-gcc as the linker
#   deploy/build.sh debian     Debian's rustc-web with the arm64 standard library, and aarch64-linux-gnu-gcc
#   deploy/build.sh cross      cross, in Docker: runs on the oldest Raspberry Pi OS (see cross.toml)
#
# More arguments go to cargo: `deploy/build.sh --example counter` builds one of the other bots.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

triple=aarch64-unknown-linux-gnu
target=${CARGO_TARGET_DIR:-target}
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc

has() { command -v "$1" >/dev/null; }
# The compiler $1 has the standard library of the target.
knows_arm() { has "$1" && [[ -d $("$1" --print sysroot)/lib/rustlib/$triple/lib ]]; }

can_rustup() { has rustup && has aarch64-linux-gnu-gcc && knows_arm rustc; }
can_debian() { has cargo && has aarch64-linux-gnu-gcc && knows_arm /usr/bin/rustc; }
# The command `docker` may be there without its daemon.
can_cross() { has cross && timeout 20 docker info >/dev/null 2>&1; }

way=''
[[ ${1:--} == -* ]] || { way=$1 && shift; }
# cross is last: it may update the toolchain of rustup (see cross.toml).
for candidate in rustup debian cross; do
    [[ -n $way ]] || ! "can_$candidate" || way=$candidate
done
build=(build --locked --release --package pihook --target "$triple" "$@")
case $way in
rustup)
    echo "Building with rustup's $triple target."
    cargo "${build[@]}"
    ;;
cross)
    echo "Building with cross, in Docker."
    target=$target/cross
    CROSS_CONFIG=cross.toml CARGO_TARGET_DIR=$target cross "${build[@]}"
    ;;
debian)
    echo "Building with Debian's $(/usr/bin/rustc --version)."
    RUSTC=/usr/bin/rustc cargo "${build[@]}"
    ;;
"")
    echo "This machine cannot build for $triple. Install cross and Docker, or run \`rustup target add $triple\`" \
        "and \`apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross\`." >&2
    exit 69 # EX_UNAVAILABLE of sysexits.h
    ;;
*)
    echo "Usage: deploy/build.sh [rustup | cross | debian] [ARGUMENTS OF CARGO]" >&2
    exit 64
    ;;
esac

binary=$target/$triple/release/pihook
# The newest symbol version is what the Pi's own glibc must have: bullseye 2.31, bookworm 2.36, trixie 2.41.
glibc=$(grep -aoE 'GLIBC_2\.[0-9]+' "$binary" | sort -uV | tail -n 1)
echo "$binary: $(stat -c %s "$binary") bytes, needs glibc ${glibc#GLIBC_} or later"
