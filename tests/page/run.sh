#!/usr/bin/env bash
# Runs the tests of the web page in a real browser against a built program.
#
#     tests/page/run.sh PATH-OF-latentd [pytest options]
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/page/run.sh PATH-OF-latentd}")
shift
if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
    echo "page: skipped, there is no chromium here (Debian: apt-get install chromium)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
cd "$(dirname "$0")"
exec /usr/bin/python3 -m pytest -q -p no:cacheprovider -p no:hypothesispytest "--latentd=$latentd" "$@" .
