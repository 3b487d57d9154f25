#!/usr/bin/env python3
"""A day in the life of a server, as a new user would try it: two keys, one floods while the other
paints, the worker dies, the server dies, the disk fills up, everything is started again; then the
jobs are counted. Tells the story in lines; fails unless every job that was acknowledged has ended
with one picture.

    tests/fault/day.py LATENTD
"""

import collections
import contextlib
import hashlib
import http.client
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "api"))
from front import Front, request  # noqa: E402
from kill import check_png  # noqa: E402

FLOOD, PAINTED, DISK_MIB = 150, 30, 24


class Day:
    def __init__(self, latentd, folder):
        self.latentd, self.folder, self.began = latentd, folder, time.monotonic()
        self.flood, self.paint = (self.add_key(name) for name in ("flood", "paint"))
        self.front = Front(latentd, folder, "step_ms=20", "--log-level", "error")
        self.jobs = collections.defaultdict(list)  # key -> acknowledged ids

    def say(self, text):
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def add_key(self, name):
        return subprocess.run([self.latentd, "keys", "add", name, "--state-dir", str(self.folder / "state")],
                              capture_output=True, text=True, check=True).stdout.strip()

    def call(self, key, method, path, body=None):
        return self.front.call(method, path, body, headers={"Authorization": f"Bearer {key}"}, timeout=40)

    def submit(self, key, path="/v1/jobs", **fields):
        answer = self.call(key, "POST", path, request(**fields))
        if answer.status in (200, 202):
            self.jobs[key].append(answer.json["id"])
        return answer

    def status_of(self, key, job):
        answer = self.call(key, "GET", f"/v1/jobs/{job}")
        assert answer.status == 200, (job, answer)
        return answer.json["status"]

    def left(self, key):
        usage = self.call(key, "GET", "/v1/me").json["usage"]
        return usage["queued"] + usage["running"]

    # ---- The parts of the day ----

    def flood_and_paint(self):
        for number in range(FLOOD):
            assert self.submit(self.flood, steps=10, seed=number).status == 202
        self.say(f"one key has handed in {FLOOD} jobs")
        waits = []
        for number in range(5):
            answer = self.submit(self.paint, "/v1/jobs?wait=30", steps=5, seed=1000 + number)
            assert answer.status == 200 and answer.json["status"] == "succeeded", answer
            waits.append(answer.json["timings"]["queue_ms"])
        self.say(f"the other has painted 5 pictures, each after {max(waits):.0f} ms in the queue at most; "
                 f"{self.left(self.flood)} of the flood are left")
        assert self.left(self.flood) > 50, "the flood was over too early to say anything"

    def kill_the_worker(self):
        old = self.front.worker_pid()
        os.kill(old, signal.SIGKILL)
        began = time.monotonic()
        while not [pid for pid in self.front.worker_pids() if pid != old] or self.front.get("/readyz").status != 200:
            assert time.monotonic() - began < 20
            time.sleep(0.02)
        self.say(f"the worker was killed; another one was ready {time.monotonic() - began:.1f} s later")

    def kill_the_server(self):
        painting = threading.Thread(target=self.paint_through)
        painting.start()
        time.sleep(0.5)
        self.front.kill()
        began = time.monotonic()
        self.front.start(ready=False)
        self.front.wait_ready()
        self.say(f"the server was killed and started; it was ready {time.monotonic() - began:.1f} s later, "
                 f"with {self.left(self.flood)} of the flood left")
        painting.join()
        self.say(f"the other key has handed in {PAINTED} more meanwhile, repeating what had no answer")

    def paint_through(self):
        """A client with idempotency keys, for whom a dead server is only a slow one."""
        for number in range(PAINTED):
            headers = {"Authorization": f"Bearer {self.paint}", "Idempotency-Key": f"day-{number}"}
            while True:
                try:
                    answer = self.front.post("/v1/jobs", request(steps=4, seed=2000 + number), headers=headers)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.05)
                    continue
                assert answer.status in (200, 202), answer
                self.jobs[self.paint].append(answer.json["id"])
                break
            time.sleep(0.03)

    def fill_the_disk(self):
        if not os.path.ismount(self.folder):
            self.say("the disk is not filled: mounting a small one is not allowed here")
            return
        ballast = self.folder / "ballast"
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(bytes(65536)) == 65536:
                pass
        began = time.monotonic()
        while (answer := self.submit(self.paint, steps=1, prompt="x" * 16000)).status == 202:
            assert time.monotonic() - began < 20, "the disk never filled up"
        assert answer.status == 507 and "Retry-After" in answer.headers, answer
        self.say(f"the disk is full: submits get {answer.status} ({answer.json['title']}), /readyz "
                 f"{self.front.get('/readyz').status}, jobs are still shown")
        self.status_of(self.paint, self.jobs[self.paint][0])
        time.sleep(1)
        ballast.unlink()
        began = time.monotonic()
        while self.submit(self.paint, steps=2, seed=3000).status != 202:
            assert time.monotonic() - began < 20
            time.sleep(0.05)
        self.say(f"there is room again; the first job was taken {time.monotonic() - began:.1f} s later, without a restart")

    def restart(self):
        assert self.front.stop() == 0
        self.front.start(ready=False)
        self.front.wait_ready()
        self.say("stopped as it should be, and started again")

    def count(self):
        deadline = time.monotonic() + 90
        while self.left(self.flood) + self.left(self.paint) > 0:
            assert time.monotonic() < deadline, "jobs are left that never end"
            time.sleep(0.1)
        ended, pictures = collections.Counter(), 0
        for key, jobs in self.jobs.items():
            assert len(jobs) == len(set(jobs)), "one answer twice"
            for job in jobs:
                answer = self.call(key, "GET", f"/v1/jobs/{job}")
                ended[answer.json["status"]] += 1
                assert len(answer.json["images"]) == 1, answer
                data = self.call(key, "GET", f"/v1/jobs/{job}/images/0").body
                check_png(data)
                assert hashlib.sha256(data).hexdigest() == answer.json["images"][0]["sha256"]
                pictures += 1
            shown = sum(1 for _ in self.every_job(key))
            assert shown == len(jobs), f"{shown} jobs are shown, {len(jobs)} were acknowledged"
        total = sum(len(jobs) for jobs in self.jobs.values())
        self.say(f"counted: {total} jobs acknowledged, {ended['succeeded']} succeeded, {pictures} whole pictures, "
                 f"{total - ended['succeeded']} lost or failed")
        assert ended["succeeded"] == total

    def every_job(self, key):
        cursor = ""
        while True:
            page = self.call(key, "GET", f"/v1/jobs?limit=100{cursor}").json
            yield from page["jobs"]
            if not page.get("next"):
                return
            cursor = f"&cursor={page['next']}"


@contextlib.contextmanager
def small_disk():
    """A folder on a disk of its own where that is allowed, else just a folder."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "none", folder],
                                 capture_output=True).returncode == 0
        try:
            yield pathlib.Path(folder)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", folder], check=True)


def main():
    with small_disk() as folder:
        day = Day(sys.argv[1], folder)
        try:
            day.flood_and_paint()
            day.kill_the_worker()
            day.kill_the_server()
            day.fill_the_disk()
            day.restart()
            day.count()
        finally:
            day.front.stop()
    print("1 passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    main()
