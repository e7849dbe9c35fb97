#!/usr/bin/env bash
# Strangers with their usual tools, slowhttptest and testssl.sh, against the bot on this machine: `bash tests/strangers.sh`.
# It takes 2 minutes on Debian, and needs root only to install what is missing. PIHOOK_BINARY names the binary to test;
# without it a release is built.
#
# It cannot show what a router does, nor what the bot does for those who know the secret token (tests/hostile.rs has that):
# these tools are refused as soon as the head of their request is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(curl iproute2 slowhttptest testssl.sh)
token=110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw
scratch=$(mktemp -d)
bot='' attack='' port='' passed=0 failed=() skipped=()
trap 'end; rm -rf "$scratch"' EXIT

# Ends what still runs.
end() {
    [[ -z $attack ]] || kill "$attack" 2>/dev/null || true
    [[ -z $bot ]] || kill "$bot" 2>/dev/null || true
    wait
}

# verdict NAME WHY…: it passed if there is no reason why not.
verdict() {
    local name=$1
    shift
    if (($# == 0)); then
        passed=$((passed + 1))
        echo "=== $name: passed"
    else
        failed+=("$name")
        printf "=== $name: FAILED, %s\n" "$@"
    fi
}

install_packages() {
    local package missing=()
    for package in "${packages[@]}"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>&1) == *" ok installed" ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    [[ $(id -u) == 0 ]] || { echo "CANNOT RUN HERE: only root can install: ${missing[*]}" && exit 69; }
    apt-get update -q
    apt-get install -qq --no-install-recommends "${missing[@]}"
}

# settings LISTEN NETWORKS: of a bot whose Bot API nobody answers; the webhook does not need it.
settings() {
    cat >"$scratch/pihook.toml" <<END
public_host = '80.100.95.20'
listen = '$1'
allow_from = [$2]
api_url = 'http://127.0.0.1:9'
[[bot]]
token = '$token'
END
    : >"$scratch/log"
}

# Sets $port when the bot whose process is $1 listens.
wait_for_port() {
    local tries
    for ((tries = 100; tries > 0; tries--)); do
        port=$(sed -n 's/.*Listening on .*:\([0-9]*\)\.$/\1/p' "$scratch/log")
        [[ -z $port ]] || return 0
        kill -0 "$1" || break
        sleep 0.1
    done
    cat "$scratch/log"
    exit 1
}

# A good client, from the address that allow_from names: 404 is the whole answer there is for it.
ask() {
    curl -sk --interface 127.0.0.2 --max-time 2 -o /dev/null -w '%{http_code} %{time_total}\n' "https://127.0.0.5:$port/" ||
        true
}

# slow NAME MODE PATH: one of slowhttptest's attacks, 50 new connections a second for 20 s.
slow() {
    local name=$1 why=() asked served
    : >"$scratch/asked"
    timeout 60 slowhttptest "$2" -c 900 -r 50 -l 20 -i 2 -p 3 -g -o "$scratch/slow" -u "https://127.0.0.5:$port$3" \
        >"$scratch/slow.log" 2>&1 &
    attack=$!
    while kill -0 "$attack" 2>/dev/null; do
        ask >>"$scratch/asked"
        sleep 0.5
    done
    wait "$attack" || why+=("slowhttptest ended with $?: $(tail -n 1 "$scratch/slow.log")")
    attack=''
    # Its table: seconds, closed, pending, connected, and 0 when its probe had no answer. Its probe comes from the address of
    # the attack, and shares the few connections that this address has: half of its tries must get through.
    awk -F, 'NR > 1 { last = $0; down += $5 == 0; if ($4 > most) most = $4 } END { split(last, of, ",")
        print "slowhttptest: " of[1] " s, at most " most + 0 " connections, " of[2] " closed by then; service unavailable in " \
            down + 0 " of " NR - 1 " seconds"; exit NR < 2 || down * 2 > NR - 1 }' "$scratch/slow.csv" ||
        why+=("slowhttptest found the service unavailable")
    asked=$(wc -l <"$scratch/asked") served=$(grep -c '^404 ' "$scratch/asked") || true
    echo "a good client meanwhile: served $served times of $asked, in $(sort -k2 -n "$scratch/asked" | tail -n 1 | cut -d' ' -f2) s at most"
    ((served == asked && asked > 0)) || why+=("a good client was not served")
    kill -0 "$bot" 2>/dev/null || why+=("the bot is gone: $(tail -n 1 "$scratch/log")")
    verdict "$name" "${why[@]}"
}

# What testssl.sh must find fault with: the certificate is our own, nobody can revoke it, it is for another address than
# that of this machine, and it lasts ten years.
expected='Chain of trust +NOT ok \(self signed\)|NOT ok -- neither CRL nor OCSP URI provided'

tls() {
    local why=() found
    timeout 180 testssl --quiet --color 0 --warnings off --nodns none --ip 127.0.0.5 --protocols --server-defaults \
        --vulnerable "https://127.0.0.5:$port/" | tee "$scratch/testssl" || why+=("testssl.sh did not end in 3 minutes")
    grep -Eq '^ TLS 1.3 +offered \(OK\)' "$scratch/testssl" || why+=("testssl.sh did not see TLS 1.3")
    grep -Eq '^ RC4 ' "$scratch/testssl" || why+=("testssl.sh did not come to its last vulnerability")
    found=$(grep -Ev "$expected" "$scratch/testssl" | grep -E 'VULNERABLE|NOT ok') && why+=("testssl.sh found: $found")
    [[ $(ask) == 404* ]] || why+=("a good client was not served afterwards")
    verdict "testssl.sh" "${why[@]}"
}

# A router that puts its own address in place of the callers': in a network of our own, since it must be a private address.
router() {
    local told why=()
    settings 192.168.1.1:0 "'149.154.160.0/20'"
    if ! unshare --user --map-root-user --net ip link set lo up 2>"$scratch/unshare"; then
        echo "CANNOT RUN HERE: this machine lets nobody have a network of their own: $(tail -n 1 "$scratch/unshare")"
        skipped+=("a router with its own address")
        return
    fi
    export -f in_network wait_for_port
    binary=$binary scratch=$scratch unshare --user --map-root-user --net bash -euo pipefail -c in_network ||
        why+=("it did not run to its end")
    told=$(grep -c 'WARN.*192\.168\.1\.254\b.*allow_from' "$scratch/log") || true
    ((told == 1)) || why+=("it was told $told times: $(cat "$scratch/log")")
    verdict "a router with its own address" "${why[@]}"
}

# shellcheck disable=SC2317 # It is called, over there.
in_network() {
    ip link set lo up
    ip address add 192.168.1.1/24 dev lo
    ip address add 192.168.1.254/24 dev lo
    "$binary" run --config "$scratch/pihook.toml" 2>"$scratch/log" &
    local bot=$!
    # shellcheck disable=SC2064 # The variable is gone by then.
    trap "kill $bot; wait" EXIT
    wait_for_port "$bot"
    for _ in 1 2 3; do
        curl -sk --interface 192.168.1.254 --max-time 5 "https://192.168.1.1:$port/" || true
    done
}

install_packages
binary=${PIHOOK_BINARY:-}
if [[ -z $binary ]]; then
    cargo build --release --locked
    binary=${CARGO_TARGET_DIR:-target}/release/pihook
fi
binary=$(realpath "$binary")

# The tools call from 127.0.0.1; whoever calls from the address that he calls is the bot's own probe, and no stranger.
settings 127.0.0.5:0 "'127.0.0.2/32', '0.0.0.0/0'"
"$binary" run --config "$scratch/pihook.toml" 2>"$scratch/log" &
bot=$!
wait_for_port "$bot"
slow "slow headers" -H /
slow "slow bodies" -B "/$token/"
slow "ranges" -R /
slow "slow reading" -X /
tls
end
bot=''
router

printf '\n'
((${#skipped[@]} == 0)) || printf 'SKIPPED: %s\n' "${skipped[@]}"
((${#failed[@]} == 0)) || printf 'FAILED: %s\n' "${failed[@]}"
echo "strangers: $passed passed, ${#failed[@]} failed, ${#skipped[@]} skipped"
((${#failed[@]} == 0))
