# shellcheck shell=bash
# What the scripts of real clients share, sourced by them: Node.js or a skip, a `latentd serve` on an
# ephemeral port of loopback, and the end of whatever was started. The caller sets `latentd`, `work`
# (a folder) and `here`.

demo=$(cd "$here/../../deploy/demo_model/files" && pwd)
started=()

skip() { printf 'skip: %s\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }

needs_node() {
    command -v node >/dev/null && command -v npm >/dev/null || skip "there is no Node.js here"
    [ "$(node -p 'parseInt(process.versions.node)')" -ge 20 ] || skip "Node.js 20 or newer is needed"
}

# wait_for PORT PATH [SECONDS]: until it answers with 2xx, a minute at most if not told.
wait_for() {
    local until=$((SECONDS + ${3:-60}))
    while [ "$SECONDS" -lt "$until" ]; do
        ! curl -fsS -m 10 "http://127.0.0.1:$1$2" >/dev/null 2>&1 || return 0
        kill -0 "${started[-1]}" 2>/dev/null || return 1
        sleep 0.2
    done
    return 1
}

# serve NAME FLAGS...: a server with a state folder of its own; its address in `base`.
serve() {
    local name=$1 port=
    shift
    "$latentd" serve --port 0 --state-dir "$work/$name" "$@" >"$work/$name.out" 2>"$work/$name.log" &
    started+=($!)
    for _ in $(seq 1 300); do
        port=$(sed -n 's/.*:\([0-9]\{1,5\}\)$/\1/p' "$work/$name.out" | head -n 1)
        [ -z "$port" ] || break
        kill -0 "${started[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    [ -n "$port" ] && wait_for "$port" /readyz || { tail -n 5 "$work/$name.log" >&2; echo "clients: the server did not start" >&2; exit 1; }
    base=http://127.0.0.1:$port
}

serve_demo() {
    serve demo --model "$demo/demo.safetensors" --backend cpu --adapter-dir "$demo/adapters" --embedding-dir "$demo/embeddings"
}

stop_all() {
    local each
    for each in "${started[@]}"; do
        kill "$each" 2>/dev/null && wait "$each" 2>/dev/null || true
    done
    rm -rf "$work"
}
