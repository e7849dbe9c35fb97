#!/usr/bin/env bash
# The half of deploy.sh that runs on the Pi. What it begins it ends, with or without a connection: either the new release
# serves, or the one before does.
#
#   install.sh missing MACHINE   says what this Pi lacks, then which settings are to be asked for
#   install.sh settings          takes those from standard input, a line each
#   install.sh release           installs the files beside it
#   install.sh rollback          back to the release before
#   install.sh uninstall
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]:-.}")
opt=/opt/pihook
etc=/etc/pihook
units=/usr/local/lib/systemd/system
# Units here go before those, and go with the power.
trial=/run/systemd/system
patience=60
crashes=3

fail() {
    echo "$*" >&2
    exit 1
}

property() { systemctl show --property "$1" --value pihook.service; }

missing() {
    local machine=$1 lacks=()
    [[ $(uname -m) == "$machine" && $(getconf LONG_BIT) == 64 ]] ||
        lacks+=("a 64-bit system for $machine, as the binary is: this is $(uname -m), $(getconf LONG_BIT) bits")
    local systemd
    systemd=$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p') || true
    [[ -d /run/systemd/system && ${systemd:-0} -ge 247 ]] || lacks+=("systemd 247 or later, at work")
    [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null || lacks+=("sudo without a password for $(id -un), or root")
    (($(df --output=avail /opt | tail -n 1) >= 32768)) || lacks+=("32 MiB of free space in /opt")
    ! systemctl --quiet is-active pihook-deploy.service || lacks+=("the end of another deployment, which is at work")
    for lack in "${lacks[@]}"; do
        echo "The Pi lacks: $lack." >&2
    done
    ((${#lacks[@]} == 0)) || exit 69 # EX_UNAVAILABLE of sysexits.h
    [[ -e $etc/pihook.toml ]] || echo host
    [[ -e $etc/token ]] || echo token
}

settings() {
    local host='' token=''
    [[ -e $etc/pihook.toml ]] || read -r host
    [[ -e $etc/token ]] || read -r token
    [[ $host =~ ^[A-Za-z0-9._-]*$ ]] || fail "This is no address and no name: $host"
    mkdir -p "$etc"
    if [[ -n $token ]]; then
        echo "$etc/token" >>"$here/made"
        (umask 077 && echo "$token" >"$etc/token")
    fi
    if [[ -n $host ]]; then
        echo "$etc/pihook.toml" >>"$here/made"
        # The unit's user reads the token as a credential, and writes to its own folder alone.
        sed -e "s|^public_host = .*|public_host = \"$host\"|" -e 's|^token_file = |# &|' \
            -e 's|^# \(certificate = "\)certs|\1/var/lib/pihook|' -e 's|^# \(private_key = "\)certs|\1/var/lib/pihook|' \
            -e 's|^# \(state_dir = "\)state|\1/var/lib/pihook|' "$here/pihook.toml" >"$etc/pihook.toml"
    fi
}

release() {
    local new=$opt/new hash version release each
    rm -rf "$new"
    install -D -m 755 -t "$new" "$here/pihook"
    install -m 644 -t "$new" "$here/pihook.service" "$here/pihook.socket"
    hash=$(sha256sum "$new/pihook")
    version=$("$new/pihook" --version) || fail "The binary does not run on this Pi. Nothing was changed."
    [[ $version =~ ^pihook\ [0-9A-Za-z.+-]+$ ]] || fail "The binary is no pihook. Nothing was changed."
    if ! "$new/pihook" check --config "$etc/pihook.toml" >/dev/null; then
        # Wrong answers are asked for again.
        [[ ! -e $here/made ]] || xargs rm -f <"$here/made"
        fail "The settings are wrong. Nothing was changed."
    fi
    release=$opt/releases/${version#pihook }-${hash:0:12}
    # Each file replaces its predecessor at once: this may be the release that runs.
    mkdir -p "$release"
    mv -f "$new"/* "$release"
    { echo "$release"; past | grep -vxF "$release" || true; } | head -n 3 >"$new/history"
    take "$release"
    for each in "$opt"/releases/*; do
        grep -qxF "$each" "$opt/history" || rm -rf "$each"
    done
}

# The current release and those that ran before it, the latest first; not by their age, as a Pi's clock may stand anywhere.
past() {
    [[ ! -e $opt/history ]] || sed -n "\|^$(readlink "$opt/current")\$|,\$p" "$opt/history"
}

rollback() {
    local before
    before=$(past | sed -n 2p)
    [[ -n $before ]] || fail "There is no release before."
    take "$before"
}

# Has $1 serve, or else again what served before.
take() {
    local before since
    before=$(readlink "$opt/current") || true
    since=$(date +%s)
    if try "$1"; then
        settle "$1"
        echo "$(basename "$1") serves."
        return
    fi
    echo "$(basename "$1") does not serve. Its log:"
    journalctl --unit 'pihook.*' --since "@$since" --lines 20 --no-pager
    if [[ -z $before ]]; then
        remove
        fail "There is no release before: it was removed again. The settings are kept."
    fi
    reopen "$units/pihook.socket"
    end_trial
    [[ $before != "$1" ]] || fail "It is the release that ran before: it goes on trying."
    grep -qxF "$1" "$opt/history" || rm -rf "$1"
    comes_up || fail "$(basename "$before"), the release before, does not serve either: it goes on trying."
    fail "Rolled back: $(basename "$before") serves."
}

# Runs $1 until the next boot, and sees whether it serves.
try() {
    reopen "$1/pihook.socket" &&
        install -D -m 644 -t "$trial" "$1/pihook.service" "$1/pihook.socket" &&
        sed -i "s|$opt/current/|$1/|" "$trial/pihook.service" &&
        systemctl daemon-reload && comes_up
}

# From now on it is $1 that runs. Each file is replaced at once, by one that is on the disk: the power may go at any time.
settle() {
    install -D -m 644 "$1/pihook.service" "$units/pihook.service.new"
    install -D -m 644 "$1/pihook.socket" "$units/pihook.socket.new"
    ln -sfn "$1" "$opt/current.new"
    sync -f "$units"
    sync -f "$opt"
    mv "$units/pihook.service.new" "$units/pihook.service"
    mv "$units/pihook.socket.new" "$units/pihook.socket"
    [[ ! -e $opt/new/history ]] || mv "$opt/new/history" "$opt/history"
    mv -T "$opt/current.new" "$opt/current"
    end_trial
    systemctl enable --quiet pihook.socket pihook.service
    sync -f "$opt"
}

end_trial() {
    rm -f "$trial"/pihook.{service,socket}
    systemctl daemon-reload
}

# An open socket keeps its old settings: it is closed where $1 has others.
reopen() {
    local open=$units/pihook.socket
    [[ ! -e $trial/pihook.socket ]] || open=$trial/pihook.socket
    [[ ! -e $open ]] || cmp --silent "$1" "$open" || systemctl stop pihook.service pihook.socket
}

# Restarts, and waits until systemd was told that the bot is ready, and then that it answered its own probe.
comes_up() {
    local old end=$((SECONDS + patience))
    old=$(property InvocationID)
    # Where it had to bind the port itself, it gives it up for the socket.
    systemctl --quiet is-active pihook.socket || systemctl stop pihook.service
    systemctl start pihook.socket || return 1
    # It begins to count the restarts.
    systemctl reset-failed pihook.service
    # The socket stays open meanwhile: who calls waits.
    systemctl restart --no-block pihook.service
    until [[ $(property InvocationID) != "$old" && $(property ActiveState) == active ]] && probe_was_answered; do
        ((SECONDS < end && $(property NRestarts) < crashes)) || return 1
        sleep 0.3
    done
}

# systemd sets the first of these at the start, too, but before the second.
probe_was_answered() {
    # Where a drop-in has turned the watchdog off, systemd keeps no account of it: ready is enough.
    [[ $(property WatchdogUSec) == 0 ]] || (($(property WatchdogTimestampMonotonic) > $(property ActiveEnterTimestampMonotonic)))
}

# Removes the program and its units, not the settings.
remove() {
    systemctl stop pihook.socket pihook.service
    systemctl disable --quiet pihook.socket pihook.service 2>/dev/null || true
    rm -rf "$opt" "$units"/pihook.{service,socket}{,.new}
    end_trial
    systemctl reset-failed 'pihook.*'
}

uninstall() {
    systemctl stop pihook.socket pihook.service
    "$opt/current/pihook" webhook delete --config "$etc/pihook.toml" ||
        echo "Telegram could not be told: it goes on calling until the bot has another webhook."
    # Its folders in /var/lib and /run, with the certificate.
    systemctl clean --what=all pihook.service
    remove
    rm -rf "$etc" /etc/systemd/system/pihook.{service,socket}.d
    systemctl daemon-reload
    echo "pihook is gone."
}

# All of this file is read before any of it is run: it may come through a pipe.
case $1 in
missing) missing "$2" ;;
settings) settings ;;
*)
    # Its own folder only if deploy.sh made it.
    trap 'rm -rf "$opt/new"; [[ $here != /tmp/pihook.?????? ]] || rm -rf "$here"' EXIT
    [[ $1 == release || -e $opt/current ]] || fail "There is no pihook."
    case $1 in
    release) release ;;
    rollback) rollback ;;
    uninstall) uninstall ;;
    esac
    ;;
esac
