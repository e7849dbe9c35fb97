#!/usr/bin/env bash
# The half of deploy.sh that runs on the Pi. It ends what it begins, with or without a connection: either the new release
# serves, or the previous one does.
#
#   install.sh survey MARK ACTION [MACHINE BYTES]   says what this Pi lacks, or what deploy.sh must ask for
#   install.sh root ACTION [follow]                 as root; reads the answers and an archive, and starts one of these:
#   install.sh release                              installs the files beside it
#   install.sh rollback                             back to the previous release
#   install.sh uninstall
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]:-.}")
opt=/opt/pihook
etc=/etc/pihook
units=/usr/local/lib/systemd/system
# Units here win over those, and are lost with the power.
trial=/run/systemd/system
timeout=60
crashes=3

fail() {
    echo "$*" >&2
    exit 1
}

property() { systemctl show --property "$1" --value pihook.service; }

survey() {
    local mark=$1 action=$2 needs=() lacks=()
    if [[ $action == release ]]; then
        [[ -s $etc/pihook.toml ]] || needs+=(host)
        [[ -s $etc/token ]] || needs+=(token)
        look_for_lacks "$3" $(($4 / 1024))
    elif [[ ! -e $opt/current ]]; then
        echo "There is no pihook." >&2
        answer_and_exit 1 lacks
    fi
    if [[ $(id -u) == 0 ]]; then
        :
    elif ! command -v sudo >/dev/null; then
        lacks+=("the command sudo, or ssh as root")
    elif sudo -n true 2>/dev/null; then
        needs+=(sudo)
    else
        needs+=(password)
    fi
    for lack in "${lacks[@]}"; do
        echo "The Pi lacks: $lack." >&2
    done
    ((${#lacks[@]} == 0)) || answer_and_exit 69 lacks # EX_UNAVAILABLE of sysexits.h
    answer_and_exit 0 "${needs[@]}" end
}

# On lines of their own, whatever the shell has printed.
answer_and_exit() {
    printf "\n$mark %s\n" "${@:2}"
    exit "$1"
}

# Appends to `lacks`: for a binary of MACHINE with so many KiB.
look_for_lacks() {
    local systemd folder problem
    [[ $(uname -m) == "$1" && $(getconf LONG_BIT) == 64 ]] ||
        lacks+=("a 64-bit system for $1, as the binary is: this is $(uname -m), $(getconf LONG_BIT) bits")
    systemd=$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p') || true
    [[ -d /run/systemd/system && ${systemd:-0} -ge 247 ]] || lacks+=("systemd 247 or later, which runs")
    for folder in /etc /opt /usr/local /var/lib; do
        [[ -d $folder ]] || continue
        problem=$(disk_problem $folder) || { lacks+=("a disk for $folder that keeps files: $problem") && break; }
    done
    has_room /opt 32768
    # The copy, before it goes to /opt.
    has_room /run "$(($2 + 1024))"
    ! systemctl --quiet is-active pihook-deploy.service || lacks+=("the end of another deployment, which is running")
}

has_room() {
    (($(df --output=avail "$1" | tail -n 1) >= $2)) || lacks+=("$((($2 + 1023) / 1024)) MiB of free space in $1")
}

# Says why what is written to folder $1 would fail, or be lost at the next boot.
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
    echo "it is an overlay in memory, lost at the next boot (sudo raspi-config, Performance Options, Overlay File System)"
    return 1
}

# The part of deploy.sh that needs root. Standard input brings the answers, a line each, then an archive.
root() {
    local action=$1 follow=${2:-} key value folder code=0
    case $action in
    status)
        cat "$opt/history"
        echo "The current one: $(readlink "$opt/current")"
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
    while IFS=' ' read -r key value && [[ $key == host || $key == token ]]; do
        echo "$value" >"$folder/answer.$key"
    done
    # All is here, or nothing is begun.
    if [[ $key != end ]] || ! tar -xf - --no-same-owner -C "$folder" ||
        ! (cd "$folder" && sha256sum --check --quiet SHA256SUMS); then
        fail "The copy is damaged. Nothing was changed."
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
    [[ ! -s $folder/refusal ]] || cat "$folder/refusal" >&2
    systemctl --quiet is-active pihook-deploy.service || rm -rf "$folder"
    exit "$code"
}

release() {
    local new=$opt/new hash version release each
    rm -rf "$new"
    install -D -m 755 -t "$new" "$here/pihook"
    install -m 644 -t "$new" "$here/pihook.service" "$here/pihook.socket"
    hash=$(sha256sum "$new/pihook")
    version=$("$new/pihook" --version) || fail "The binary does not run on this Pi. Nothing was changed."
    [[ $version =~ ^pihook\ [0-9A-Za-z.+-]+$ ]] || fail "The binary is no pihook. Nothing was changed."
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

# Checks the settings with the answers in them, and only then keeps the answers. A later run asks for what is not there.
settings() {
    local config=$etc/pihook.toml token=$etc/token host='' said code=0
    if [[ -e $here/answer.host && ! -s $config ]]; then
        read -r host <"$here/answer.host"
        # No message shows an answer: it may be something else, in the wrong place.
        [[ $host =~ ^[A-Za-z0-9._-]+$ ]] || fail "The public address is no address and no name. Nothing was changed."
        config=$here/made.toml
        # The unit's user reads the token as a credential, and writes to its own folder alone.
        sed -e "s|^public_host = .*|public_host = \"$host\"|" -e 's|^token_file = |# &|' \
            -e 's|^# \(certificate = "\)certs|\1/var/lib/pihook|' -e 's|^# \(private_key = "\)certs|\1/var/lib/pihook|' \
            -e 's|^# \(state_dir = "\)state|\1/var/lib/pihook|' "$here/pihook.toml" >"$config"
    fi
    [[ ! -e $here/answer.token || -s $token ]] || token=$here/answer.token
    # As systemd hands it over.
    mkdir "$here/credentials"
    cp "$token" "$here/credentials/token"
    said=$(CREDENTIALS_DIRECTORY=$here/credentials "$new/pihook" check --config "$config" 2>&1 >/dev/null) || code=$?
    [[ -z $host ]] || said=${said//"$host "/}
    [[ -z $said ]] || echo "${said//"$here/made.toml"/The settings}" >&2
    ((code == 0)) || fail "The settings are wrong. Nothing was changed."
    [[ $token == "$etc/token" ]] || keep 600 "$token" "$etc/token"
    [[ $config == "$etc/pihook.toml" ]] || keep 644 "$config" "$etc/pihook.toml"
}

# keep MODE FROM TO: whole, or not at all.
keep() {
    mkdir -p "$etc"
    if ! install -m "$1" "$2" "$3.new" || ! sync -f "$3.new" || ! mv "$3.new" "$3"; then
        rm -f "$3.new"
        fail "$3 cannot be written. Nothing was changed."
    fi
}

# The current release and those that ran before it, the latest first; not by their age, as a Pi's clock may stand anywhere.
past() {
    [[ ! -e $opt/history ]] || sed -n "\|^$(readlink "$opt/current")\$|,\$p" "$opt/history"
}

rollback() {
    local before
    before=$(past | sed -n 2p)
    [[ -n $before ]] || fail "There is no previous release."
    take "$before"
}

# Has $1 serve, or else again the release that served before.
take() {
    local before since
    before=$(readlink "$opt/current") || true
    since=$(date +%s)
    echo "Starting $(basename "$1")…"
    if ! try "$1"; then
        echo "$(basename "$1") does not serve. Its log:"
        journalctl --unit 'pihook.*' --since "@$since" --lines 20 --no-pager
    elif ! prepare "$1"; then
        echo "$(basename "$1") serves, but the disk of the Pi did not take it. Is the disk full?"
    else
        settle "$1"
        echo "$(basename "$1") serves."
        return
    fi
    rm -f "$units"/pihook.{service,socket}.new "$opt/current.new"
    if [[ -z $before ]]; then
        remove
        fail "There is no previous release: this one was removed again. The settings are kept."
    fi
    reopen "$units/pihook.socket"
    end_trial
    [[ $before != "$1" ]] || fail "It is the release that ran before: systemd keeps starting it."
    grep -qxF "$1" "$opt/history" || rm -rf "$1"
    comes_up || fail "$(basename "$before"), the previous release, does not serve either: systemd keeps starting it."
    fail "Rolled back: $(basename "$before") serves."
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

# Restarts, and waits until the bot has told systemd that it is ready, and then that it answered its own probe.
comes_up() {
    local old end=$((SECONDS + timeout)) ready=''
    old=$(property InvocationID)
    # Where it had to bind the port itself, it gives it up for the socket.
    systemctl --quiet is-active pihook.socket || systemctl stop pihook.service
    systemctl start pihook.socket || return 1
    # It begins to count the restarts.
    systemctl reset-failed pihook.service
    # The socket stays open meanwhile: a caller waits.
    systemctl restart --no-block pihook.service
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
    systemctl stop pihook.socket pihook.service
    systemctl disable --quiet pihook.socket pihook.service 2>/dev/null || true
    rm -rf "$opt" "$units"/pihook.{service,socket}{,.new}
    end_trial
    systemctl reset-failed 'pihook.*'
}

uninstall() {
    systemctl stop pihook.socket pihook.service
    "$opt/current/pihook" webhook delete --config "$etc/pihook.toml" ||
        echo "The webhook could not be deleted at Telegram: Telegram keeps calling until the bot has another one."
    # Its folders in /var/lib and /run, with the certificate.
    systemctl clean --what=all pihook.service
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
    [[ $1 == release || -e $opt/current ]] || fail "There is no pihook."
    case $1 in
    release) release ;;
    rollback) rollback ;;
    uninstall) uninstall ;;
    esac
    ;;
esac
