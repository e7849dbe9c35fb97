# The binary that is deployed and packaged: deploy.sh and package.sh source this, with `target` and `fail`.
# shellcheck shell=bash disable=SC2034,SC2154

binary=$target/aarch64-unknown-linux-gnu/release/pihook
cross=$target/cross/aarch64-unknown-linux-gnu/release/pihook
[[ ! $cross -nt $binary ]] || binary=$cross

# Sets `machine` to the one that `binary` is for.
machine_of_binary() {
    [[ -f $binary ]] || fail "$binary does not exist. Run deploy/build.sh, or give a file with --binary."
    case $(od -An -t x1 -j 18 -N 2 "$binary") in
    " b7 00") machine=aarch64 ;;
    " 3e 00") machine=x86_64 ;;
    *) fail "$binary is not a program for aarch64. Build one with deploy/build.sh." ;;
    esac
}
