#!/usr/bin/env bash
# The half of deploy.sh that runs on the Pi. It ends what it begins, with or without a connection: either the new release
# serves, or the previous one does.
#
#   install.sh survey MARK ACTION [MACHINE BYTES]   prints the problems of this Pi, or what deploy.sh must ask for
#   install.sh root ACTION [follow]                 as root; reads the answers and an archive, and starts one of these:
#   install.sh release                              installs the files beside it
#   install.sh rollback                             back to the previous release
#   install.sh remove                               removes the program, and keeps the settings
#   install.sh uninstall
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]:-.}")
opt=/opt/pihook
etc=/etc/pihook
units=/usr/local/lib/systemd/system
# Units here win over those, and are lost with the power.
trial=/run/systemd/system
path=/usr/local/bin/pihook
timeout=60
crashes=3

fail() {
    echo "$*" >&2
    exit 1
}

property() { systemctl show --property "$1" --value pihook.service; }

# What systemctl says is for people who use systemd: what matters of it, this script says in its own words.
quietly() { "$@" </dev/null >/dev/null 2>&1; }

# A part of a sentence of ours: the first line of what another program said, as far as a terminal can show it.
quoted() { head -n 1 <<<"$1" | LC_ALL=C tr -cd ' -~' | cut -c 1-200; }

survey() {
    local mark=$1 action=$2 needs=() lacks=()
    if [[ $action == release ]] && has_package; then
        echo "pihook is installed on the Pi as a package. Run \`sudo apt remove pihook\` on the Pi: this keeps the settings and" \
            "the certificate. Then run deploy.sh again." >&2
        answer_and_exit 69 lacks
    elif [[ $action == release ]]; then
        [[ -s $etc/token ]] || needs+=(token)
        [[ -s $etc/pihook.toml ]] || needs+=(settings)
        look_for_lacks "$3" $(($4 / 1024))
    elif [[ ! -e $opt/current ]]; then
        if has_package; then
            echo "pihook is installed on the Pi as a package. On the Pi, use apt, \`sudo pihook status\` and \`journalctl -u pihook\`." >&2
        else
            echo "pihook is not installed on the Pi." >&2
        fi
        answer_and_exit 1 lacks
    fi
    if [[ $(id -u) == 0 ]]; then
        :
    elif ! command -v sudo >/dev/null; then
        lacks+=("The Pi has no command sudo. Install sudo, or log in as root.")
    elif sudo -n true 2>/dev/null; then
        needs+=(sudo)
    else
        needs+=(password)
    fi
    for lack in "${lacks[@]}"; do
        echo "$lack" >&2
    done
    ((${#lacks[@]} == 0)) || answer_and_exit 69 lacks # EX_UNAVAILABLE of sysexits.h
    answer_and_exit 0 "${needs[@]}" end
}

# On lines of their own, whatever the shell has printed.
answer_and_exit() {
    printf "\n$mark %s\n" "${@:2}"
    exit "$1"
}

# Appends a sentence for each problem to `lacks`: for a binary of MACHINE with so many KiB.
look_for_lacks() {
    local systemd folder problem
    [[ $(uname -m) == "$1" && $(getconf LONG_BIT) == 64 ]] ||
        lacks+=("The binary needs a 64-bit system for $1. The Pi has $(uname -m), $(getconf LONG_BIT) bits. Install a 64-bit system.")
    systemd=$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p') || true
    [[ -d /run/systemd/system && ${systemd:-0} -ge 247 ]] || lacks+=("pihook needs a running systemd 247 or later. Install a newer system on the Pi.")
    for folder in /etc /opt /usr/local /var/lib; do
        [[ -d $folder ]] || continue
        problem=$(disk_problem $folder) || { lacks+=("$folder on the Pi cannot keep files: $problem.") && break; }
    done
    has_room /opt 32768
    # The copy, before it goes to /opt.
    has_room /run "$(($2 + 1024))"
    ! systemctl --quiet is-active pihook-deploy.service || lacks+=("Another deployment is running. Wait until it ends.")
}

# Whether dpkg has installed pihook here. Settings that a removed package has left are for everyone.
has_package() {
    case $(dpkg-query --show --showformat='${db:Status-Status}' pihook 2>/dev/null) in
    '' | not-installed | config-files) return 1 ;;
    esac
}

has_room() {
    (($(df --output=avail "$1" | tail -n 1) >= $2)) || lacks+=("The Pi needs $((($2 + 1023) / 1024)) MiB of free space in $1. Delete some files.")
}

# Prints the reason if files in folder $1 cannot be written, or are lost at the next boot.
disk_problem() {
    local options upper type
    options=$(findmnt --noheadings --output OPTIONS --target "$1") || return 0
    type=$(stat --file-system --format %T "$1")
    if [[ ,$options, == *,ro,* ]]; then
        echo "it is mounted read-only"
        return 1
    elif [[ $type == overlayfs ]]; then
        upper=$(grep -o 'upperdir=[^,]*' <<<"$options")
        # raspi-config's has it in memory, and often in a place that is no longer there.
        type=$(stat --file-system --format %T "${upper#upperdir=}" 2>/dev/null) || type=tmpfs
    fi
    [[ $type == tmpfs || $type == ramfs ]] || return 0
    echo "it is an overlay in memory, and a reboot clears it. Turn off the overlay: sudo raspi-config, Performance Options, Overlay File System"
    return 1
}

# The part of deploy.sh that needs root. Standard input brings the answers, a line each, then an archive.
root() {
    local action=$1 follow=${2:-} key value folder code=0
    case $action in
    status)
        cat "$opt/history"
        echo "Current release: $(readlink "$opt/current")"
        "$opt/current/pihook" status || true
        systemctl status --no-pager --full pihook.service pihook.socket
        exit
        ;;
    logs) exec journalctl --unit 'pihook.*' --lines 100 --no-pager ${follow:+--follow} ;;
    esac
    ! systemctl --quiet is-active pihook-deploy.service || fail "Another deployment is running. Nothing was changed."
    umask 077
    folder=$(mktemp -d /run/pihook.XXXXXX)
    # shellcheck disable=SC2064 # The folder is known now.
    trap "rm -rf $folder" EXIT
    while IFS=' ' read -r key value && [[ $key == token || $key == router || $key == host ]]; do
        echo "$value" >"$folder/answer.$key"
    done
    # All is here, or nothing is begun.
    if [[ $key != end ]] || ! tar -xf - --no-same-owner -C "$folder" 2>/dev/null ||
        ! (cd "$folder" && sha256sum --check --status SHA256SUMS 2>/dev/null); then
        fail "The copy is damaged. Nothing was changed. Run deploy.sh again."
    fi
    trap - EXIT
    : >"$folder/log"
    while true; do
        code=0
        # As a unit of its own it continues when the connection breaks. Its words go through a file: a pipe would break, too.
        systemd-run --quiet --wait --collect --unit=pihook-deploy --property=StandardOutput=append:"$folder/log" \
            --property=StandardError=inherit bash "$folder/install.sh" "$action" 2>"$folder/refusal" &
        (cd "$folder" && exec tail -s 0.2 -n +1 --pid=$! -f log)
        wait $! || code=$?
        # systemd takes a moment to forget the unit of the deployment before, and refuses another of its name until then.
        # The unit removes the folder when all went well.
        grep -qs 'already loaded' "$folder/refusal" || break
        ((SECONDS < 10)) || { rm -rf "$folder" && fail "Another deployment is running. Nothing was changed."; }
        sleep 0.1
    done
    [[ ! -s $folder/refusal ]] ||
        echo "systemd on the Pi did not run the deployment to its end: $(quoted "$(<"$folder/refusal")")" >&2
    systemctl --quiet is-active pihook-deploy.service || rm -rf "$folder"
    exit "$code"
}

release() {
    local new=$opt/new hash version release each
    rm -rf "$new"
    install -D -m 755 -t "$new" "$here/pihook"
    install -m 644 -t "$new" "$here/pihook.service" "$here/pihook.socket"
    hash=$(sha256sum "$new/pihook")
    version=$("$new/pihook" --version 2>&1) || fail "The binary does not run on this Pi ($(quoted "$version")). Nothing was changed."
    [[ $version =~ ^pihook\ [0-9A-Za-z.+-]+$ ]] || fail "The binary is not pihook. Nothing was changed. Build it with deploy/build.sh."
    settings
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

# `pihook init` of the new release checks settings and answers, and only then keeps the answers. A later run asks for what is not
# there.
settings() {
    local key said code=0
    for key in token router host; do
        cat "$here/answer.$key" 2>/dev/null || echo
    done >"$here/answers"
    said=$(timeout "$timeout" "$new/pihook" init --write-only <"$here/answers" 2>&1) || code=$?
    if [[ $code == 64 ]]; then
        # It is from before there was this command.
        [[ -s $etc/token && -s $etc/pihook.toml ]] ||
            fail "This release is too old: it has no \`pihook init\`. Nothing was changed. Deploy a newer release."
        return
    fi
    [[ -z $said ]] || echo "$said" >&2
    case $code in
    0) [[ -s $etc/token ]] || fail "\`pihook init\` of this release wrote no $etc/token. The release was not started. Deploy another release." ;;
    1) exit 1 ;; # It has said why.
    *) fail "\`pihook init\` of this release failed (exit code $code): the release is broken. Nothing was changed. Deploy another release." ;;
    esac
}

# The current release and those that ran before it, the latest first; not by their age, as a Pi's clock may stand anywhere.
past() {
    [[ ! -e $opt/history ]] || sed -n "\|^$(readlink "$opt/current")\$|,\$p" "$opt/history"
}

# Prints the bot's link, or the reason why no updates arrive: that is not the fault of the release, and the release stays.
works() {
    local code=0
    "$opt/current/pihook" status --wait --config "$etc/pihook.toml" || code=$?
    # One from before there was this command has nothing to say.
    ((code == 0 || code == 64)) || exit 1
}

rollback() {
    local before
    before=$(past | sed -n 2p)
    [[ -n $before ]] || fail "There is no previous release."
    take "$before"
}

# Starts $1. If it does not start, starts the previous release again.
take() {
    local before since
    before=$(readlink "$opt/current") || true
    since=$(date +%s)
    echo "Starting $(basename "$1")…"
    if ! try "$1"; then
        echo "$(basename "$1") did not start. Its log:"
        journalctl --unit 'pihook.*' --since "@$since" --lines 20 --no-pager
    elif ! prepare "$1"; then
        echo "$(basename "$1") is running, but cannot be saved on the disk of the Pi. Is the disk full?"
    else
        settle "$1"
        echo "$(basename "$1") is running."
        return
    fi
    rm -f "$units"/pihook.{service,socket}.new "$opt/current.new"
    if [[ -z $before ]]; then
        remove
        fail "There is no previous release, so this one was removed. The settings are kept."
    fi
    reopen "$units/pihook.socket"
    end_trial
    [[ $before != "$1" ]] || fail "This release was already installed, so there is no rollback. systemd keeps restarting it. Read its log with --logs."
    grep -qxF "$1" "$opt/history" || rm -rf "$1"
    comes_up || fail "The previous release $(basename "$before") did not start either. systemd keeps restarting it. Read its log with --logs."
    fail "Rolled back: $(basename "$before") is running."
}

# Runs $1 until the next boot, and waits until it serves.
try() {
    reopen "$1/pihook.socket" &&
        install -D -m 644 -t "$trial" "$1/pihook.service" "$1/pihook.socket" &&
        sed -i "s|$opt/current/|$1/|" "$trial/pihook.service" &&
        systemctl daemon-reload && comes_up
}

# Writes to the disk all that settle renames. A full disk is noticed here.
prepare() {
    install -D -m 644 "$1/pihook.service" "$units/pihook.service.new" &&
        install -D -m 644 "$1/pihook.socket" "$units/pihook.socket.new" &&
        ln -sfn "$1" "$opt/current.new" && sync -f "$units" && sync -f "$opt"
}

# From now on it is $1 that runs. Each file is replaced at once, by one that is on the disk: the power may go at any time.
settle() {
    mv "$units/pihook.service.new" "$units/pihook.service"
    mv "$units/pihook.socket.new" "$units/pihook.socket"
    [[ ! -e $opt/new/history ]] || mv "$opt/new/history" "$opt/history"
    mv -T "$opt/current.new" "$opt/current"
    ln -sfn "$opt/current/pihook" "$path"
    end_trial
    quietly systemctl enable pihook.socket pihook.service ||
        echo "The bot does not start at boot. On the Pi, run: sudo systemctl enable pihook.socket pihook.service"
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
    [[ ! -e $open ]] || cmp --silent "$1" "$open" || quietly systemctl stop pihook.service pihook.socket
}

# Restarts, and waits until the bot has told systemd that it is ready, and then that it answered its own probe.
comes_up() {
    local old end=$((SECONDS + timeout)) ready=''
    old=$(property InvocationID)
    # Where it had to bind the port itself, it gives it up for the socket.
    systemctl --quiet is-active pihook.socket || quietly systemctl stop pihook.service
    quietly systemctl start pihook.socket || return 1
    # It begins to count the restarts.
    quietly systemctl reset-failed pihook.service
    # The socket stays open meanwhile: a caller waits.
    quietly systemctl restart --no-block pihook.service
    while true; do
        if [[ $(property InvocationID) != "$old" && $(property ActiveState) == active ]]; then
            [[ -n $ready ]] || echo "Waiting for the self-check…"
            ready=yes
            ! probe_was_answered || return 0
        fi
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
    quietly systemctl stop pihook.socket pihook.service || true
    quietly systemctl disable pihook.socket pihook.service || true
    rm -rf "$opt" "$path" "$units"/pihook.{service,socket}{,.new}
    end_trial
    quietly systemctl reset-failed 'pihook.*' || true
}

uninstall() {
    quietly systemctl stop pihook.socket pihook.service || true
    "$opt/current/pihook" webhook delete --config "$etc/pihook.toml" ||
        echo "Cannot delete the webhook at Telegram. Telegram keeps calling this address until the bot gets another webhook."
    # Its folders in /var/lib and /run, with the certificate.
    quietly systemctl clean --what=all pihook.service ||
        fail "systemd cannot remove /var/lib/pihook and /run/pihook. Run deploy.sh with --uninstall again."
    remove
    rm -rf "$etc" /etc/systemd/system/pihook.{service,socket}.d
    systemctl daemon-reload
    echo "pihook is removed."
}

# All of this file is read before any of it is run: it comes through a pipe, and root reads on there.
case $1 in
survey) survey "${@:2}" ;;
root) root "${@:2}" ;;
*)
    # Its own folder only if root has made it.
    trap 'rm -rf "$opt/new"; rmdir "$opt" 2>/dev/null || true; [[ $here != /run/pihook.?????? ]] || rm -rf "$here"' EXIT
    [[ $1 == release || -e $opt/current ]] || fail "pihook is not installed on the Pi."
    case $1 in
    release) release && works ;;
    rollback) rollback && works ;;
    remove)
        remove
        echo "pihook is removed. Its settings are kept."
        ;;
    uninstall) uninstall ;;
    esac
    ;;
esac
