#!/usr/bin/env bash
# Everything that only a GPU can show, in one command of at most nine minutes: builds a program that
# needs libc and CUDA alone, checks every kernel and the networks against the CPU's truth, then
# measures. Needs gcc, cmake, nvcc and python3; PyTorch for the comparison; no network.
#
#     tests/gpu/run.sh [--out DIR]       DIR/result.json and DIR/logs.tar.gz; build/gpu/result.json
#                                        and build/gpu/logs without it
#     tests/gpu/run.sh --prepare 90      only compiles, on any machine with nvcc: build/gpu-ready.tar.xz
#                                        (10 MiB) then has the programs for a card of compute capability
#                                        9.0. Carried beside the sources to the machine with the card,
#                                        it saves the minute of compiling there; it is used if card and
#                                        sources are those it was made for
#     tests/gpu/run.sh --host            tries this script without a GPU: the host build of the
#                                        kernels, a tiny network, the CPU backend
#
# --commit HASH names the tree where it lies without its history; --jobs N compilers at once.
#
# Data: the golden cases and their inputs are part of the tree (tests/golden/model and spec); the tiny
# checkpoint that they run on is made by make_golden_model from a rule, the full-size one (SD1.5's
# shapes, 2.1 GB, random weights of realistic spread) by make_checkpoint into build/gpu. Nothing else is
# read, nothing is fetched.
#
# The result is one JSON document, written anew after every part: GPU, driver, commit, hash of the
# sources, parts with counts and seconds, a row a kernel and shape, the measurements with the card's
# clocks meanwhile and the ceilings measured in the same run. A part that fails stops no other.
#
# Prints a line a part and ends with `N passed, N failed, N skipped`; 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The Python that has PyTorch, where there are several.
has_torch='import sys; from importlib.util import find_spec as f; sys.exit(not (f("torch") and f("numpy")))'
python=${PYTHON:-python3}
for other in "$python" python3 /usr/bin/python3; do
    if "$other" -c "$has_torch" 2>/dev/null; then
        python=$other
        break
    fi
done
exec "$python" tests/gpu/run.py "$@"
