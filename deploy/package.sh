#!/usr/bin/env bash
# Makes a Debian package of a binary that was built:
#
#   deploy/package.sh                  of the one that build.sh built, for a 64-bit Raspberry Pi
#   deploy/package.sh --binary FILE    of this one, for aarch64 or x86_64
#
# It lies in the target folder, and the last line is its path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-${here%/*}/target}

usage() {
    sed -n '2,/^set /s/^#\( \|$\)//p' "${BASH_SOURCE[0]}" >&2
    exit 64
}

fail() {
    echo "$*" >&2
    exit 1
}

# shellcheck source=deploy/find_binary.sh
source "$here/find_binary.sh"
while (($#)); do
    case $1 in
    --binary) (($# > 1)) || usage && binary=$2 && shift ;;
    *) usage ;;
    esac
    shift
done
command -v dpkg-deb >/dev/null || fail "This machine has no command dpkg-deb. Install it: apt install dpkg"
machine_of_binary
case $machine in
aarch64) architecture=arm64 ;;
x86_64) architecture=amd64 ;;
esac
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml")
# What the binary was linked with, as dpkg-shlibdeps would find it.
glibc=$(grep -aoE 'GLIBC_2\.[0-9]+' "$binary" | sort -uV | tail -n 1)
# The same files make the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
doc=$root/usr/share/doc/pihook
install -D -m 755 "$binary" "$root/usr/bin/pihook"
mkdir -p "$root/usr/lib/systemd/system" "$doc/examples"
sed 's|/opt/pihook/current/|/usr/bin/|' "$here/pihook.service" >"$root/usr/lib/systemd/system/pihook.service"
cp "$here/pihook.socket" "$root/usr/lib/systemd/system"
cp "$here/pihook.toml" "$doc/examples"
gzip -9 -n <"$here/../CHANGELOG.md" >"$doc/changelog.gz"
man=$root/usr/share/man
mkdir -p "$man"/man{1,5}
gzip -9 -n <"$here/pihook.1" >"$man/man1/pihook.1.gz"
"$here/settings_page.sh" | gzip -9 -n >"$man/man5/pihook.toml.5.gz"
{
    printf 'Format: %s\nUpstream-Name: pihook\n\nFiles: *\nCopyright: %s\nLicense: Expat\n' \
        https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ "$(sed -n 's/^Copyright (c) //p' "$here/../LICENSE")"
    sed -n '/^Permission/,$s/^$/./;/^Permission/,$s/^/ /p' "$here/../LICENSE"
} >"$doc/copyright"
find "$root/usr" -type d -exec chmod 755 {} + -o -type f ! -path '*/bin/*' -exec chmod 644 {} +

mkdir "$root/DEBIAN"
cp "$here"/package/{preinst,postinst,prerm,postrm} "$root/DEBIAN"
chmod 755 "$root/DEBIAN"/*
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<END
Package: pihook
Version: $version
Architecture: $architecture
Maintainer: the pihook authors <noreply@pihook.invalid>
Installed-Size: $(du -k -s --apparent-size "$root/usr" | cut -f 1)
Depends: ca-certificates, init-system-helpers (>= 1.54~), libc6 (>= ${glibc#GLIBC_}), libgcc-s1, systemd (>= 247)
Section: net
Priority: optional
Description: Telegram bot for a Raspberry Pi at home
 It serves Telegram's webhook with a certificate of its own, keeps the webhook
 registered, and answers every text with the same text. After the installation,
 "sudo pihook init" asks for what it needs.
END

package=$target/pihook_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package.$$" >/dev/null
mv "$package.$$" "$package"
echo "$package"
