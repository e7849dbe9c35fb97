#!/usr/bin/env bash
# Checks what the documents say: `bash tests/readme.sh`. Links lead to files and headings that exist. Every command of the documents
# is run here as it stands, or is named below with the test that runs it. A command that is neither is an error.
#
# A command is an indented line, or inline code that begins with a program's name. Text below the name of a file in brackets is that
# file's, and other text stands between ``` lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

documents=(README.md README.ru.md CHANGELOG.md certs/README.md deploy/README.md .github/*.md)
with_commands=(README.md README.ru.md certs/README.md deploy/README.md)
programs='sudo|cargo|pihook|man|journalctl|openssl|apt|apt-get|dpkg|rustup|chmod|read|systemctl|deploy/[a-z_]+\.sh|tests/[a-z/]+(\.sh)?'
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PATH=$scratch/bin:$PATH CARGO_INSTALL_ROOT=$scratch
declare -A known=()
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# commands FILE…: each command once.
commands() {
    perl -CSD -ne '
        $fenced = !$fenced, next if /^```/;
        next if $fenced;
        if (/^ {4,}(\S.*)$/ && $blank) { print "$1\n" unless $above =~ m{\(`/}; next }
        for my $code (/`([^`]+)`/g) { print "$code\n" if $code =~ m{^('"$programs"')( |$)} && $code =~ m{[ /]} }
        ($blank = /^\s*$/) or $above = $_;
    ' "$@" | sort -u
}

# runs COMMAND [WORDS]: runs it in a folder, with standard input; its output must hold these words.
runs() {
    local output
    known[$1]=1
    if output=$(bash -c "$1" 2>&1) && [[ $output == *${2:-}* ]]; then
        echo "ran: $1"
    else
        fail "$1: $output"
    fi
}

# elsewhere FILE WORDS COMMAND…: these are run by this file, which has these words.
elsewhere() {
    local file=$1 words=$2 command
    shift 2
    grep -qF -- "$words" "$file" || fail "$file has no: $words"
    for command in "$@"; do known[$command]=1; done
}

# skipped COMMAND…: with the reason above.
skipped() {
    local command
    for command in "$@"; do known[$command]=1; done
}

slugs() {
    perl -CSD -ne '
        $fenced = !$fenced if /^```/;
        next if $fenced || !/^#+ +(.*\S)/;
        $_ = lc $1; s/[^\w\- ]//g; s/ /-/g; print "$_\n";
    ' "$1"
}

links() {
    local document link file anchor
    for document in "${documents[@]}"; do
        while read -r link; do
            case $link in
            https://?*.?*) ;;
            *://* | mailto:*) fail "$document: $link is no https link" ;;
            *)
                file=${link%%#*} anchor=''
                [[ $link != *'#'* ]] || anchor=${link#*#}
                [[ -z $file ]] && file=$document || file=$(dirname "$document")/$file
                if [[ ! -e $file ]]; then
                    fail "$document: $link leads to no file"
                elif [[ -n $anchor ]] && ! slugs "$file" | grep -qxF -- "$anchor"; then
                    fail "$document: $link leads to no heading"
                fi
                ;;
            esac
        done < <(perl -CSD -ne '$f = !$f if /^```/; print "$1\n" while !$f && /\]\(([^)\s]+)\)/g' "$document")
    done
}

lab=tests/nspawn

links
runs 'cargo run --example demo' 'bot: hello' <<<hello
runs 'cargo run --example demo -- buttons' 'bot: (shows) Coffee it is.' <<<$'hello\n#2'
runs 'cargo install --locked --path .'
runs 'pihook help' 'pihook init'
runs 'read -rs TELEGRAM_BOT_TOKEN && export TELEGRAM_BOT_TOKEN' <<<secret
mkdir "$scratch/work" && ln -s "$PWD" "$scratch/work/pihook"
pushd "$scratch/work" >/dev/null
runs 'pihook cert --host 80.100.95.20' webhook_pkey.pem
runs 'openssl genrsa -out webhook_pkey.pem 2048'
# As the text says: a dot for each question but the sixth.
runs 'openssl req -new -x509 -days 3650 -key webhook_pkey.pem -out webhook_cert.pem' <<<$'.\n.\n.\n.\n.\n80.100.95.20\n.'
runs 'chmod 600 webhook_pkey.pem'
printf '%s\n' 'public_host = "80.100.95.20"' 'certificate = "webhook_cert.pem"' 'private_key = "webhook_pkey.pem"' >pihook.toml
checked=$(TELEGRAM_BOT_TOKEN=110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw pihook check --config pihook.toml 2>&1) ||
    fail "the lesson's certificate: $checked"
runs 'cargo new greeter'
cd greeter
runs 'cargo add --path ../pihook'
popd >/dev/null

elsewhere .ci/run 'deploy/build.sh | tee' deploy/build.sh
elsewhere .ci/run 'deploy/package.sh >>' deploy/package.sh
elsewhere .ci/run 'cargo doc' 'cargo doc --open'
elsewhere .ci/run readme_tests 'cargo test --locked --workspace'
elsewhere .ci/run 'mandoc -T lint' 'man pihook' 'man pihook.toml'
elsewhere .ci/run 'tests/nspawn/run trixie' tests/nspawn/run 'tests/nspawn/run trixie'
elsewhere .ci/run tests/homes/run tests/homes/run
elsewhere benches/echo/main.rs 'cargo bench --bench echo' 'cargo bench --bench echo'
elsewhere tests/registration.rs '"webhook", "set"' 'pihook webhook set'
elsewhere .ci/run 'dpkg --add-architecture arm64' 'dpkg --add-architecture arm64'
elsewhere .github/workflows/release.yml gcc-aarch64-linux-gnu 'rustup target add aarch64-unknown-linux-gnu' \
    'apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross'
elsewhere tests/polling.rs TELEGRAM_BOT_TOKEN 'pihook run'
elsewhere $lab/package.rs 'apt-get install -y /packages/pihook.deb' 'sudo apt install ./pihook_*_arm64.deb'
elsewhere $lab/package.rs newer.deb 'sudo apt install ./pihook_NEWER_arm64.deb'
elsewhere $lab/package.rs 'install --allow-downgrades' 'sudo apt install --allow-downgrades ./pihook_OLDER_arm64.deb'
elsewhere $lab/package.rs 'apt-get remove -y pihook' 'sudo apt remove pihook'
elsewhere $lab/package.rs 'apt-get purge -y pihook' 'sudo apt purge pihook'
elsewhere $lab/package.rs '"pihook init"' 'sudo pihook init' 'pihook init'
elsewhere $lab/package.rs 'pihook init --host' 'sudo pihook init --host home.example.org --port-mapping auto <token.txt'
elsewhere $lab/package.rs 'pihook check' 'sudo pihook check' 'pihook check'
elsewhere $lab/package.rs 'pihook status' 'sudo pihook status'
elsewhere $lab/nspawn.rs 'pihook doctor' 'sudo pihook doctor'
elsewhere $lab/nspawn.rs 'systemctl restart pihook.service' 'sudo systemctl restart pihook' 'sudo systemctl reload pihook'
# With files in place of an editor.
elsewhere $lab/nspawn.rs pihook.service.d 'sudo systemctl edit pihook' 'systemctl edit pihook.socket'
elsewhere $lab/nspawn.rs 'journalctl --unit pihook.service' 'journalctl -u pihook'
elsewhere tests/doctor.rs '"webhook", "delete"' 'sudo pihook webhook delete'
elsewhere $lab/pi.rs deploy/deploy.sh 'deploy/deploy.sh pi@raspberrypi.local'
elsewhere $lab/hosts.rs '"--rollback"' 'deploy/deploy.sh pi@raspberrypi.local --rollback'
elsewhere $lab/package.rs '"--remove"' 'deploy/deploy.sh pi@raspberrypi.local --remove'
elsewhere $lab/hosts.rs '"--uninstall"' 'deploy/deploy.sh pi@raspberrypi.local --uninstall'
# The first is a mode of a file that the reader names. The others are the lesson's, or change this machine's clock.
skipped 'chmod 600' 'sudo apt-get install openssl' 'openssl genrsa …' 'openssl req … -x509 …' 'sudo timedatectl set-ntp true'

all=$(commands "${with_commands[@]}")
while read -r command; do
    [[ -n ${known[$command]:-} ]] || fail "this command of a document is neither run nor named here: $command"
done <<<"$all"
for command in "${!known[@]}"; do
    grep -qxF -- "$command" <<<"$all" || fail "no document has the command: $command"
done
echo "documents: $(wc -l <<<"$all") commands, $failures failures"
((failures == 0))
