#!/usr/bin/env bash
# Runs the golden cases of the networks (text encoder, UNet, VAE, adapters, inversions) through the
# CUDA kernels' host build, in both precisions, at the tolerances of kernels.md 15. Ends with
# `N passed, N failed` for each.
#
#     tests/cuda/golden.sh BUILD
set -euo pipefail
here=$(cd "$(dirname "$0")/../golden" && pwd)
build=$1

base=$build/tests/golden
maker=$build/tests/tools/make_golden_model
mkdir -p "$base"
if [ ! "$base/tiny.safetensors" -nt "$maker" ]; then
    "$maker" "$base"
fi
for precision in fp16 bf16; do
    "$build/tests/gc_model_hostcuda" --base "$base" --backend cuda --precision "$precision" \
        "$here/model"
done
