#!/usr/bin/env bash
# From a clean clone to a picture and a running server: installs what is missing, builds, paints
# out.png in the current folder, then serves on 127.0.0.1:7860. A second run installs and builds
# nothing anew.
#
#     deploy/quickstart.sh                             with the small demo model of this tree
#     deploy/quickstart.sh --model FILE.safetensors    with a real checkpoint
#
#     --prompt TEXT   what to paint         --no-serve   stop after out.png
#     --port N        default 7860          --help       this text
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
build=$here/build/release
data=${XDG_DATA_HOME:-$HOME/.local/share}/latentd
demo=$here/deploy/demo_model/files
model='' port=7860 serve=1 prompt=''

die() { echo "latentd: $*" >&2; exit 1; }
say() { echo "latentd: $*"; }
value() { [ $# -ge 2 ] && [ -n "$2" ] || die "$1 needs a value; see --help"; }

while [ $# -gt 0 ]; do
    case "$1" in
        --model) value "$@"; model=$2; shift 2 ;;
        --prompt) value "$@"; prompt=$2; shift 2 ;;
        --port) value "$@"; port=$2; shift 2 ;;
        --no-serve) serve=0; shift ;;
        -h|--help) sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
        *) die "unknown option '$1'; see --help" ;;
    esac
done

# ---- What can be known before anything is installed ---------------------------------------------

[[ $port =~ ^[0-9]{1,5}$ ]] && [ "$port" -ge 1 ] && [ "$port" -le 65535 ] ||
    die "--port must be between 1 and 65535, not '$port'"
if [ -n "$model" ]; then
    [ -e "$model" ] || die "there is no file '$model'; --model takes a .safetensors file or a diffusers folder"
    model=$(realpath "$model")
fi
memory_mib=$(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo)
[ "$memory_mib" -ge 3900 ] ||
    die "this machine has $memory_mib MiB of memory; 4 GB are needed: use a larger machine, or add memory"
disk_mib=$(df -Pm "$here" | awk 'NR == 2 {print $4}')
[ "$disk_mib" -ge 4000 ] || [ -x "$build/server/latentd" ] ||
    die "$disk_mib MiB are free on the disk of this folder; 4 GB are needed: free some space, or clone elsewhere"
if [ "$serve" -eq 1 ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    die "port $port is taken by another program; stop it, or choose another with --port N"
fi
[ -w . ] || die "out.png cannot be written to the current folder; change to one that is yours"

# ---- Installing and building ---------------------------------------------------------------------

"$here/deploy/packages.sh" build
mkdir -p "$here/build"
if [ ! -f "$build/build.ninja" ]; then
    cuda=OFF # without a GPU its kernels would be compiled for nobody
    [ ! -e /dev/nvidiactl ] || cuda=AUTO
    say "configuring"
    cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLATENTD_TESTS=OFF -DLATENTD_CUDA=$cuda \
        >"$build.log" 2>&1 || { tail -n 20 "$build.log" >&2; die "configuring failed; the lines above say why"; }
fi
say "building (nothing to do if it was built before)"
cmake --build "$build" >"$build.log" 2>&1 ||
    { grep -E 'error' "$build.log" | head -n 20 >&2; die "the build failed; its log is $build.log"; }
latentd=$build/server/latentd

# ---- The model -----------------------------------------------------------------------------------

how=() folders=()
if [ -z "$model" ]; then
    model=$demo/demo.safetensors
    [ -f "$model" ] || die "there is no file deploy/demo_model/files/demo.safetensors; get the whole repository, or give --model FILE.safetensors"
    folders=(--adapter-dir "$demo/adapters" --embedding-dir "$demo/embeddings"
             --controlnet-dir "$demo/controlnets" --tipo-model "$demo/demo-tipo.gguf")
    how=(--size 256x256 --steps 20 --cfg-scale 6 "${folders[@]}")
    prompt=${prompt:-pink cat, night sky, best quality}
    say "using the demo model: small, trained on drawn scenes; docs/demo-model.md tells what it can paint"
else
    # Without a GPU a full-size picture takes many minutes; this one shows the model sooner.
    how=(--size 512x512 --steps 12)
    prompt=${prompt:-1girl, solo, flower field, blue sky, looking at viewer}
    say "painting 512x512 in 12 steps on the CPU; latentd generate --help tells of everything else"
    if [ ! -f "$data/clip/bpe_simple_vocab_16e6.txt.gz" ] &&
            ! "$latentd" inspect "$model" --has-vocabulary; then
        say "fetching the CLIP vocabulary that this checkpoint needs"
        "$here/deploy/get_clip_vocab.sh"
    fi
fi

# ---- The picture, then the server ----------------------------------------------------------------

"$latentd" generate --model "$model" --prompt "$prompt" "${how[@]}" -o out.png
say "painted $PWD/out.png"
[ "$serve" -eq 1 ] || exit 0
say "serving on http://127.0.0.1:$port (Ctrl-C stops)"
exec "$latentd" serve --model "$model" --port "$port" "${folders[@]}"
