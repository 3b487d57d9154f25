#!/usr/bin/env bash
# The CUDA kernels over their host build (kernels/host), in the builds that find what values alone do
# not show: no GPU, no CUDA needed. Prints a line a flavour and ends with `N passed, N failed, N skipped`.
#
#     tests/cuda/run.sh                   asan tsan msan
#     tests/cuda/run.sh FLAVOUR...        plain: values, thread orders, counters (also in ctest -L fast);
#                                         asan: gcc, AddressSanitizer and UBSan: bounds, copies in flight;
#                                         tsan: gcc, ThreadSanitizer: races between two barriers;
#                                         msan: clang, MemorySanitizer: what was never set
#
# LD_CUDA_BUILD=dir: the gcc build to use (build/tests); msan has its own beside it. LD_JOBS=n.
set -uo pipefail
cd "$(dirname "$0")/../.."

build=${LD_CUDA_BUILD:-build/tests}
jobs=${LD_JOBS:-$(nproc)}
logs=$(dirname "$build")/test-logs
passed=0 failed=0 skipped=0

configure() { # folder, then options; nothing if it is configured
    local folder=$1
    shift
    [ -f "$folder/build.ninja" ] || cmake -S . -B "$folder" -G Ninja -DLATENTD_CUDA=OFF "$@"
}

# flavour NAME FOLDER TARGET LABEL OPTION...: the OPTIONs configure FOLDER if it is new.
flavour() {
    local name=$1 folder=$2 target=$3 label=$4 log=$logs/cuda-$1.log p f s status built start=$SECONDS
    shift 4
    if ! { configure "$folder" "$@" && cmake --build "$folder" -j "$jobs" --target "$target"; } >"$log" 2>&1
    then
        grep -E 'error|Error|FAILED' "$log" | head -n 20 | cut -c1-300
        echo "FAIL $name: the build failed; its log is $log"
        failed=$((failed + 1))
        return
    fi
    built=$((SECONDS - start)) start=$SECONDS
    timeout --kill-after=10 400 ctest --test-dir "$folder" --output-on-failure -j "$jobs" -L "^$label\$" \
        >"$log" 2>&1
    status=$?
    read -r p f s < <(/usr/bin/python3 tests/count.py "$log")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ $((p + f)) -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-6s %3d passed %3d failed %3d skipped  built in %d s, ran %d s\n' \
        "$name" "$p" "$f" "$s" "$built" $((SECONDS - start))
    if [ "$f" -gt 0 ]; then
        grep -E 'FAIL|ERROR|WARNING: |runtime error|latentd host kernels|Timeout' "$log" | head -n 30 |
            cut -c1-400
    fi
}

gcc_build=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++)
clang_build=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
             -DLATENTD_SANITIZE=memory -DLATENTD_CPU_FAST=OFF)

mkdir -p "$logs"
[ $# -eq 0 ] && set -- asan tsan msan
for name in "$@"; do
    case $name in
        plain) flavour plain "$build" cuda_kernel_tests cuda_kernels "${gcc_build[@]}" ;;
        asan) flavour asan "$build" cuda_kernel_tests_asan cuda_kernels_asan "${gcc_build[@]}" ;;
        tsan) flavour tsan "$build" cuda_kernel_tests_tsan cuda_kernels_tsan "${gcc_build[@]}" ;;
        msan) flavour msan "$(dirname "$build")/msan" cuda_kernel_tests cuda_kernels "${clang_build[@]}" ;;
        *) echo "usage: tests/cuda/run.sh [plain|asan|tsan|msan]..." >&2; exit 2 ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
