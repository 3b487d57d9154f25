#!/usr/bin/env bash
# Runs the fault tests against a built program: the fast form of each.
#
#     tests/fault/run.sh PATH-OF-latentd
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/fault/run.sh PATH-OF-latentd}")
cd "$(dirname "$0")"
exec timeout 280 python3 kill.py "$latentd" --kills 120
