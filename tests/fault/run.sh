#!/usr/bin/env bash
# Runs the fault tests against a built program: a day with all its accidents, and the fast form of
# the kills.
#
#     tests/fault/run.sh PATH-OF-latentd
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/fault/run.sh PATH-OF-latentd}")
cd "$(dirname "$0")"
passed=0 failed=0
for part in "day.py $latentd" "kill.py $latentd --kills 120 --queued 2000" \
    "power.py $latentd --images 300"; do
    # shellcheck disable=SC2086 # words on purpose
    if timeout 280 /usr/bin/python3 $part; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL ${part%% *}"
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
