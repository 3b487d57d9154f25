"""Proves that a disk that fails in the middle of any call, a memory that runs out in the middle of any
call and a clock that is turned harm nothing: what was acknowledged is done, once, with the right
bytes; what could not be done is told as 5xx; and after a failed flush the server ends with 75 for a
fresh start. Faults come from tests/fault/preload.c; here at spread calls of a scenario, at every one
with LATENTD_FAULTS=all. Figures are printed."""

import errno
import hashlib
import http.client
import os
import pathlib
import re
import sqlite3
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fault"))
import shim as faults  # noqa: E402

from front import Front, request  # noqa: E402
from test_images import png  # noqa: E402

ALL = os.environ.get("LATENTD_FAULTS") == "all"
PICTURE = png(8, 8)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return faults.build(tmp_path_factory.mktemp("preload"))


class Rig:
    """A front whose files and allocations can be made to fail."""

    def __init__(self, latentd, library, folder, script="step_ms=1", *flags):
        self.shim = faults.Shim(library, folder, folder / "state")
        self.front = Front(latentd, folder, script, *flags, env=self.shim.env)
        self.serial, self.exits, self.refused = 0, 0, 0
        self.acknowledged, self.deleted = {}, []
        self.sha256 = {}  # of a seed's picture

    def call(self, method, path, body=None, headers=None):
        """An answer, or None where the server ended or dropped the connection."""
        try:
            answer = self.front.call(method, path, body, headers, timeout=20)
        except (OSError, http.client.HTTPException):
            return None
        self.refused += answer.status >= 500
        assert answer.status in (200, 201, 202, 204, 404, 410) or answer.status >= 500, answer
        return answer

    def scenario(self, patience=400):
        """A caller's way: upload, submit, wait, look, fetch, delete another one's job. `patience`: how
        often it looks whether the job has ended."""
        self.serial += 1
        seed = self.serial % 5
        self.call("POST", "/v1/images", PICTURE, {"Content-Type": "image/png"})
        answer = self.call("POST", "/v1/jobs", request(steps=2, seed=seed))
        if not answer or answer.status != 202:
            return
        job = answer.json["id"]
        self.acknowledged[job] = seed
        for _ in range(patience):
            answer = self.call("GET", f"/v1/jobs/{job}")
            if not answer or (answer.status == 200 and answer.json["status"] not in ("queued", "running")):
                break
            time.sleep(0.005)
        self.call("GET", f"/v1/jobs/{job}/images/0")
        self.call("GET", "/v1/jobs?limit=3")
        if len(self.acknowledged) > 3:
            old = next(iter(self.acknowledged))
            answer = self.call("DELETE", f"/v1/jobs/{old}")
            if answer and answer.status in (204, 404):
                self.deleted.append(old)
            if answer and answer.status in (204, 404) or not answer:  # dropped in the middle: either way
                del self.acknowledged[old]

    def heal(self):
        """No faults any more; a server that has ended is started again."""
        self.shim.disarm()
        process = self.front.process
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            answer = self.call("POST", "/v1/images", PICTURE, {"Content-Type": "image/png"})
            if answer and answer.status < 300:
                return  # it writes; one with a damaged store refuses until it ends
            time.sleep(0.05)
        assert process.returncode == 75, (process.returncode, self.front.log_text()[-3000:])
        self.exits += 1
        self.front.kill()
        self.front.start()

    def check(self):
        for job, seed in self.acknowledged.items():
            told = self.front.wait(job)
            assert told["status"] == "succeeded", told
            data = self.front.picture(job)
            digest = hashlib.sha256(data).hexdigest()
            assert digest == told["images"][0]["sha256"] == self.sha256.setdefault(seed, digest)
        for job in self.deleted[-3:]:
            assert self.front.get(f"/v1/jobs/{job}").status == 404

    def injected(self):
        """Whether a call has failed; the server's own come a little later than its answers."""
        deadline = time.monotonic() + 0.2
        while not self.shim.injected and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.shim.injected > 0

    def count(self, kinds):
        """How many calls of these kinds a scenario makes."""
        self.shim.arm(self.front.process.pid, kinds, 0)
        self.scenario()
        time.sleep(0.05)
        self.shim.disarm()
        return self.shim.count

    def stop(self):
        self.shim.disarm()
        assert self.front.stop() == 0, self.front.log_text()[-3000:]
        with sqlite3.connect(self.front.folder / "state" / "jobs.db") as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for blob in (self.front.folder / "state" / "blobs").glob("??/*.png"):
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.stem
        self.shim.close()


def spread(total, wanted):
    if ALL or total <= wanted:
        return list(range(1, total + 1))
    return sorted({1 + (total - 1) * i // (wanted - 1) for i in range(wanted)})


@pytest.fixture
def rig(latentd, library, tmp_path):
    made = []

    def start(*words):
        made.append(Rig(latentd, library, tmp_path, *words))
        for _ in range(4):
            made[-1].scenario()
        made[-1].check()
        return made[-1]

    yield start
    for each in made:
        if each.front.process.poll() is None:
            each.shim.disarm()
            each.front.kill()


# ---- The disk (C3) ----

MODES = [("EIO", {"error": errno.EIO}), ("ENOSPC", {"error": errno.ENOSPC}), ("EINTR", {"error": errno.EINTR}),
         ("short", {"error": errno.EIO, "short": True}), ("EIO from then on", {"error": errno.EIO, "forever": True}),
         ("ENOSPC from then on", {"error": errno.ENOSPC, "forever": True}), ("EIO of a flush", {"error": errno.EIO})]


def test_a_disk_that_fails_at_any_call_loses_nothing(rig):
    it = rig()
    tried = hit = 0
    for name, how in MODES:
        kinds = {"EINTR": faults.WRITE, "short": faults.WRITE, "EIO of a flush": faults.SYNC}.get(name, faults.DISK)
        exits = it.exits
        for at in spread(it.count(kinds) + 2, 4):
            it.shim.arm(it.front.process.pid, kinds, at, **how)
            it.scenario(patience=20 if "from then on" in name else 400)
            hit += it.injected()
            tried += 1
            it.heal()
            if "from then on" in name:
                it.scenario()  # until the queue, which pauses after faults, works again
        it.check()
        print(f"{name}: {it.exits - exits} restarts with status 75")
    it.stop()
    assert hit >= tried * 0.7 and it.exits > 0
    print(f"{tried} places, {hit} hit, {it.refused} answers of 5xx, {it.exits} restarts, "
          f"{len(it.acknowledged)} jobs kept, 0 lost, 0 damaged")


def test_a_disk_that_cannot_be_read_is_an_error_of_one_call(rig):
    it = rig()
    for name, how in (MODES[0], MODES[3]):
        for at in spread(it.count(faults.READ) + 2, 4):
            it.shim.arm(it.front.process.pid, faults.READ, at, **how)
            it.scenario()
            it.heal()
        it.check()
    it.stop()


def test_a_server_that_cannot_read_its_jobs_ends_soon_when_told_to(rig):
    """What runs cannot end in a damaged store, so SIGTERM does not wait for it; the next start does the job."""
    it = rig("step_ms=40")
    answer = it.call("POST", "/v1/jobs", request(steps=50, seed=1))
    it.acknowledged[answer.json["id"]] = 1
    it.shim.arm(it.front.process.pid, faults.READ, 1, error=errno.EIO, short=True, forever=True)
    for _ in range(20):
        it.call("GET", "/v1/jobs?limit=3")
    began = time.monotonic()
    assert it.front.stop() in (0, 75), it.front.log_text()[-3000:]
    took = time.monotonic() - began
    assert took < 10, took
    it.shim.disarm()
    it.front.start()
    it.check()
    it.stop()
    print(f"ended {took:.1f} s after SIGTERM in the middle of a job")


# ---- Memory (C5) ----

def test_an_allocation_that_fails_is_an_error_of_one_call(rig):
    it = rig()
    total = it.count(faults.ALLOC)
    places = spread(total, 40)
    for at in places:
        it.shim.arm(it.front.process.pid, faults.ALLOC, at, error=errno.ENOMEM)
        it.scenario()
        it.shim.disarm()
        assert it.front.process.poll() is None, (at, it.front.log_text()[-3000:])
    it.check()
    it.stop()
    print(f"{len(places)} of {total} allocations of a scenario, {it.refused} answers of 5xx, 0 ends")


# ---- Threads, processes, pipes (C5) ----

def come_up(latentd, shim, folder):
    """A started front, or its exit status and what it said: one of the two within 20 seconds."""
    front = Front.__new__(Front)
    front.latentd, front.folder, front.script, front.flags, front.env = latentd, folder, "step_ms=1", (), shim.env
    log, late = folder / "front.log", threading.Event()
    log.write_bytes(b"")

    def give_up():
        late.set()
        front.process.kill()

    timer = threading.Timer(20, give_up)
    timer.start()
    try:
        front.start()
        return front, ""
    except AssertionError as error:
        assert not late.is_set() and "not ready" not in str(error), f"neither up nor ended: {log.read_text()[-3000:]}"
        return None, log.read_text()
    finally:
        timer.cancel()


def test_a_thread_or_a_pipe_that_cannot_be_made_at_the_start_is_one_sentence_or_made_later(latentd, library, tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    shim = faults.Shim(library, tmp_path, tmp_path / "state")
    shim.arm(faults.ANY, faults.MAKE, 0)
    front, _ = come_up(latentd, shim, tmp_path)
    total = shim.count
    front.wait(front.submit(steps=1, seed=1))
    assert front.stop() == 0
    ended = worked = 0
    for at in range(1, total + 1):
        shim.arm(faults.ANY, faults.MAKE, at, error=errno.EMFILE)
        front, said = come_up(latentd, shim, tmp_path)
        assert shim.injected == 1, at
        shim.disarm()
        if front:
            assert front.wait(front.submit(steps=1, seed=1))["status"] == "succeeded"
            assert front.stop() == 0
            worked += 1
        else:
            sentences = [line for line in said.splitlines() if line.startswith("latentd: ")]
            assert len(sentences) == 1, (at, said)
            ended += 1
    shim.close()
    assert total >= 8 and ended > 0
    print(f"{total} threads, processes, pipes and the like of a start: {ended} ended with a sentence, {worked} came up all the same")


def test_a_thread_or_a_pipe_that_cannot_be_made_while_it_runs_ends_nothing(rig):
    it = rig()
    front = it.front

    def lose_a_worker():
        """The worker dies in the middle of a job, and the job is done by the next one."""
        answer = it.call("POST", "/v1/jobs", request(steps=2, seed=3))
        if answer and answer.status == 202:
            it.acknowledged[answer.json["id"]] = 3
        for pid in front.worker_pids():
            os.kill(pid, 9)
        it.scenario(patience=20)

    it.shim.arm(faults.ANY, faults.MAKE, 0)
    lose_a_worker()
    time.sleep(1)
    total = it.shim.count
    hit = 0
    for at in range(1, total + 1):
        for forever in (False, True):
            it.shim.arm(faults.ANY, faults.MAKE, at, error=errno.EAGAIN, forever=forever)
            lose_a_worker()
            time.sleep(0.5)
            hit += it.shim.injected > 0
            it.shim.disarm()
            assert front.process.poll() is None, (at, front.log_text()[-3000:])
            front.wait_ready()
            it.check()
    it.stop()
    assert total >= 2 and hit >= total
    print(f"{total} threads, processes, pipes and the like of a worker's replacement, {hit} faults: 0 ends, 0 lost")


# ---- The clock (C7) ----

def metric(front, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", front.get("/metrics").body.decode(), re.M)
    return float(found[1]) if found else 0.0


def test_a_turned_clock_changes_no_jobs_way(latentd, library, tmp_path):
    it = Rig(latentd, library, tmp_path, "step_ms=15")
    front, hour = it.front, 3600
    try:
        for turn in (hour, -hour, 24 * hour, -24 * hour, 365 * 24 * hour, -365 * 24 * hour, 1, 0):
            jobs = [front.submit(steps=20, seed=seed) for seed in range(4)]
            waiting = [front.submit(steps=1, seed=seed, priority=0) for seed in range(4, 8)]
            time.sleep(0.1)
            it.shim.turn_clock(turn)
            told = [front.wait(job) for job in jobs + waiting]
            assert {job["status"] for job in told} == {"succeeded"}, told
            for job in told:
                assert all(value >= 0 for value in job["timings"].values()), job["timings"]
                assert job.get("eta_ms", 0) >= 0
            assert front.get("/readyz").status == 200
            fresh = front.wait(front.submit(steps=1, seed=99))
            assert fresh["timings"]["queue_ms"] >= 0
            date = front.get("/healthz").headers.get("Date")
            assert date  # whatever it says
        assert metric(front, "latentd_jobs_requeued_total") == 0
        for how in ("signal", "exit", "hang", "silent", "bad_frames"):
            assert metric(front, f'latentd_worker_deaths_total{{how="{how}"}}') == 0
        print("8 turns of up to a year: 72 jobs, 0 given out twice, 0 workers ended, no negative time")
    finally:
        it.stop()
