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

# flavours NAME FOLDER TARGETS LABELS OPTION...: the OPTIONs configure FOLDER if it is new. What shares a
# folder is built and run together, so that no core waits for the last file or program of each flavour.
flavours() {
    local name=$1 folder=$2 targets=$3 labels=$4 log="$logs/cuda-${1// /-}.log" p f s status built start=$SECONDS
    shift 4
    # shellcheck disable=SC2086 # targets are words
    if ! { configure "$folder" "$@" && cmake --build "$folder" -j "$jobs" --target $targets; } >"$log" 2>&1
    then
        grep -E 'error|Error|FAILED' "$log" | head -n 20 | cut -c1-300
        echo "FAIL $name: the build failed; its log is $log"
        failed=$((failed + 1))
        return
    fi
    built=$((SECONDS - start)) start=$SECONDS
    timeout --kill-after=10 $((400 * $(wc -w <<<"$name"))) ctest --test-dir "$folder" --output-on-failure -j "$jobs" \
        -L "^($labels)\$" >"$log" 2>&1
    status=$?
    read -r p f s < <(/usr/bin/python3 tests/count.py "$log")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ $((p + f)) -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-9s %3d passed %3d failed %3d skipped  built in %d s, ran %d s\n' \
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
gcc='' targets='' labels='' clang=''
with_gcc() { # flavour, target, label
    gcc+="${gcc:+ }$1" targets+="${targets:+ }$2" labels+="${labels:+|}$3"
}
for name in "$@"; do
    case $name in
        plain) with_gcc plain cuda_kernel_tests cuda_kernels ;;
        asan | tsan) with_gcc "$name" "cuda_kernel_tests_$name" "cuda_kernels_$name" ;;
        msan) clang=msan ;;
        *) echo "usage: tests/cuda/run.sh [plain|asan|tsan|msan]..." >&2; exit 2 ;;
    esac
done
[ -n "$gcc" ] && flavours "$gcc" "$build" "$targets" "$labels" "${gcc_build[@]}"
[ -n "$clang" ] && flavours msan "$(dirname "$build")/msan" cuda_kernel_tests cuda_kernels "${clang_build[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
