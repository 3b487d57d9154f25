#!/usr/bin/env bash
# Installs the Debian packages that building (`build`) or testing (`tests`) needs. Packages that are
# there already cost nothing: the package manager is only called for what is missing.
#
#     deploy/packages.sh build
#     deploy/packages.sh tests
set -euo pipefail

build=(gcc cmake ninja-build pkg-config libc6-dev libmicrohttpd-dev libjansson-dev libpng-dev
       libdeflate-dev libgnutls28-dev libsqlite3-dev libinih-dev libutf8proc-dev
       libcurl4-gnutls-dev libjpeg62-turbo-dev libwebp-dev libwslay-dev)
tests=("${build[@]}" g++ strace git clang clang-format libclang-rt-14-dev libcmocka-dev python3 python3-pytest
       python3-numpy python3-pil
       chromium curl jq unzip pngcheck libimage-exiftool-perl)

case "${1:-}" in
    build) wanted=("${build[@]}") ;;
    tests) wanted=("${tests[@]}") ;;
    *) echo "usage: deploy/packages.sh build|tests" >&2; exit 2 ;;
esac

# Debian 13 has a newer clang than 12; the sanitizer runtime carries its number.
if ! apt-cache show libclang-rt-14-dev >/dev/null 2>&1; then
    wanted=("${wanted[@]/libclang-rt-14-dev/libclang-rt-dev}")
fi

# Ubuntu, which the CUDA images are built on, has the same library under another name.
if grep -qs '^ID=ubuntu' /etc/os-release; then
    wanted=("${wanted[@]/libjpeg62-turbo-dev/libjpeg-turbo8-dev}")
fi

missing=()
for package in "${wanted[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "latentd: this script knows Debian's packages only; install these by hand: ${missing[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "latentd: no right to install packages; as root run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "latentd: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "${missing[@]}" >/tmp/latentd-packages.$$.log 2>&1; then
    tail -n 20 /tmp/latentd-packages.$$.log >&2
    echo "latentd: installing packages failed; the lines above say why" >&2
    exit 1
fi
rm -f /tmp/latentd-packages.$$.log
