#!/usr/bin/env bash
# Runs clients that people use, unmodified and at the versions of package-lock.json, against a fresh
# `latentd serve` with the demo model on the CPU. Installs them on the first run into a cache folder
# outside the tree; without Node.js 20 or a network it says so and is skipped.
#
#     tests/clients/run.sh PATH-OF-latentd [CLIENT...]     a1111 sdwebui openai comfy nekoai raw
#     tests/clients/run.sh --installed PATH-OF-latentd     only if they were installed before
#
# LATENTD_CLIENTS names another cache folder.
set -euo pipefail
installed=0
[ "${1:-}" != --installed ] || { installed=1; shift; }
latentd=$(realpath "${1:?usage: tests/clients/run.sh PATH-OF-latentd [CLIENT...]}")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
demo=$(cd "$here/../../deploy/demo_model/files" && pwd)
cache=${LATENTD_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/latentd-clients}
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(a1111 sdwebui openai comfy nekoai raw)

skip() { printf 'skip: %s\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }

# ---- The clients ---------------------------------------------------------------------------------

command -v node >/dev/null && command -v npm >/dev/null || skip "there is no Node.js here"
[ "$(node -p 'parseInt(process.versions.node)')" -ge 20 ] || skip "Node.js 20 or newer is needed"
mkdir -p "$cache"
if ! cmp -s "$here/package-lock.json" "$cache/installed.json"; then
    [ "$installed" -eq 0 ] || skip "not installed; tests/clients/run.sh PATH-OF-latentd installs and runs them"
    cp "$here/package.json" "$here/package-lock.json" "$cache/"
    echo "clients: installing into $cache"
    (cd "$cache" && timeout 480 npm ci --no-audit --no-fund --ignore-scripts >"$cache/npm.log" 2>&1) ||
        skip "npm could not install them ($(tail -n 1 "$cache/npm.log"))"
    cp "$here/package-lock.json" "$cache/installed.json"
fi
cp "$here"/*.mjs "$cache/" # modules are found from where a script lies

# ---- The server ----------------------------------------------------------------------------------

work=$(mktemp -d)
stop() {
    [ -z "${server:-}" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
    rm -rf "$work"
}
trap stop EXIT
"$latentd" serve --port 0 --state-dir "$work/state" --model "$demo/demo.safetensors" --backend cpu \
    --adapter-dir "$demo/adapters" --embedding-dir "$demo/embeddings" >"$work/out" 2>"$work/log" &
server=$!
port=
for _ in $(seq 1 300); do
    port=$(sed -n 's/.*:\([0-9]\{1,5\}\)$/\1/p' "$work/out" | head -n 1)
    if [ -n "$port" ] && curl -fsS "http://127.0.0.1:$port/readyz" >/dev/null 2>&1; then break; fi
    kill -0 "$server" 2>/dev/null || { tail -n 5 "$work/log" >&2; echo "clients: the server did not start" >&2; exit 1; }
    sleep 0.2
done

# ---- One after another ---------------------------------------------------------------------------

failed=0
for client in "${clients[@]}"; do
    if [ "$client" = raw ]; then
        run=("$here/raw.sh" "http://127.0.0.1:$port" "$work")
    else
        run=(node "$cache/$client.mjs" "http://127.0.0.1:$port")
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
