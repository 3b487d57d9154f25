#!/usr/bin/env bash
# Installs what the tests need, builds, and runs every test this machine can run. Prints one block
# a suite and ends with `N passed, N failed, N skipped`; exit 1 if anything failed.
#
#     tests/run.sh            everything
#     tests/run.sh SUITE...   only the named suites (see the list at the end)
set -uo pipefail
cd "$(dirname "$0")/.."

root=$PWD
build=$root/build/tests
asan=$root/build/asan
logs=$root/build/test-logs
jobs=$(nproc)
shared=$root/../shared
passed=0 failed=0 skipped=0
declare -a broken=()

# ---- Counting -----------------------------------------------------------------------------------

# suite NAME SECONDS COMMAND...: runs it under a time limit, keeps its output, adds its counts. The
# counts are read from the last summary line of the runner; an exit status that disagrees with them
# counts as one more failure, so that a crash is never a pass.
suite() {
    local name=$1 limit=$2 log=$logs/$1.log status p f s
    shift 2
    local start=$SECONDS
    timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1
    status=$?
    read -r p f s < <(/usr/bin/python3 "$root/tests/count.py" "$log")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ "$status" -eq 0 ] && [ $((p + f + s)) -eq 0 ]; then p=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-22s %5d passed %3d failed %3d skipped  %4d s\n' "$name" "$p" "$f" "$s" $((SECONDS - start))
    grep -h '^skip: ' "$log" | sed "s/^skip: /    $name is skipped: /"
    if [ "$f" -gt 0 ]; then
        broken+=("$name")
        grep -E 'FAIL|FAILED|error|Error|runtime error|ERROR' "$log" | head -n 25 | cut -c1-300
        tail -n 15 "$log" | cut -c1-300
    fi
}

wanted() {
    [ "${#only[@]}" -eq 0 ] && return 0
    local each
    for each in "${only[@]}"; do [ "$each" = "$1" ] && return 0; done
    return 1
}
only=("$@")

# ---- Installing and building --------------------------------------------------------------------

mkdir -p "$logs"
deploy/packages.sh tests || exit 1

configure_and_build() { # folder, then cmake options
    local folder=$1
    shift
    cmake -S . -B "$folder" -G Ninja "$@" >"$logs/cmake.log" 2>&1 &&
        cmake --build "$folder" -j "$jobs" >"$logs/build.log" 2>&1 && return 0
    grep -hE 'error|Error|FAILED' "$logs/cmake.log" "$logs/build.log" | head -n 30
    echo "latentd: the build in $folder failed; its log is $logs/build.log"
    return 1
}

start=$SECONDS
if ! configure_and_build "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=gcc; then
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
printf 'built in %d s\n' $((SECONDS - start))

# ---- The suites ---------------------------------------------------------------------------------

wanted tidy && suite tidy 60 /usr/bin/python3 tests/tidy/tidy.py
wanted unit && suite unit 600 ctest --test-dir "$build" --output-on-failure -j "$jobs" -L fast

golden_flags=()
[ -d "$shared/data/clip" ] && golden_flags+=(--vocab "$shared/data/clip")
wanted golden && suite golden 300 tests/golden/run.sh "$build" "${golden_flags[@]}"
if wanted golden-full; then
    if [ -d "$shared/golden" ]; then
        suite golden-full 900 "$build/tests/golden_check" "${golden_flags[@]}" "$shared/golden"
    else
        echo "golden-full: skipped, the full golden data is not beside this checkout"
        skipped=$((skipped + 1))
    fi
fi
wanted arm64 && suite arm64 600 tests/arm64/run.sh
wanted cuda && suite cuda 900 tests/cuda/run.sh
wanted ptx && suite ptx 900 tests/ptx/run.sh
wanted static && suite static 600 tests/static/run.sh
wanted pipeline && suite pipeline 600 /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/pipeline --latentd "$build/server/latentd" --tools "$build/tests/tools"
wanted png-only && suite png-only 900 tests/pipeline/png_only.sh "$root/build/png-only"
wanted features && suite features 300 tests/features/run.sh "$build/server/latentd" --fast
wanted quickstart && suite quickstart 600 tests/pipeline/quickstart.sh
wanted demo && suite demo 900 tests/demo/run.sh "$build/server/latentd" --prompts 30
wanted api && suite api 900 tests/api/run.sh "$build/server/latentd"
wanted page && suite page 600 tests/page/run.sh "$build/server/latentd"
wanted clients && suite clients 900 tests/clients/run.sh "$build/server/latentd"
wanted load && suite load 120 tests/load/run.sh "$build/server/latentd" --seconds 20
wanted fault && suite fault 420 tests/fault/run.sh "$build/server/latentd"

if wanted asan || wanted fuzz; then
    start=$SECONDS
    if configure_and_build "$asan" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang \
            -DLATENTD_SANITIZE=address,undefined -DLATENTD_FUZZ=ON; then
        printf 'built with sanitizers in %d s\n' $((SECONDS - start))
        wanted asan && suite asan-unit 900 ctest --test-dir "$asan" --output-on-failure -j "$jobs" -L fast
        wanted fuzz && suite fuzz 600 tests/fuzz/run.sh "$asan"
    else
        failed=$((failed + 1))
        broken+=(asan-build)
    fi
fi

# ---- The end ------------------------------------------------------------------------------------

[ "${#broken[@]}" -gt 0 ] && echo "failed suites: ${broken[*]} (logs in build/test-logs)"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
