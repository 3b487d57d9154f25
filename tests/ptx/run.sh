#!/usr/bin/env bash
# The CUDA kernels as nvcc compiled them, over the machine that runs their PTX (ptx.h): no GPU needed,
# but nvcc. Prints a line a flavour and ends with `N passed, N failed, N skipped`.
#
#     tests/ptx/run.sh                    all of them
#     tests/ptx/run.sh FLAVOUR...         plain: everything, the machine's own tests too;
#                                         orders: what sets no order itself, backwards and by a seed;
#                                         races: accesses to shared memory without a barrier between
#
# LD_PTX_BUILD=dir: the build to use (build/tests). LD_JOBS=n.
set -uo pipefail
cd "$(dirname "$0")/../.."

build=${LD_PTX_BUILD:-build/tests}
jobs=${LD_JOBS:-$(nproc)}
logs=$(dirname "$build")/test-logs
passed=0 failed=0 skipped=0

skip() {
    echo "skip: $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

broken() {
    grep -E 'error|Error|FAILED' "$1" | head -n 20 | cut -c1-300
    echo "FAIL the build failed; its log is $1"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}

# flavour NAME LABEL VARIABLE=VALUE...: the tests of that label, in that environment.
flavour() {
    local name=$1 label=$2 log="$logs/ptx-${1// /-}.log" p f s status start=$SECONDS
    shift 2
    timeout --kill-after=10 600 env "$@" ctest --test-dir "$build" --output-on-failure -j "$jobs" \
        -L "^$label\$" >"$log" 2>&1
    status=$?
    read -r p f s < <(/usr/bin/python3 tests/count.py "$log")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ $((p + f)) -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-9s %3d passed %3d failed %3d skipped  %4d s\n' \
        "$name" "$p" "$f" "$s" $((SECONDS - start))
    if [ "$f" -gt 0 ]; then
        grep -E 'FAIL|ERROR|Failed|latentd ptx|Timeout' "$log" | head -n 30 | cut -c1-400
    fi
}

[ $# -eq 0 ] && set -- plain orders races
for name in "$@"; do
    case $name in
        plain | orders | races) ;;
        *) echo "usage: tests/ptx/run.sh [plain|orders|races]..." >&2; exit 2 ;;
    esac
done

mkdir -p "$logs"
if [ ! -f "$build/build.ninja" ]; then
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=gcc \
        >"$logs/ptx-cmake.log" 2>&1 || broken "$logs/ptx-cmake.log"
fi
if ! ninja -C "$build" -t query ptx_tests >"$logs/ptx-build.log" 2>&1; then
    grep -q '^LATENTD_CUDA:STRING=OFF' "$build/CMakeCache.txt" &&
        skip "$build is configured without CUDA"
    skip "nvcc is not on this machine"
fi
start=$SECONDS
cmake --build "$build" -j "$jobs" --target ptx_tests >"$logs/ptx-build.log" 2>&1 ||
    broken "$logs/ptx-build.log"
echo "built in $((SECONDS - start)) s"

for name in "$@"; do
    case $name in
        plain) flavour plain ptx PTX_ORDER=0 ;;
        orders)
            flavour "order 1" ptx_orders PTX_ORDER=1
            flavour "order 77" ptx_orders PTX_ORDER=77
            ;;
        races) flavour races ptx_races PTX_RACES=1 ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
