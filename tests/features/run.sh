#!/usr/bin/env bash
# Paints one row a feature with the demo model and asserts by figures that each does what it claims.
#
#     tests/features/run.sh PATH-OF-latentd [--fast] [--only ROW,...] [--sheet FILE.png]
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/features/run.sh PATH-OF-latentd [options]}")
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 "$(dirname "$0")/run.py" --latentd "$latentd" --work "$work" "$@"
