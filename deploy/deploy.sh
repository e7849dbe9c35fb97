#!/usr/bin/env bash
# Puts pihook on a Pi, and sees to it that it serves there:
#
#   deploy/deploy.sh pi@host [--binary FILE]   installs the binary, by default the one that build.sh built, and restarts
#   deploy/deploy.sh pi@host --rollback        goes back to the release before
#   deploy/deploy.sh pi@host --status          shows how it is
#   deploy/deploy.sh pi@host --logs            shows its log; on a terminal, also what comes
#   deploy/deploy.sh pi@host --uninstall       removes it, with its settings, token and certificate
#
# --identity KEY and --port N are for ssh. What the Pi does not have yet is asked for: the public address, then the token;
# without a terminal, each is a line of standard input.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")

usage() {
    sed -n '4,12s/^#\( \|$\)//p' "${BASH_SOURCE[0]}" >&2
    exit 64
}

fail() {
    echo "$*" >&2
    exit 1
}

target=${CARGO_TARGET_DIR:-$here/../target}
binary=$target/aarch64-unknown-linux-gnu/release/pihook
cross=$target/cross/aarch64-unknown-linux-gnu/release/pihook
[[ ! $cross -nt $binary ]] || binary=$cross

host='' action=release options=()
while (($#)); do
    case $1 in
    --binary | --identity | --port) (($# > 1)) || usage ;;&
    --binary) binary=$2 && shift ;;
    --identity) options+=(-i "$2") && shift ;;
    --port) options+=(-o "Port=$2") && shift ;;
    --rollback | --status | --logs | --uninstall) action=${1#--} ;;
    -*) usage ;;
    *) [[ -z $host ]] || usage && host=$1 ;;
    esac
    shift
done
[[ -n $host ]] || usage

for command in ssh scp sha256sum od; do
    command -v "$command" >/dev/null || fail "This machine lacks the command $command."
done
if [[ $action == release ]]; then
    [[ -f $binary ]] || fail "There is no $binary: run deploy/build.sh, or name a file with --binary."
    case $(od -An -t x1 -j 18 -N 2 "$binary") in
    " b7 00") machine=aarch64 ;;
    " 3e 00") machine=x86_64 ;;
    *) fail "$binary is no program for aarch64." ;;
    esac
fi

scratch=$(mktemp -d)
folder=''
# One connection for all, so that a password is asked for once.
options+=(-o ControlMaster=auto -o ControlPersist=60 -o "ControlPath=$scratch/ssh" -o ServerAliveInterval=10
    -o ConnectTimeout=20)
# shellcheck disable=SC2029 # The near side knows the folder there.
remote() { ssh "${options[@]}" "$host" "$@"; }
clean_up() {
    [[ -z $folder ]] || ssh "${options[@]}" -o BatchMode=yes -n "$host" rm -rf "$folder" || true
    ssh "${options[@]}" -O exit "$host" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT

user=$(remote id -u </dev/null) || fail "There is no way into $host by ssh."
sudo=sudo
[[ $user != 0 ]] || sudo=''

case $action in
status)
    remote "cat /opt/pihook/history; echo \"The current one: \$(readlink /opt/pihook/current)\"
        $sudo systemctl status --no-pager --full pihook.service pihook.socket" </dev/null
    exit
    ;;
logs)
    follow=''
    [[ ! -t 1 ]] || follow=--follow
    remote "$sudo journalctl --unit 'pihook.*' --lines 100 --no-pager $follow" </dev/null
    exit
    ;;
esac

mkdir "$scratch/files"
cp "$here/install.sh" "$scratch/files"
answers=''
if [[ $action == release ]]; then
    cp "$here"/pihook.{service,socket,toml} "$scratch/files"
    cp "$binary" "$scratch/files/pihook"
    missing=$(remote bash -s missing "$machine" <"$here/install.sh") || exit
    for what in $missing; do
        answer=''
        case $what in
        host) read -rp "The address or name by which Telegram reaches your router (auto finds the address): " answer || true ;;
        token) read -rsp "The bot's token, which is not shown: " answer || true ;;
        esac
        [[ $what == host || ! -t 0 ]] || echo
        [[ -n $answer ]] || fail "Without it there is nothing to install."
        answers+=$answer$'\n'
    done
fi

folder=$(remote mktemp -d /tmp/pihook.XXXXXX </dev/null)
(cd "$scratch/files" && sha256sum -- * >SHA256SUMS)
scp -q "${options[@]}" "$scratch/files"/* "$host:$folder/"
remote "cd $folder && sha256sum --check --quiet SHA256SUMS" </dev/null || fail "The copy is damaged. Nothing was changed."
[[ -z $answers ]] || printf '%s' "$answers" | remote "$sudo bash $folder/install.sh settings"

# As a unit of its own it goes on when the connection breaks. What it says goes through a file: a pipe would break with it.
follow="cd $folder && : >log
$sudo systemd-run --quiet --wait --collect --unit=pihook-deploy --property=StandardOutput=append:$folder/log \
    --property=StandardError=inherit bash $folder/install.sh $action &
tail -s 0.2 -n +1 --pid=\$! -f log
wait \$!"
# From here on it is removed over there.
folder=''
code=0
remote bash -s <<<"$follow" || code=$?
[[ $code != 255 ]] || fail "The connection broke. What was begun goes on there; --status tells how it ended."
((code == 0)) || exit "$code"
