#!/usr/bin/env bash
# The soak: a server under steady load for half an hour (or as long as told), some of its clients
# misbehaving, its worker killed now and then. Fails unless memory and descriptors stay flat and every
# acknowledged job has ended well; prints throughput and waits.
#
#     tests/load/run.sh PATH-OF-latentd                30 minutes
#     tests/load/run.sh PATH-OF-latentd --seconds 20   the short form of tests/run.sh
set -euo pipefail
latentd=$(realpath "${1:?usage: tests/load/run.sh PATH-OF-latentd [--seconds N]}")
shift
cd "$(dirname "$0")"
exec /usr/bin/python3 soak.py "$latentd" "$@"
