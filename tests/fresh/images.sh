#!/usr/bin/env bash
# The container images without a container engine: makes a Debian 12 base in a folder of its own, builds
# `server` and `proxy` of deploy/Dockerfile on it and runs both as deploy/compose.yaml does: as uid 10001,
# on a root that cannot be written, the server without a network, the proxy with TLS before its socket.
# For the night and before a release: some five minutes and 3 GB; needs root, buildah, debootstrap, git,
# unshare, ip, openssl, curl and a network.
#
#     tests/fresh/images.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { printf 'skip: %s\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }
[ "$(id -u)" -eq 0 ] || skip "needs root"
for tool in buildah debootstrap git unshare nsenter ip openssl curl; do
    command -v $tool >/dev/null || skip "there is no $tool here"
done

mkdir -p build
log=$PWD/build/fresh-images.log
work=$(mktemp -d)
running=()
# What was mounted went with the name spaces of the two programs.
end() {
    for pid in "${running[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" || true; done
    rm -rf --one-file-system "$work"
}
trap end EXIT
image() { buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"; }
export BUILDAH_ISOLATION=chroot
: >"$log"

debootstrap --variant=minbase bookworm "$work/base" >>"$log" 2>&1 || skip "no packages can be fetched: $(tail -n 1 "$log")"
base=$(image from scratch)
cp -a "$work/base/." "$(image mount "$base")"
image commit -q "$base" docker.io/library/debian:12-slim >>"$log"
image rm "$base" >>"$log"
rm -rf --one-file-system "$work/base"
git clone -q . "$work/tree"

passed=0 failed=0
check() { # check WHAT COMMAND...: one line for what holds or does not
    if "${@:2}" >>"$log" 2>&1; then
        passed=$((passed + 1)) && echo "ok $1"
    else
        failed=$((failed + 1)) && echo "FAIL $1: $log"
    fi
}
build() { # build TARGET NAME
    image bud --network host --pull-never --target "$1" -t "$2" -f "$work/tree/deploy/Dockerfile" \
        --ignorefile "$work/tree/deploy/Dockerfile.dockerignore" "$work/tree"
}
check "the server's image builds" build server latentd:cpu
check "the proxy's image builds" build proxy latentd-proxy
[ "$failed" -eq 0 ] || { tail -n 20 "$log"; echo "$passed passed, $failed failed, 0 skipped"; exit 1; }

# run NAME IMAGE [SOURCE TARGET]...: starts what the image starts, with its variables, on a root that
# cannot be written but for the folders given, each from SOURCE; its process id is the last of `running`.
run() {
    local name=$1 root variables program
    root=$(image mount "$(image from --pull-never "$2")")
    mapfile -t variables < <(image inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$2")
    mapfile -t program < <(image inspect --type image --format \
        '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' "$2")
    : >"$work/$name.log"
    chown 10001:10001 "$work/$name.log" # as an engine gives a container its own standard output
    mkdir -p $(for ((i = 4; i <= $#; i += 2)); do echo "$root${!i}"; done)
    unshare --mount --net bash -euc '
        root=$1 variables=$2 program=$3
        shift 3
        ip link set lo up
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/tmp"
        mount --rbind /proc "$root/proc"
        mount --rbind /dev "$root/dev"
        for ((; $#; )); do mount --bind "$1" "$root$2"; shift 2; done
        mapfile -t variables <<<"$variables"
        mapfile -t program <<<"$program"
        exec chroot --userspec=10001:10001 --groups= "$root" env -i "${variables[@]}" \
            setpriv --no-new-privs "${program[@]}"' -- \
        "$root" "$(printf '%s\n' "${variables[@]}" | grep .)" "$(printf '%s\n' "${program[@]}" | grep .)" "${@:3}" \
        >"$work/$name.log" 2>&1 </dev/null &
    running+=($!)
}

mkdir -p "$work/state" "$work/socket" "$work/own" "$work/tls"
chown 10001:10001 "$work/state" "$work/socket" "$work/own"
chmod 0700 "$work/state"
chmod 0755 "$work"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/tls/key.pem" -out "$work/tls/cert.pem" >>"$log" 2>&1
chmod 0644 "$work"/tls/*

run server latentd:cpu "$work/tree/deploy/demo_model/files" /models "$work/state" /var/lib/latentd "$work/socket" /run/latentd
server=${running[-1]}
run proxy latentd-proxy "$work/tls" /etc/latentd/tls "$work/socket" /run/latentd "$work/own" /run/latentd-proxy
proxy=${running[-1]}

inside() { curl -sS --fail --max-time 60 --unix-socket "$work/socket/latentd.sock" "http://localhost$1" "${@:2}"; }
outside() { nsenter --net="/proc/$proxy/ns/net" curl -sS --fail --max-time 60 --cacert "$work/tls/cert.pem" "https://localhost:8443$1" "${@:2}"; }
ready() { for ((i = 0; i < 300; i++)); do inside /readyz && return; sleep 0.1; done; return 1; }
paint() { # a picture with an adapter of the mounted folder, fetched as a PNG
    inside '/v1/jobs?wait=60' -H 'Content-Type: application/json' -o "$work/job.json" \
        -d '{"prompt": "red cat, night sky <lora:demo-golden:1>", "width": 256, "height": 256, "steps": 8, "seed": 7}'
    inside "$(grep -o '/v1/jobs/[^"]*/images/0' "$work/job.json")" -o build/fresh-images.png
    [ "$(head -c 8 build/fresh-images.png | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ]
}
alone() { # nothing but its own loopback
    [ "$(nsenter --net="/proc/$server/ns/net" ip -o link | wc -l)" -eq 1 ] && [ "$(stat -c %u "/proc/$server")" = 10001 ]
}
# Where it may write, the same command works: it is the root that refuses.
writes_nothing() {
    local root write
    root=$(readlink "/proc/$server/root") write="nsenter --mount=/proc/$server/ns/mnt touch"
    $write "$root/tmp/x" "$root/var/lib/latentd/x" && ! $write "$root/etc/x" && ! $write "$root/models/../x"
}
ends() { kill -TERM "$server" && wait "$server"; }

check "the server is ready" ready
check "it runs as uid 10001 without a network" alone
check "its root cannot be written" writes_nothing
check "it paints with an adapter of the mounted folder" paint
check "the page comes through the proxy" outside / -o /dev/null
check "the interface comes through the proxy" outside /v1/models -o /dev/null
check "SIGTERM ends it with 0" ends
cat "$work/server.log" "$work/proxy.log" >>"$log"
echo "$passed passed, $failed failed, 0 skipped; the images take" \
    "$(image images --format '{{.Name}} {{.Size}}' | grep latentd | sed 's|localhost/||' | paste -sd, | sed 's/,/, /')"
[ "$failed" -eq 0 ]
