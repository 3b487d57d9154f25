#!/usr/bin/env bash
# Proves that the first command of the README works as printed, that a second run builds nothing
# anew, and that what is wrong is said in one sentence. Runs it in an empty folder, on a copy of the
# tracked files: a tree in which nothing was ever built, as a stranger has it.
set -uo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
root=$work/clone
trap 'rm -rf "$work"' EXIT
mkdir "$root"
(cd "$here" && git ls-files -z | tar --null -T - -cf -) | tar -xf - -C "$root" || exit 1
cd "$work" || exit 1
passed=0 failed=0

check() { # name, then a command that must succeed
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1)); echo "ok $name"
    else
        failed=$((failed + 1)); echo "FAIL $name"
    fi
}

paints() { "$root/deploy/quickstart.sh" --no-serve && [ "$(head -c 8 out.png | od -An -tx1 | tr -d " \n")" = 89504e470d0a1a0a ]; }
says() { # words, then the command; it must fail with one line that has the words
    local words=$1 text
    shift
    text=$("$@" 2>&1) && return 1
    [ "$(wc -l <<<"$text")" -eq 1 ] && grep -q "$words" <<<"$text"
}
second_is_quick() {
    local start=$SECONDS
    "$root/deploy/quickstart.sh" --no-serve >second.log 2>&1 || return 1
    echo "second run: $((SECONDS - start)) s"
    [ $((SECONDS - start)) -lt 30 ]
}
taken_port() {
    python3 -c 'import socket,time
s=socket.socket(); s.bind(("127.0.0.1",0)); s.listen(); print(s.getsockname()[1],flush=True); time.sleep(20)' >port &
    local holder=$!
    while [ ! -s port ]; do sleep 0.1; done
    says "port $(cat port) is taken" "$root/deploy/quickstart.sh" --port "$(cat port)"
    local status=$?
    kill "$holder"
    return $status
}

start=$SECONDS
check "the quick start paints" paints
echo "first run: $((SECONDS - start)) s"
check "a second run builds nothing" second_is_quick
check "a missing model is named" says "there is no file 'nowhere.safetensors'" \
    "$root/deploy/quickstart.sh" --model nowhere.safetensors
check "a taken port is named" taken_port
check "an unknown option is named" says "unknown option '--modle'" "$root/deploy/quickstart.sh" --modle x
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
