#!/usr/bin/env bash
# A first run on a machine that has nothing: makes a fresh Debian in a folder of its own, clones what is
# committed here into it and runs the README's first command there, from installing to the first picture.
# For the night and before a release: a quarter of an hour and 3 GB a release; needs root, debootstrap,
# git, unshare and a network. It must not be killed with SIGKILL while it runs: the folder would stay.
#
#     tests/fresh/run.sh                    Debian 12 and 13
#     tests/fresh/run.sh trixie             only that release
#
# LATENTD_FRESH_TESTS="SUITE...": run these suites of tests/run.sh there as well.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { printf 'skip: %s\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }
[ "$(id -u)" -eq 0 ] || skip "needs root"
for tool in debootstrap unshare git; do
    command -v $tool >/dev/null || skip "there is no $tool here"
done
[ $# -gt 0 ] || set -- bookworm trixie

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
passed=0 failed=0 skipped=0
for release in "$@"; do
    machine=$work/$release log=build/fresh-$release.log start=$SECONDS
    mkdir -p build
    if ! debootstrap --variant=minbase --include=ca-certificates "$release" "$machine" >"$log" 2>&1; then
        skipped=$((skipped + 1))
        echo "skip: no packages of $release can be fetched: $(tail -n 1 "$log")"
        continue
    fi
    cp /etc/resolv.conf "$machine/etc/"
    git clone -q . "$machine/root/latentd"
    made=$((SECONDS - start)) start=$SECONDS
    # The mounts live in a name space that ends with the commands.
    if unshare --mount bash -c '
            set -e
            mount -t proc proc "$1/proc"
            mount --bind /dev "$1/dev"
            chroot "$1" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -c "
                set -e
                cd /root/latentd
                timeout 1800 deploy/quickstart.sh --no-serve
                [ -z \"$2\" ] || timeout 5400 tests/run.sh $2"
            ' -- "$machine" "${LATENTD_FRESH_TESTS:-}" >>"$log" 2>&1 && [ -s "$machine/root/latentd/out.png" ]
    then
        cp "$machine/root/latentd/out.png" "build/fresh-$release.png"
        passed=$((passed + 1))
        echo "ok $release: the first picture after $((SECONDS - start)) s (the machine itself took $made s): build/fresh-$release.png"
    else
        failed=$((failed + 1))
        echo "FAIL $release: $log"
        grep -E 'error|Error|FAILED' "$log" | head -n 10 | cut -c1-300
        tail -n 5 "$log" | cut -c1-300
    fi
    rm -rf --one-file-system "$machine"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
