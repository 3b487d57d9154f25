"""The soak of robustness.md L7 against a built program with the scripted worker: steady submits, one
client in twenty faulty, the worker killed at intervals. Asserts that memory and descriptors of the
front stay flat, that nothing acknowledged is lost, and prints what was done.

    soak.py PATH-OF-latentd [--seconds 1800] [--rate 20] [--kill 60]
"""

import argparse
import http.client
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "api"))
from front import Front, read_events, request  # noqa: E402

SUBMITTERS = 4
WARM_SHARE = 0.3  # of the time: threads and pools reach their size
FILL_JOBS = 1000  # before the time begins: the store's page cache, 2 MiB at some 4 KiB a job, is full after 500


class Soak:
    def __init__(self, front, seconds, rate, kill):
        self.front, self.seconds, self.rate, self.kill_s = front, seconds, rate, kill
        self.end = 0.0
        self.lock = threading.Lock()
        self.acknowledged, self.refused, self.faulty, self.kills, self.errors = [], 0, 0, 0, []
        self.samples = []  # (time, front's resident bytes, worker's, descriptors)

    def running(self):
        return time.monotonic() < self.end

    def note(self, error):
        with self.lock:
            self.errors.append(error)

    # ---- Clients ----

    def misbehave(self, rng):
        kind = rng.randrange(6)
        try:
            if kind == 0:
                self.front.post("/v1/jobs", b"{\"prompt\": ")
            elif kind == 1:
                self.front.raw(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", timeout=2)
            elif kind == 2:  # leaves in the middle of a body
                with socket.create_connection(("127.0.0.1", self.front.port), 5) as connection:
                    connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
                                       b"application/json\r\nContent-Length: 500\r\n\r\n{")
            elif kind == 3:  # leaves while it waits
                connection = http.client.HTTPConnection("127.0.0.1", self.front.port, timeout=5)
                connection.request("POST", "/v1/jobs?wait=20", '{"prompt":"a","width":64,"height":64,"steps":30,'
                                   '"tag":"step_ms=50"}', {"Content-Type": "application/json"})
                time.sleep(0.05)
                connection.close()
            elif kind == 4:
                self.front.get("/v1/jobs/" + "0" * 26)
            else:  # follows for a moment
                with socket.create_connection(("127.0.0.1", self.front.port), 5) as connection:
                    connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    connection.recv(1000)
        except OSError:
            pass
        with self.lock:
            self.faulty += 1

    def submit(self, number):
        rng, pause = random.Random(number), SUBMITTERS / self.rate
        due = time.monotonic()
        while self.running():
            due += pause
            if rng.random() < 0.05:
                self.misbehave(rng)
            else:
                try:
                    answer = self.front.post("/v1/jobs", request(
                        prompt=f"soak {rng.randrange(50)}", seed=rng.randrange(1 << 31), steps=rng.randrange(1, 6)))
                    with self.lock:
                        if answer.status == 202:
                            self.acknowledged.append(answer.json["id"])
                        elif answer.status == 429:
                            self.refused += 1
                        else:
                            self.errors.append(f"submit: {answer}")
                except OSError as error:
                    self.note(f"submit: {error}")
            time.sleep(max(0.0, due - time.monotonic()))

    def follow(self):
        """One client that follows a job of its own to its end, again and again."""
        while self.running():
            try:
                job = self.front.submit(seed=random.randrange(1 << 31), preview={"every": 1})
                events = read_events(self.front, f"/v1/jobs/{job}/events")
                if events[-1][1] != "done":
                    self.note(f"stream of {job} ended without done")
                with self.lock:
                    self.acknowledged.append(job)
            except (OSError, AssertionError) as error:
                if "429" not in str(error):
                    self.note(f"follow: {error!r}"[:300])
            time.sleep(0.2)

    # ---- The rest ----

    def fill(self):
        """Brings the bounded caches to their size: flat means flat from there on, not from an empty store."""
        def work():
            for seed in range(FILL_JOBS // SUBMITTERS):
                while (answer := self.front.post("/v1/jobs", request(seed=seed, steps=1))).status == 429:
                    time.sleep(0.05)
                if answer.status == 202:
                    with self.lock:
                        self.acknowledged.append(answer.json["id"])
                else:
                    self.note(f"fill: {answer}")
        threads = [threading.Thread(target=work) for _ in range(SUBMITTERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for job, status in self.settle()[0]:
            self.note(f"fill: {job} is {status}")
        self.acknowledged.clear()

    def kill(self):
        due = time.monotonic() + self.kill_s
        while self.running():
            time.sleep(0.1)
            if time.monotonic() >= due and self.end - time.monotonic() > 3:
                due += self.kill_s
                for pid in self.front.worker_pids():
                    try:
                        os.kill(pid, signal.SIGKILL)
                        self.kills += 1
                    except OSError:
                        pass

    def sample(self):
        period = min(5.0, self.seconds / 40)
        while self.running():
            try:
                text = self.front.get("/metrics").body.decode()
            except OSError as error:
                self.note(f"metrics: {error}")
                continue

            def value(name):
                return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])

            self.samples.append((time.monotonic(), value("process_resident_memory_bytes"),
                                 value('latentd_worker_resident_bytes{worker="0"}'), value("process_open_fds")))
            time.sleep(period)

    def run(self):
        self.fill()
        self.end = time.monotonic() + self.seconds
        threads = [threading.Thread(target=self.submit, args=(n,)) for n in range(SUBMITTERS)]
        threads += [threading.Thread(target=work) for work in (self.follow, self.kill, self.sample)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def settle(self):
        """Every acknowledged job ends as succeeded, whatever was killed: those that did not, and the waits."""
        deadline, lost, waits = time.monotonic() + 60, [], []
        for job in self.acknowledged:
            while True:
                view = self.front.get(f"/v1/jobs/{job}")
                status = view.json.get("status") if view.status == 200 else f"HTTP {view.status}"
                if status not in ("queued", "running") or time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            if status != "succeeded":
                lost.append((job, status))
            else:
                waits.append(view.json["timings"]["queue_ms"])
        return lost, waits

    def judge(self):
        lost, waits = self.settle()
        begun = self.samples[0][0] + WARM_SHARE * self.seconds
        warm = [sample for sample in self.samples if sample[0] >= begun]
        third = max(1, len(warm) // 3)
        first, last = warm[:third], warm[-third:]
        memory = [statistics.median(sample[1] for sample in part) for part in (first, last)]
        growth = memory[1] / memory[0] - 1
        descriptors = [statistics.median(sample[3] for sample in part) for part in (first, last)]
        waits.sort()
        print(f"  {self.seconds:.0f} s: {len(self.acknowledged)} jobs ({len(self.acknowledged) / self.seconds:.1f}/s), "
              f"{self.refused} refused, {self.faulty} faulty clients, {self.kills} kills")
        print(f"  queue wait: median {waits[len(waits) // 2]:.0f} ms, 99 % {waits[int(len(waits) * 0.99)]:.0f} ms, "
              f"worst {waits[-1]:.0f} ms")
        print(f"  front: {memory[0] / 2**20:.1f} MiB -> {memory[1] / 2**20:.1f} MiB ({growth:+.1%}), "
              f"descriptors {descriptors[0]:.0f} -> {descriptors[1]:.0f}; {len(lost)} lost, {len(self.errors)} errors")
        for error in self.errors[:5]:
            print("  ", error)
        checks = {
            "nothing acknowledged is lost": not lost,
            "no honest client failed": not self.errors,
            "memory is flat (at most 3 % and 1 MiB)": growth <= 0.03 or memory[1] - memory[0] <= 2**20,
            "descriptors are flat (at most 8 more)": descriptors[1] - descriptors[0] <= 8,
            "workers were killed": self.kills > 0,
        }
        for claim, holds in checks.items():
            print(f"  {'PASSED' if holds else 'FAILED'} {claim}")
        failed = sum(not holds for holds in checks.values())
        print(f"{len(checks) - failed} passed, {failed} failed")
        return failed == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("latentd")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--kill", type=float, help="seconds between kills of the worker")
    options = parser.parse_args()
    kill = options.kill or min(60.0, options.seconds / 4)
    with tempfile.TemporaryDirectory() as folder:
        front = Front(options.latentd, pathlib.Path(folder), "", "--log-level", "warn", "--limits-requests-per-minute",
                      "100000")
        try:
            soak = Soak(front, options.seconds, options.rate, kill)
            soak.run()
            good = soak.judge()
        finally:
            front.stop()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
