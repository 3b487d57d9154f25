#!/usr/bin/env python3
"""Proves that what was acknowledged is never lost: submitters work without pause while the server,
its worker or both are killed at random instants. At the end every acknowledged job must have ended
in success with exactly one whole picture, equal to that of any other job of its seed; and no word of a
prompt or key has got into logs, metrics or names of files on the way.

    tests/fault/kill.py LATENTD [--kills 120] [--seed 1] [--queued 0]

With --queued N the server is also killed five times with N jobs in its queue, and must then be ready
within two seconds of processor time of its own (on a busy machine the clock says little).
"""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "api"))
from front import Front  # noqa: E402

CANARY = "canary9b2e"  # in every text that a client sends
SUBMITTERS = 8
SEEDS = 12


class Run:
    def __init__(self, front):
        self.front = front
        self.acknowledged, self.lock = {}, threading.Lock()  # job id -> (seed, key)
        self.stop = threading.Event()
        self.refused = 0

    def submitter(self, number):
        """Submits with idempotency keys; repeats a call whose answer was lost."""
        source, count = random.Random(number), 0
        while not self.stop.is_set():
            count += 1
            seed, key = source.randrange(SEEDS), f"{CANARY}-{number}-{count}"
            body = {"prompt": f"a cat, {CANARY}", "negative_prompt": CANARY, "user_data": {"a": CANARY},
                    "width": 64, "height": 64, "steps": 3, "seed": seed}
            while not self.stop.is_set():
                try:
                    answer = self.front.post("/v1/jobs", body, headers={"Idempotency-Key": key, "User-Agent": CANARY},
                                             timeout=5)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.02)
                    continue
                if answer.status in (200, 202):
                    with self.lock:
                        self.acknowledged[answer.json["id"]] = (seed, key)
                    break
                self.refused += 1
                time.sleep(0.05)
            time.sleep(source.uniform(0, 0.05))


def kill_worker(front):
    for pid in front.worker_pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def restart(front):
    """Returns the seconds until it was ready again."""
    front.kill()
    began = time.monotonic()
    front.start(ready=False)
    front.wait_ready()
    return time.monotonic() - began


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(front, queued):
    """`queued` jobs under as many keys as the limit of 200 a key asks for, as sweeps of 64 and one."""
    made, keys = 0, 0
    while made < queued:
        key = subprocess.run([front.latentd, "keys", "add", f"k{keys}", "--state-dir", str(front.folder / "state")],
                             capture_output=True, text=True, check=True).stdout.strip()
        keys += 1
        for first in (0, 64, 128):
            count = min(64, queued - made - 1)
            if count < 1:
                return made
            body = {"prompt": "a cat", "width": 64, "height": 64, "steps": 1,
                    "sweep": {"x": {"field": "seed", "values": list(range(first, first + count))}}}
            answer = front.post("/v1/jobs", body, headers={"Authorization": f"Bearer {key}"})
            assert answer.status == 202, answer
            made += count + 1
    return made


def starts_with_queue(latentd, queued):
    """Five deaths with a full queue: (seconds to ready, processor seconds until then) of the slowest."""
    with tempfile.TemporaryDirectory() as folder:
        front = Front(latentd, pathlib.Path(folder), "step_ms=60000", "--worker-jobs", "1")
        made, took = fill(front, queued), []
        for _ in range(5):
            seconds = restart(front)
            took.append((seconds, processor_seconds(front.process.pid) +
                         sum(processor_seconds(pid) for pid in front.worker_pids())))
        text = front.get("/metrics").body.decode()
        found = sum(int(float(number)) for number in re.findall(r"^latentd_queue_jobs\{\S+\} (\S+)$", text, re.M))
        front.kill()
    clock, work = max(each[0] for each in took), max(each[1] for each in took)
    print(f"{made} jobs queued, 5 front kills: {found} found again; ready after {min(each[0] for each in took):.2f} to "
          f"{clock:.2f} s, of which {work:.2f} s of processor at most; load {os.getloadavg()[0]:.0f}")
    assert found == made and work <= 2


def check_png(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, raw = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])
        piece = data[at + 4:at + 8 + length]
        assert zlib.crc32(piece) == struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]
        if piece[:4] == b"IDAT":
            raw += piece[4:]
        at += 12 + length
    assert len(zlib.decompress(raw)) == 64 * (64 * 3 + 1)


def judge(run, seconds=120):
    front, bytes_of, lost = run.front, {}, []
    deadline = time.monotonic() + seconds
    for job_id, (seed, _) in sorted(run.acknowledged.items()):
        while True:
            answer = front.get(f"/v1/jobs/{job_id}")
            if answer.status == 404 or answer.json["status"] not in ("queued", "running"):
                break
            assert time.monotonic() < deadline, f"{job_id} never ends"
            time.sleep(0.05)
        if answer.status != 200 or answer.json["status"] != "succeeded":
            lost.append((job_id, answer))
            continue
        images = answer.json["images"]
        assert len(images) == 1 and images[0]["seed"] == seed, answer
        picture = front.picture(job_id)
        assert hashlib.sha256(picture).hexdigest() == images[0]["sha256"]
        check_png(picture)
        assert bytes_of.setdefault(seed, picture) == picture, "equal requests gave other bytes"
    assert not lost, f"{len(lost)} lost: {lost[:3]}"
    keys = [key for _, key in run.acknowledged.values()]
    assert len(keys) == len(set(keys)), "one key made two jobs"
    return len(bytes_of)


def unreferenced(front):
    """Pictures on disk that no job refers to: at most those of a death between rename and commit."""
    names = {path.name[:64] for path in (front.folder / "state" / "blobs").glob("??/*.png")}
    cursor, used = "", set()
    while True:
        page = front.get(f"/v1/jobs?limit=100{cursor}").json
        used |= {image["sha256"] for job in page["jobs"] for image in job["images"]}
        if not page.get("next"):
            return len(names - used)
        cursor = f"&cursor={page['next']}"


def check_privacy(front):
    """Dying in the middle of anything tells nobody what was asked for."""
    log, metrics = front.log_text(), front.get("/metrics").body.decode()
    names = [path.name for path in front.folder.rglob("*")]
    assert '"level":"debug"' in log and CANARY not in log, "a prompt is in the log"
    assert CANARY not in metrics and names and not any(CANARY in name for name in names)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("latentd")
    options.add_argument("--kills", type=int, default=120)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--queued", type=int, default=0)
    arguments = options.parse_args()
    chance = random.Random(arguments.seed)
    if arguments.queued:
        starts_with_queue(arguments.latentd, arguments.queued)
    with tempfile.TemporaryDirectory() as folder:
        front = Front(arguments.latentd, pathlib.Path(folder), "step_ms=4", "--log-level", "debug")
        run = Run(front)
        threads = [threading.Thread(target=run.submitter, args=(number,)) for number in range(SUBMITTERS)]
        for thread in threads:
            thread.start()
        starts, workers = [], 0
        try:
            for _ in range(arguments.kills):
                time.sleep(chance.uniform(0.05, 0.5))
                kind = chance.random()
                if kind < 0.5:
                    kill_worker(front)
                    workers += 1
                    continue
                if kind < 0.75:
                    kill_worker(front)
                    workers += 1
                starts.append(restart(front))
        finally:
            run.stop.set()
            for thread in threads:
                thread.join()
        seeds = judge(run)
        check_privacy(front)
        left_over = unreferenced(front)
        status = front.stop()
    starts.sort()
    print(f"{workers} worker kills, {len(starts)} front kills, {len(run.acknowledged)} jobs acknowledged, "
          f"0 lost, 0 doubled, 0 unreadable, {seeds} seeds, {left_over} unreferenced files, {run.refused} refusals; "
          f"ready again after {starts[len(starts) // 2]:.2f} s (median), {starts[int(len(starts) * 0.99)]:.2f} s (99 %), "
          f"{starts[-1]:.2f} s (slowest), load {os.getloadavg()[0]:.0f}")
    assert status == 0
    print("1 passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    main()
