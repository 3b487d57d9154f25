#!/usr/bin/env bash
# Paints random prompts with the demo model and judges the pictures; prints the accuracies and writes
# a contact sheet.
#
#     tests/demo/run.sh [LATENTD] [--prompts N]    default 300 prompts; the full test run takes 30
set -euo pipefail
cd "$(dirname "$0")/../.."

latentd=build/tests/server/latentd
if [ $# -gt 0 ] && [[ $1 != --* ]]; then latentd=$1; shift; fi
[ -x "$latentd" ] || { echo "there is no program $latentd; tests/run.sh builds it" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p build
/usr/bin/python3 tests/demo/judge.py --latentd "$latentd" --work "$work" \
    --sheet build/demo-sheet.png "$@"
