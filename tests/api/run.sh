#!/usr/bin/env bash
# Runs the API tests against a built program with the scripted worker.
#
#     tests/api/run.sh PATH-OF-latentd [pytest options]
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/api/run.sh PATH-OF-latentd}")
shift
cd "$(dirname "$0")"
exec /usr/bin/python3 -m pytest -q -p no:cacheprovider -p no:hypothesispytest "--latentd=$latentd" "$@" .
