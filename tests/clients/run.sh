#!/usr/bin/env bash
# Runs clients that people use, unmodified and at the versions of package-lock.json, against a fresh
# `latentd serve` with the demo model on the CPU. Installs them on the first run into a cache folder
# outside the tree; without Node.js 20 or a network it says so and is skipped.
#
#     tests/clients/run.sh PATH-OF-latentd [CLIENT...]     a1111 sdwebui openai comfy nekoai raw
#
# LATENTD_CLIENTS names another cache folder.
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/clients/run.sh PATH-OF-latentd [CLIENT...]}")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LATENTD_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/latentd-clients}
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(a1111 sdwebui openai comfy nekoai raw)

. "$here/serve.sh"

# ---- The clients ---------------------------------------------------------------------------------

needs_node
mkdir -p "$cache"
if ! cmp -s "$here/package-lock.json" "$cache/installed.json"; then
    cp "$here/package.json" "$here/package-lock.json" "$cache/"
    echo "clients: installing into $cache"
    (cd "$cache" && timeout 480 npm ci --no-audit --no-fund --ignore-scripts >"$cache/npm.log" 2>&1) ||
        skip "npm could not install them ($(tail -n 1 "$cache/npm.log"))"
    cp "$here/package-lock.json" "$cache/installed.json"
fi
cp "$here"/*.mjs "$cache/" # modules are found from where a script lies

# ---- The server ----------------------------------------------------------------------------------

work=$(mktemp -d)
trap stop_all EXIT
serve_demo
open=$base
# One with a key that may have one job at a time: what a refusal does to a client.
key=$("$latentd" keys add clients --queued 1 --running 1 --state-dir "$work/keyed" 2>/dev/null)
serve keyed --script step_ms=1000
keyed=$base

# ---- One after another ---------------------------------------------------------------------------

failed=0
for client in "${clients[@]}"; do
    if [ "$client" = raw ]; then
        run=("$here/raw.sh" "$open" "$work")
    else
        run=(node "$cache/$client.mjs" "$open" "$keyed" "$key")
    fi
    if timeout 240 "${run[@]}" >"$work/$client.log" 2>&1; then
        echo "ok $client: $(grep -v '^{' "$work/$client.log" | tail -n 1)" # some log JSON lines
    else
        failed=$((failed + 1))
        echo "FAIL $client"
        tail -n 30 "$work/$client.log"
    fi
done
echo "$((${#clients[@]} - failed)) passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
