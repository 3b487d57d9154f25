#!/usr/bin/env bash
# One CFG step (UNet, batch 2, float32) and one VAE decode against PyTorch on the same cores, in the
# same run, PyTorch at its best: channels-last, the OpenBLAS core type that fits the CPU, and malloc
# that keeps its memory, without which it is several times slower.
#
#     tests/bench/cpu_vs_torch.sh [--build DIR] [--checkpoint FILE] [options of cpu_vs_torch.py]
#
# Needs Debian's python3-torch and 12 GB of memory. Without --checkpoint a random full-size one
# (2.13 GB) is made in the build folder (build/tests, as tests/run.sh makes it) and kept.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
build=$here/build/tests
checkpoint=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --checkpoint) checkpoint=$2; shift 2 ;;
    *) break ;;
    esac
done
python=/usr/bin/python3
"$python" -c 'import torch, numpy' 2>/dev/null || {
    echo "cpu_vs_torch: python3-torch is not installed; nothing to compare with" >&2
    exit 77
}
cmake --build "$build" --target cpu_vs_torch make_checkpoint >/dev/null
if [ -z "$checkpoint" ]; then
    checkpoint=$build/models/full_random.safetensors
    mkdir -p "$build/models"
    if [ ! -f "$checkpoint" ]; then
        "$build/tests/tools/make_checkpoint" --full "$checkpoint.part"
        mv "$checkpoint.part" "$checkpoint"
    fi
fi

if grep -q avx512f /proc/cpuinfo; then
    core=SkylakeX
elif grep -q avx2 /proc/cpuinfo; then
    core=Haswell
else
    core=
fi
export ${core:+OPENBLAS_CORETYPE=$core}
export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
export PYTHONPATH=$here/tests/bench PYTHONDONTWRITEBYTECODE=1
exec "$python" "$here/tests/bench/cpu_vs_torch.py" "$build/tests/cpu_vs_torch" "$checkpoint" "$@"
