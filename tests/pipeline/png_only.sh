#!/usr/bin/env bash
# A program that was built without libjpeg and libwebp: builds it in the folder BUILD, and lets the
# tests of pictures say what such a program refuses, offers and still reads.
#
#     tests/pipeline/png_only.sh BUILD [cmake options]
set -euo pipefail
build=$(realpath -m "${1:?usage: tests/pipeline/png_only.sh BUILD [cmake options]}")
shift
cd "$(dirname "$0")/../.."

cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLATENTD_CUDA=OFF -DLATENTD_JPEG=OFF -DLATENTD_WEBP=OFF \
    "$@" >"$build.cmake.log"
cmake --build "$build" -j "$(nproc)" --target latentd make_checkpoint test_picture test_picture_write \
    test_picture_texts test_messages >"$build.build.log" || { tail -n 20 "$build.build.log"; exit 1; }
if ldd "$build/server/latentd" | grep -E 'libjpeg|libwebp'; then
    echo "FAIL the program uses a library that it was to be built without"
    exit 1
fi
programs=(test_picture test_picture_write test_picture_texts test_messages)
for test in "${programs[@]}"; do
    "$build/tests/$test" >"$build/$test.log" 2>&1 || { tail -n 20 "$build/$test.log"; exit 1; }
done
passed=${#programs[@]} skipped=0

# Runs pytest and adds what its last line says; a failure ends the script with it.
check() {
    local log=$build.pytest.log last
    /usr/bin/python3 -m pytest -q -p no:cacheprovider -p no:hypothesispytest "--latentd=$build/server/latentd" "$@" \
        >"$log" 2>&1 || { cat "$log"; exit 1; }
    last=$(tail -n 1 "$log")
    passed=$((passed + $(grep -oE '[0-9]+ passed' <<<"$last" | grep -oE '[0-9]+' || echo 0)))
    skipped=$((skipped + $(grep -oE '[0-9]+ skipped' <<<"$last" | grep -oE '[0-9]+' || echo 0)))
}
check tests/api/test_formats.py tests/api/test_images.py tests/api/test_openai.py tests/api/test_novelai.py
check "--tools=$build/tests/tools" tests/pipeline/test_formats.py
echo "$passed passed, 0 failed, $skipped skipped"
