#!/usr/bin/env bash
# Runs golden_check over the golden data in this folder. Ends with its line `N passed, N failed`,
# or `N passed, N failed, N skipped` where the CLIP vocabulary is not there.
#
#     tests/golden/run.sh BUILD [--vocab DIR]
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "usage: tests/golden/run.sh BUILD [--vocab DIR]" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
shift

# The tiny checkpoint follows from a rule and is made where it lacks or is older than its maker.
base=$build/tests/golden
maker=$build/tests/tools/make_golden_model
mkdir -p "$base"
if [ ! "$base/tiny.safetensors" -nt "$maker" ]; then
    "$maker" "$base"
fi
exec "$build/tests/golden_check" --base "$base" --spec "$here/spec" "$@" "$here/model" "$here/sampling"
