#!/usr/bin/env bash
# Installs pihook on a Pi over ssh, and checks that it works:
#
#   deploy/deploy.sh pi@host [--binary FILE]   installs the binary, by default the one that build.sh built, and restarts
#   deploy/deploy.sh pi@host --rollback        starts the previous release again
#   deploy/deploy.sh pi@host --status          shows its state
#   deploy/deploy.sh pi@host --logs            shows its log; on a terminal, also each new line
#   deploy/deploy.sh pi@host --remove          removes the program, and keeps settings, token and certificate
#   deploy/deploy.sh pi@host --uninstall       removes everything
#
# --identity KEY and --port N are for ssh. deploy.sh asks for what it needs: sudo's password, if sudo on the Pi asks for one;
# then, for a first installation, the bot's token, whether your router may be asked to forward the port, and your home's own host
# name. Without a terminal, each of these is one line of standard input, in this order.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")

help() { sed -n '2,/^set /s/^#\( \|$\)//p' "${BASH_SOURCE[0]}"; }

usage() {
    help >&2
    exit 64
}

fail() {
    echo "$*" >&2
    exit 1
}

target=${CARGO_TARGET_DIR:-$here/../target}
# shellcheck source=deploy/find_binary.sh
source "$here/find_binary.sh"

# A variable of the caller's environment stays in the environment of every command: these are not to be there.
unset password answer answers

host='' action=release options=()
while (($#)); do
    case $1 in
    --binary | --identity | --port) (($# > 1)) || usage ;;&
    --binary) binary=$2 && shift ;;
    --identity) options+=(-i "$2") && shift ;;
    --port) options+=(-o "Port=$2") && shift ;;
    --rollback | --status | --logs | --remove | --uninstall) action=${1#--} ;;
    --help | -h) help && exit ;;
    -*) usage ;;
    *) [[ -z $host ]] || usage && host=$1 ;;
    esac
    shift
done
[[ -n $host ]] || usage
# Not every ssh takes a URL, and none takes brackets in one.
if [[ $host == ssh://* ]]; then
    [[ $host =~ ^ssh://(.*@)?(\[[^]]*\]|[^]:@/[]+)(:([0-9]+))?/?$ ]] || fail "$host is not a valid address. Write ssh://user@host:port."
    host=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    [[ -z ${BASH_REMATCH[4]} ]] || options+=(-o "Port=${BASH_REMATCH[4]}")
fi
[[ ! $host =~ ^(.*@)?\[(.*)\]$ ]] || host=${BASH_REMATCH[1]}${BASH_REMATCH[2]}

for command in ssh tar sha256sum od; do
    command -v "$command" >/dev/null || fail "This machine has no command $command. Install it."
done
machine='' bytes=0
if [[ $action == release ]]; then
    machine_of_binary
    bytes=$(wc -c <"$binary")
fi

scratch=$(mktemp -d)
# The shell of the Pi may print what it likes. Only a line that begins with this mark, which no other run has, counts.
mark=pihook-${scratch##*.}
# One connection for all, so that ssh asks for a password only once.
options+=(-o ControlMaster=auto -o ControlPersist=60 -o "ControlPath=$scratch/ssh" -o ServerAliveInterval=10
    -o ConnectTimeout=20)
# shellcheck disable=SC2029 # The near side knows all the words.
remote() { ssh "${options[@]}" -- "$host" "$@"; }
clean_up() {
    ssh "${options[@]}" -O exit -- "$host" 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT

# ask QUESTION: reads one line, hidden, into `answer`.
ask() {
    answer=''
    IFS= read -rsp "$1: " answer || [[ -n $answer ]] || fail "The answer is missing: $1. Nothing was changed."
    [[ ! -t 0 ]] || echo >&2
}

# Whether sudo on the Pi takes the password. printf is part of bash: no process has the password on its command line.
sudo_takes() {
    local said code=0
    said=$(printf '%s\n' "$1" | remote "env LC_ALL=C sudo -k -S -p '' true" 2>&1 | head -c 4096) || code=$?
    case $code,${said,,} in
    0,*) return ;;
    255,*) fail "The connection broke. Nothing was changed. Run deploy.sh again." ;;
    *"try again"* | *incorrect* | *"no password"* | *"authentication fail"*) return 1 ;;
    *) fail "sudo on the Pi failed: $(tail -n 1 <<<"$said" | LC_ALL=C tr -cd ' -~' | cut -c 1-200)" ;;
    esac
}

[[ $action == status || $action == logs ]] || echo "Connecting to $host…"
code=0
survey=$(remote bash -s survey "$mark" "$action" "$machine" "$bytes" <"$here/install.sh" | head -c 65536) || code=$?
needs=$(sed -n "s/^$mark \([a-z]*\)$/\1/p" <<<"$survey")
case $code,${needs##*$'\n'} in
0,end) ;;
*,lacks) exit "$code" ;; # install.sh named them.
255,*) fail "ssh cannot log in to $host. Nothing was changed. Check the address and the ssh key." ;;
*) fail "Cannot run bash on $host (exit code $code). Nothing was changed. Log in as a user with a normal shell." ;;
esac

sudo='' password='' ask_sudo='' answers=''
for need in $needs; do
    case $need in
    sudo) sudo='sudo -n' ;;
    password)
        # -k: a ticket of before counts for nothing, so that sudo takes the line. Where sudo takes none, install.sh gets it.
        sudo="sudo -k -S -p ''" ask_sudo=yes
        for try in 1 2 3; do
            ask "The password for sudo on the Pi (hidden)"
            password=$answer
            ! sudo_takes "$password" || break
            echo "sudo on the Pi does not accept this password." >&2
            # The next line of a script is the answer to another question.
            [[ -t 0 && $try != 3 ]] || fail "Nothing was changed. Run deploy.sh again with the right password."
        done
        ;;
    esac
done
# These are the questions of `pihook init`, which gets the answers on the Pi, checks them and writes them.
for need in $needs; do
    case $need in
    token)
        ask "The bot's token, from @BotFather (hidden)"
        [[ -n $answer ]] || fail "The token is missing. Get it from @BotFather. Nothing was changed."
        answers+="token $answer"$'\n'
        ;;
    settings)
        read -rp "May pihook ask your router to forward the port to the Pi? [Y/n]: " answer || true
        # Without a terminal, no answer means no.
        [[ -n $answer || ! -t 0 ]] || answer=y
        answers+="router ${answer:-n}"$'\n'
        answer=''
        read -rp "Your public IPv4 address or domain name, if it never changes (press Enter if you do not know: pihook finds the address): " answer || true
        answers+="host $answer"$'\n'
        ;;
    esac
done

mkdir "$scratch/files"
cp "$here/install.sh" "$scratch/files"
if [[ $action == release ]]; then
    cp "$here"/pihook.{service,socket,toml} "$scratch/files"
    cp "$binary" "$scratch/files/pihook"
    echo "Copying $((bytes / 1000000)).$((bytes / 100000 % 10)) MB…"
fi
(cd "$scratch/files" && sha256sum -- * >SHA256SUMS)
follow=''
[[ ! -t 1 ]] || follow=follow

# One command does all that needs root. Its input: sudo's password, a mark, install.sh as bash reads it, and what that reads.
# Bash takes no byte more from a pipe than the line that it needs.
send() {
    [[ -z $ask_sudo ]] || printf '%s\n' "$password"
    echo "$mark"
    cat "$here/install.sh"
    printf '%send\n' "$answers"
    tar -cf - -C "$scratch/files" .
}
skip="until [[ \$line == $mark ]]; do IFS= read -r line || exit 70; done"
code=0
send 2>/dev/null | remote "$sudo bash -c '$skip; exec bash -s root $action $follow'" || code=${PIPESTATUS[1]}
[[ $code != 255 ]] || fail "The connection broke. A deployment that has begun continues on the Pi. Check it with --status."
((code == 0)) || exit "$code"
