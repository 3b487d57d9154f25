#!/usr/bin/env python3
"""What a request costs beside the picture: the time that a client of `POST /v1/jobs` waits for its PNG, less what the job says
that text, sampling, decoding and encoding took. Small pictures of the demo model, one after the other on one connection; programs
take turns.

    tests/bench/request.py LATENTD [LATENTD...] [--requests 60] [--rounds 4] [--flush-ms 5]

`--flush-ms` makes every flush of a file take so much longer (slow_flush.c), as a slow disk does.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "deploy/demo_model/files"
START_SECONDS = 20


def slow_disk(folder, flush_ms):
    if not flush_ms:
        return {}
    library = pathlib.Path(folder) / "slow_flush.so"
    subprocess.run(["cc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-o", str(library), str(ROOT / "tests/bench/slow_flush.c")],
                   check=True, timeout=60)
    return {"LD_PRELOAD": str(library), "SLOW_FLUSH_MS": str(flush_ms)}


@contextlib.contextmanager
def server(latentd, env):
    """Yields the port of a server with its own empty state."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [latentd, "serve", "--config", "/dev/null", "--bind", "127.0.0.1", "--port", "0", "--threads", "1",
                 "--state-dir", folder + "/state", "--model-dir", str(MODELS), "--model", "demo"],
                stdout=out, stderr=out, env={**os.environ, **env})
        try:
            for _ in range(START_SECONDS * 20):
                found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text(errors="replace"))
                if found and "worker ready" in log.read_text(errors="replace"):
                    break
                time.sleep(0.05)
            else:
                raise SystemExit(f"{latentd} did not start: {log.read_text(errors='replace')[-500:]}")
            yield int(found.group(1))
        finally:
            process.terminate()
            process.wait(30)


def request(connection, seed):
    """Milliseconds beside the picture."""
    body = {"prompt": "red cat", "size": "64x64", "steps": 4, "seed": seed, "cfg_scale": 1}
    start = time.perf_counter()
    connection.request("POST", "/v1/jobs", json.dumps(body),
                       {"Content-Type": "application/json", "Accept": "image/png", "Prefer": "wait=60"})
    answer = connection.getresponse()
    picture = answer.read()
    took = (time.perf_counter() - start) * 1000
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {picture[:300]!r}")
    connection.request("GET", "/v1/jobs/" + answer.getheader("X-Latentd-Job"))
    timings = json.loads(connection.getresponse().read())["timings"]
    return took - sum(timings[part] for part in ("text_ms", "sample_ms", "decode_ms", "encode_ms"))


def measure(latentd, env, requests):
    with server(latentd, env) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
        for seed in range(5):
            request(connection, seed)
        return [request(connection, 1000 + seed) for seed in range(requests)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("latentd", nargs="+")
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--flush-ms", type=int, default=0)
    given = parser.parse_args()
    figures = {each: [] for each in given.latentd}
    with tempfile.TemporaryDirectory() as folder:
        env = slow_disk(folder, given.flush_ms)
        for _ in range(given.rounds):
            for each in figures:
                figures[each] += measure(each, env, given.requests)
    for each, values in figures.items():
        values.sort()
        part = lambda share: values[min(len(values) - 1, int(len(values) * share))]
        print(f"{each}: {len(values)} requests, beside the picture: 10 % {part(0.1):.2f}, median {part(0.5):.2f}, "
              f"90 % {part(0.9):.2f} ms")


if __name__ == "__main__":
    main()
