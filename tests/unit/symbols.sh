#!/usr/bin/env bash
# Proves that no two libraries define the same name: the linker would take the first one it meets
# and say nothing, so one caller would run the other's function. Compares what `nm` lists.
#
#     tests/unit/symbols.sh LIBRARY...
set -euo pipefail

twice=$(nm --defined-only --extern-only "$@" 2>/dev/null |
    awk 'NF == 3 && $2 ~ /[BDRT]/ { print $3 }' | sort | uniq --repeated)
count=$(nm --defined-only --extern-only "$@" 2>/dev/null | awk 'NF == 3 && $2 ~ /[BDRT]/' | wc -l)
for name in $twice; do
    echo "FAIL $name is defined more than once"
done
echo "$count names"
[ -z "$twice" ] && [ "$count" -gt 0 ]
