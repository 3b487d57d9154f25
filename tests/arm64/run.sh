#!/usr/bin/env bash
# The kernels and the conversions of element types on 64-bit Arm, cross-compiled and run under emulation.
# Every level is held to its bounds, NEON among them. Says `skip:` and what is missing where there is no
# compiler or emulator; installs them where it may (root). Ends with ctest's summary.
#
#     tests/arm64/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

build=${LD_ARM_BUILD:-build/arm64}
jobs=${LD_JOBS:-$(nproc)}
missing=()
for package in gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc qemu-user-static:qemu-aarch64-static; do
    command -v "${package#*:}" >/dev/null || missing+=("${package%:*}")
done
# The compiler only recommends its C library, and recommendations are not installed.
[ -f /usr/aarch64-linux-gnu/lib/crti.o ] || missing+=(libc6-dev-arm64-cross)
if [ "${#missing[@]}" -gt 0 ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } || true
fi
for package in "${missing[@]}"; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed'; then
        echo "skip: no $package (Debian: apt-get install ${missing[*]})"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
done

# The tests' library for that processor, from an index of its own: this machine's packages stay as they are.
mkdir -p "$build"
build=$(realpath "$build")
cmocka=$build/cmocka
if [ ! -f "$cmocka/usr/include/cmocka.h" ]; then
    mkdir -p "$build/apt/lists/partial" "$build/apt/cache/archives/partial"
    options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::lists="$build/apt/lists"
             -o Dir::State::status=/dev/null -o Dir::Cache="$build/apt/cache" -o Acquire::Languages=none
             -o APT::Sandbox::User="$(id -un)")
    if ! { apt-get "${options[@]}" update &&
           (cd "$build/apt" && apt-get "${options[@]}" download libcmocka-dev:arm64 libcmocka0:arm64); } \
            >"$build/apt/log" 2>&1; then
        echo "skip: libcmocka-dev of arm64 could not be fetched; $build/apt/log says why"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
    for package in "$build"/apt/*.deb; do dpkg -x "$package" "$cmocka"; done
fi

# A C compiler alone: the host build of the CUDA kernels is left out.
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLATENTD_MINIMAL=ON -DLATENTD_CUDA=OFF \
    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
    -DLATENTD_CMOCKA="$cmocka/usr" \
    -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64-static;-L;/usr/aarch64-linux-gnu" >"$build/cmake.log" 2>&1 &&
    cmake --build "$build" -j "$jobs" --target kernel_tests >"$build/build.log" 2>&1 ||
    { grep -hE 'error|Error|FAILED' "$build/cmake.log" "$build/build.log" | head -n 20; exit 1; }
# One after another: their threads spin while they wait, which under emulation is dear.
# The C library is the compiler's own also where this machine has another of that processor.
LD_LIBRARY_PATH=$cmocka/usr/lib/aarch64-linux-gnu:/usr/aarch64-linux-gnu/lib \
    ctest --test-dir "$build" --output-on-failure -L "^arm64$"
