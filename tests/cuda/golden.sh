#!/usr/bin/env bash
# Runs the golden cases of the networks (text encoder, UNet, VAE, adapters, inversions) through the
# CUDA kernels without a GPU, in both precisions, at the tolerances of kernels.md 15. Ends with
# `N passed, N failed` for each.
#
#     tests/cuda/golden.sh BUILD [PROGRAM]
#
# PROGRAM: over the kernels' host build (gc_model_hostcuda) or over their PTX (tests/ptx).
set -uo pipefail
here=$(cd "$(dirname "$0")/../golden" && pwd)
build=$1
program=${2:-$build/tests/gc_model_hostcuda}

base=$build/tests/golden
maker=$build/tests/tools/make_golden_model
mkdir -p "$base"
if [ ! "$base/tiny.safetensors" -nt "$maker" ]; then
    "$maker" "$base" || exit 1
fi
status=0
for precision in fp16 bf16; do
    "$program" --base "$base" --backend cuda --precision "$precision" "$here/model" || status=1
done
exit $status
