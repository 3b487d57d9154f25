#!/usr/bin/env bash
# Runs every fuzz harness of a sanitizer build: first its seed corpus, then a bounded number of new
# executions; then replays damaged traffic against the whole front. Prints one line a harness and
# `N passed, N failed`.
#
#     tests/fuzz/run.sh BUILD            20,000 executions each (part of tests/run.sh)
#     tests/fuzz/run.sh BUILD 1000000    the number a merge of a border asks for
set -uo pipefail
build=${1:?usage: tests/fuzz/run.sh BUILD [EXECUTIONS]}
build=$(realpath "$build")
cd "$(dirname "$0")"

executions=${2:-20000}
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for harness in "$build"/tests/fuzz_*; do
    [ -x "$harness" ] && [ -f "$harness" ] || continue
    name=$(basename "$harness")
    corpus=corpus/${name#fuzz_}
    mkdir -p "$work/$name"
    start=$SECONDS
    runs=$executions
    options=()
    asan=${ASAN_OPTIONS:-}
    # Fifty commits an execution, so a twentieth of them; it reads 128 bytes; its statements live to
    # the end, so leaks are looked for there alone; most of its memory is the sanitizer's quarantine.
    if [ "$name" = fuzz_store_ops ]; then
        runs=$((executions / 20))
        options=(-max_len=128 -detect_leaks=0)
        asan=quarantine_size_mb=64${asan:+:$asan}
    fi
    seeds=()
    dictionary=()
    [ -f "${name#fuzz_}.dict" ] && dictionary=(-dict="${name#fuzz_}.dict")
    [ -d "$corpus" ] && seeds=("$corpus")
    if ASAN_OPTIONS=$asan "$harness" -runs="$runs" -timeout=5 -rss_limit_mb=512 -seed=1 -verbosity=0 \
            "${options[@]}" "${dictionary[@]}" \
            -artifact_prefix="$work/" "$work/$name" "${seeds[@]}" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok $name: $runs executions in $((SECONDS - start)) s"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        grep -E 'ERROR|runtime error|SUMMARY|ALARM' "$work/log" | head -n 5
        tail -n 5 "$work/log"
    fi
done
# Damaged traffic against the whole front of the same build.
if [ -x "$build/server/latentd" ]; then
    if ./http_replay.py "$build/server/latentd" --seconds 20 >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok http_replay: $(head -n 1 "$work/log")"
    else
        failed=$((failed + 1))
        echo "FAIL http_replay"
        cut -c1-2000 "$work/log" | head -n 40
    fi
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
