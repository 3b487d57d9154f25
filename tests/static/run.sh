#!/usr/bin/env bash
# The static proof of the CUDA kernels (proof.py tells what it proves). First the proof itself is
# tried: faults planted in the compiler's words and in a kernel must be found.
#
#     tests/static/run.sh [FILE.cu...]   ends with `N passed, N failed, N skipped`
#     tests/static/run.sh --update       budget.txt and census.txt become what was found
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
if ! tried=$(cd "$here" && python3 test_proof.py 2>&1); then
    echo "$tried"
    echo "FAIL the proof does not see planted faults"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
echo "ok the proof sees planted faults"
exec python3 "$here/proof.py" "$@"
