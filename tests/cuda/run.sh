#!/usr/bin/env bash
# The tests of the CUDA kernels over their host build (kernels/host): no GPU, no CUDA. One build tree a
# flavour; prints a line each and ends with `N passed, N failed, N skipped`.
#
#     tests/cuda/run.sh                   asan tsan msan (plain runs in the main build, ctest -L cuda)
#     tests/cuda/run.sh FLAVOUR...        plain: no sanitizer; asan: gcc, AddressSanitizer and UBSan;
#                                         tsan: gcc, ThreadSanitizer, finds races between barriers;
#                                         msan: clang, MemorySanitizer, finds what was never set
#     LD_CUDA_BUILD=dir, LD_JOBS=n        where to build (build/cuda-FLAVOUR), with how many processes
set -uo pipefail
cd "$(dirname "$0")/../.."

base=${LD_CUDA_BUILD:-build}
jobs=${LD_JOBS:-$(nproc)}
passed=0 failed=0 skipped=0

# flavour NAME SANITIZERS C CXX
flavour() {
    local name=$1 sanitize=$2 cc=$3 cxx=$4 p f s status start=$SECONDS built
    local build=$base/cuda-$name log=$base/cuda-$name/run.log
    mkdir -p "$build"
    if ! { cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER="$cc" \
               -DCMAKE_CXX_COMPILER="$cxx" -DLATENTD_CUDA=OFF -DLATENTD_CPU_FAST=OFF \
               -DLATENTD_SANITIZE="$sanitize" &&
               cmake --build "$build" -j "$jobs" --target cuda_tests; } >"$log" 2>&1; then
        grep -E 'error|Error|FAILED' "$log" | head -n 20 | cut -c1-300
        echo "FAIL $name: the build failed; its log is $log"
        failed=$((failed + 1))
        return
    fi
    built=$((SECONDS - start)) start=$SECONDS
    timeout --kill-after=10 400 ctest --test-dir "$build" --output-on-failure -j "$jobs" -L '^cuda$' \
        >"$log" 2>&1
    status=$?
    read -r p f s < <(/usr/bin/python3 tests/count.py "$log")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ $((p + f)) -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-6s %3d passed %3d failed %3d skipped  built in %d s, ran %d s\n' \
        "$name" "$p" "$f" "$s" "$built" $((SECONDS - start))
    if [ "$f" -gt 0 ]; then
        grep -E 'FAIL|FAILED|ERROR|WARNING: |runtime error|latentd host kernels' "$log" | head -n 30 |
            cut -c1-400
    fi
}

[ $# -eq 0 ] && set -- asan tsan msan
for name in "$@"; do
    case $name in
        plain) flavour plain "" gcc g++ ;;
        asan) flavour asan address,undefined gcc g++ ;;
        tsan) flavour tsan thread gcc g++ ;;
        msan) flavour msan memory clang clang++ ;;
        *) echo "usage: tests/cuda/run.sh [plain|asan|tsan|msan]..." >&2; exit 2 ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
