#!/usr/bin/env bash
# SillyTavern's own server, unmodified, in front of a fresh `latentd serve` with the demo model on the
# CPU: every call of its image extension that speaks to an A1111, a ComfyUI or a stable-diffusion.cpp
# server, and a picture that is given up half way. It is 430 MB of packages, so it runs nightly and
# not from tests/run.sh.
#
#     tests/clients/sillytavern.sh PATH-OF-latentd
#
# The packages go into a temporary folder that is removed at the end. LATENTD_SILLYTAVERN names a
# folder that is kept and used again.
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/clients/sillytavern.sh PATH-OF-latentd}")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/serve.sh"
version=1.19.0

needs_node
work=$(mktemp -d)
trap stop_all EXIT
packages=${LATENTD_SILLYTAVERN:-$work/packages}
tavern=$packages/node_modules/sillytavern
mkdir -p "$packages"
if [ "$(node -p "require('$tavern/package.json').version" 2>/dev/null)" != "$version" ]; then
    echo "sillytavern: installing $version into $packages"
    timeout 900 npm install --prefix "$packages" --ignore-scripts --no-audit --no-fund --no-save "sillytavern@$version" >"$work/npm.log" 2>&1 ||
        skip "npm could not install it ($(tail -n 1 "$work/npm.log"))"
fi

serve_demo
# Its first start compiles its own page, for minutes on a small machine (kept packages keep that too), and only
# then does it bind: a port from below those that the system hands out stays free so long.
port=$((20000 + RANDOM % 10000))
(cd "$tavern" && exec node server.js --disableCsrf true --whitelist false --browserLaunchEnabled false --enableIPv6 false \
    --listen false --port "$port" --configPath "$packages/config.yaml" --dataRoot "$packages/data") >"$work/tavern.log" 2>&1 &
started+=($!)
wait_for "$port" / 480 || { tail -n 20 "$work/tavern.log"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }

timeout 300 node "$here/sillytavern.mjs" "$base" "http://127.0.0.1:$port" "$tavern" || { echo "--- what SillyTavern said"; tail -n 30 "$work/tavern.log"; exit 1; }
