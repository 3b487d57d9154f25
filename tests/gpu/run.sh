#!/usr/bin/env bash
# Everything that only a GPU can show, in one command of at most nine minutes: builds a program that
# needs libc and CUDA alone, checks every kernel and the networks against the CPU's truth, then
# measures. Needs gcc, cmake, nvcc and python3; PyTorch for the comparison; no network.
#
#     tests/gpu/run.sh [--out FILE.json]     build/gpu/result.json without it
#     tests/gpu/run.sh --host                tries this script without a GPU: the host build of the
#                                            kernels, a tiny network, the CPU backend
#
# Prints a line a part and ends with `N passed, N failed, N skipped`; 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" tests/gpu/run.py "$@"
