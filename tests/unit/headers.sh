#!/usr/bin/env bash
# Proves that every header of the program compiles alone, by compiling a file that includes nothing
# else: as C11 for the program itself, as C++17 for kernels that a CUDA compiler reads.
#
#     tests/unit/headers.sh c|c++ COMPILER [FLAG...]
set -uo pipefail
cd "$(dirname "$0")/../.."

language=$1
shift

# Fragments: of one instruction set, included by the files that are built for it; and the host's half
# of launch.h, which that includes.
fragments='^kernels/(cpu/(simd|simd_math|finish_simd|norm_simd|rows_simd|softmax_simd|level_f32|level_table)|host/launch_host)\.h$'
# Rooms that no C++ file includes: the front (C11's atomics), the inside of the CPU backend and of the
# fibers.
c_only='^(server/|kernels/cpu/|kernels/host/(block|sanitizer)\.h)'
# The words of device code, which only kernels include.
cxx_only='^kernels/cuda/launch\.h$'

good=0 bad=0
while IFS= read -r header; do
    [[ $header =~ $fragments ]] && continue
    [[ $language = c++ && $header =~ $c_only ]] && continue
    [[ $language = c && $header =~ $cxx_only ]] && continue
    if errors=$(printf '#include "%s"\n' "$header" |
        "$@" -x "$language" -I. -fsyntax-only - 2>&1); then
        good=$((good + 1))
    else
        bad=$((bad + 1))
        echo "FAIL $header does not compile alone as $language:"
        grep -m 3 -E 'error|warning' <<<"$errors"
    fi
done < <(find api config kernels runtime server -name '*.h' | sort)
echo "$good passed, $bad failed"
[ "$bad" -eq 0 ] && [ "$good" -gt 0 ]
