#!/usr/bin/env bash
# Runs every fuzz harness of a sanitizer build: first its seed corpus, then a bounded number of new
# executions. Prints one line a harness and `N passed, N failed`.
#
#     tests/fuzz/run.sh BUILD            20,000 executions each (part of tests/run.sh)
#     tests/fuzz/run.sh BUILD 1000000    the number a merge of a border asks for
set -uo pipefail
cd "$(dirname "$0")"

build=${1:?usage: tests/fuzz/run.sh BUILD [EXECUTIONS]}
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
    seeds=()
    dictionary=()
    [ -f "${name#fuzz_}.dict" ] && dictionary=(-dict="${name#fuzz_}.dict")
    [ -d "$corpus" ] && seeds=("$corpus")
    if "$harness" -runs="$executions" -timeout=5 -rss_limit_mb=512 -seed=1 -verbosity=0 \
            "${dictionary[@]}" \
            -artifact_prefix="$work/" "$work/$name" "${seeds[@]}" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok $name: $executions executions in $((SECONDS - start)) s"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        grep -E 'ERROR|runtime error|SUMMARY|ALARM' "$work/log" | head -n 5
        tail -n 5 "$work/log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
