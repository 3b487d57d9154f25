#!/usr/bin/env bash
# The figures of robustness.md H1, H3 and L1 to L6, one row each, against the built program with the
# scripted worker. Needs wrk for H1, L1 and L2 (Debian: wrk); says so where it is missing. Every speed stands
# beside a baseline of the same machine in the same minute, as the machine is seldom idle.
#
#     tests/load/figures.sh PATH-OF-latentd            all, about three minutes
#     tests/load/figures.sh PATH-OF-latentd L3 L6      only these
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/load/figures.sh PATH-OF-latentd [ROW]...}")
shift
cd "$(dirname "$0")"
exec /usr/bin/python3 figures.py "$latentd" "$@"
