"""Measures rows H1, H3 and L1 to L6 of robustness.md: see figures.sh. Asserts what does not depend on the
machine (bounds, shares, one job a key, estimates against what came true) and prints the rest.

    figures.py PATH-OF-latentd [ROW]...
"""

import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "api"))
from front import Front, request  # noqa: E402

CONNECTIONS = 64
SECONDS = 4  # of a run of wrk
WRK = shutil.which("wrk")


# ---- Tools ------------------------------------------------------------------------------------------

class Keyed(Front):
    """A front with keys, behind a proxy as far as it knows: any number of connections of one address."""

    def __init__(self, latentd, folder, script, count, *flags, limits=()):
        self.keys = [subprocess.run([latentd, "keys", "add", f"k{number}", "--state-dir", str(folder / "state"), *limits],
                                    capture_output=True, text=True, check=True).stdout.strip() for number in range(count)]
        super().__init__(latentd, folder, script, "--server-behind-proxy", "--limits-requests-per-minute", "100000",
                         "--log-level", "error", *flags)

    def send(self, key, **fields):
        return self.post("/v1/jobs", request(**fields), headers={"Authorization": f"Bearer {key}"})

    def see(self, key, path):
        answer = self.get(path, headers={"Authorization": f"Bearer {key}"})
        assert answer.status == 200, answer
        return answer.json

    def until(self, key, job, statuses, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen = self.see(key, f"/v1/jobs/{job}")
            if seen["status"] in statuses:
                return seen
            time.sleep(0.01)
        raise AssertionError(f"{job} is {seen['status']}")


def press(front, work, pairs=(), connections=CONNECTIONS, pause=0, seconds=SECONDS, background=False):
    """wrk with press.lua; what its last line says."""
    listing = "-"
    if pairs:
        listing = str(front.folder / f"pairs-{work}")
        pathlib.Path(listing).write_text("".join(f"{key} {job}\n" for key, job in pairs))
    process = subprocess.Popen(
        [WRK, "-t1", "--timeout", "20s", f"-c{connections}", f"-d{seconds}s", "-s", str(pathlib.Path(__file__).with_name("press.lua")),
         f"http://127.0.0.1:{front.port}", "--", work, listing, str(pause)], stdout=subprocess.PIPE, text=True)
    if background:
        return process
    return result(process)


def result(process):
    text, _ = process.communicate(timeout=120)
    found = json.loads(text.strip().splitlines()[-1])
    found["rate"] = found["good"] / found["seconds"]
    return found


def commits_per_second(folder, seconds=1.5):
    """What one writer of SQLite reaches here with the store's own promises: a row a transaction."""
    database = sqlite3.connect(folder / "baseline.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO t (text) VALUES (?)", ("x" * 200,))
        database.execute("COMMIT")
        count += 1
    database.close()
    return count / seconds


def say(row, text):
    print(f"{row}  {text}", flush=True)


# ---- L1, L2: speed ----------------------------------------------------------------------------------

@contextlib.contextmanager
def busy_front(latentd):
    """A front whose only place is taken, so that what comes in waits, and who may send it. The queue takes 10,000."""
    with tempfile.TemporaryDirectory() as folder:
        front = Keyed(latentd, pathlib.Path(folder), "step_ms=60000", 100, "--worker-jobs", "1", "--server-drain-s", "1")
        try:
            yield front, [(key, "") for key in front.keys]
        finally:
            front.kill()


def row_1(latentd):
    with busy_front(latentd) as (front, owners):
        plain = press(front, "plain", seconds=2)
        commits = commits_per_second(front.folder)
        submits = press(front, "submit", owners, seconds=1)
    assert submits["errors"] == submits["other"] == 0 and submits["good"] > 0, submits
    with busy_front(latentd) as (front, owners):
        beside = press(front, "plain", connections=2, seconds=2, background=True)
        graphs = press(front, "graph", owners, seconds=2)
        beside = result(beside)
    say("L1", f"{CONNECTIONS} connections: {submits['rate']:.0f} submits/s, median {submits['median_ms']:.1f} ms, 99 % "
        f"{submits['late_ms']:.1f} ms; beside it one SQLite writer: {commits:.0f} commits/s ({submits['rate'] / commits:.1f} submits a "
        f"commit), GET /healthz: {plain['rate']:.0f}/s; as ComfyUI's graphs {graphs['rate']:.0f}/s, 99 % {graphs['late_ms']:.1f} ms, GET "
        f"/healthz beside them: {beside['rate']:.0f}/s, 99 % {beside['late_ms']:.1f} ms; load {os.getloadavg()[0]:.0f} on "
        f"{os.cpu_count()} processors")


def row_2(latentd):
    """At 5,000 polls a second, the row's rate, and as many as there can be: there the wait is the queue of a full server."""
    with busy_front(latentd) as (front, owners):
        press(front, "submit", owners, seconds=1)
        pairs = [(key, job["id"]) for key in front.keys[:40] for job in front.see(key, "/v1/jobs?limit=50")["jobs"]]
        found = []
        for pause in (8, 0):
            beside = press(front, "submit", owners, connections=4, pause=40, background=True)
            polls = press(front, "poll", pairs, pause=pause)
            assert polls["errors"] == 0 and polls["other"] == 0, polls
            found.append((polls, result(beside)["rate"]))
        plain = press(front, "plain", seconds=2)
    (paced, beside_paced), (full, beside_full) = found
    say("L2", f"{CONNECTIONS} connections: {paced['rate']:.0f} polls/s, median {paced['median_ms']:.1f} ms, 99 % {paced['late_ms']:.1f} ms "
        f"beside {beside_paced:.0f} submits/s; without pauses {full['rate']:.0f} polls/s, median {full['median_ms']:.1f} ms, 99 % "
        f"{full['late_ms']:.1f} ms beside {beside_full:.0f}; GET /healthz in the same minute: {plain['rate']:.0f}/s, 99 % "
        f"{plain['late_ms']:.1f} ms (ratio {full['rate'] / plain['rate']:.2f}); load {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors")


# ---- H1, H3: slow and half-closed clients ------------------------------------------------------------

def row_slow(latentd, count=256):
    """Slow headers from `count` connections beside 64 honest ones that each ask twenty times a second."""
    with tempfile.TemporaryDirectory() as folder:
        front = Keyed(latentd, pathlib.Path(folder), "", 1)
        slow, lives = [], {}
        try:
            alone = press(front, "plain", pause=50)
            for number in range(count):
                connection = socket.create_connection(("127.0.0.1", front.port), 5)
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
                connection.setblocking(False)
                slow.append((connection, time.monotonic()))
            honest = press(front, "plain", pause=50, seconds=6, background=True)
            deadline = time.monotonic() + 25
            while len(lives) < count and time.monotonic() < deadline:
                for number, (connection, began) in enumerate(slow):
                    if number in lives:
                        continue
                    try:
                        connection.send(b"a")
                        if connection.recv(100) == b"":
                            lives[number] = time.monotonic() - began
                    except BlockingIOError:
                        pass
                    except OSError:
                        lives[number] = time.monotonic() - began
                time.sleep(0.2)
            beside = result(honest)
        finally:
            for connection, _ in slow:
                connection.close()
            front.kill()
    say("H1", f"{count} slow connections: closed after {min(lives.values()):.1f} to {max(lives.values()):.1f} s; 64 honest ones: "
        f"99 % {alone['late_ms']:.1f} ms alone, {beside['late_ms']:.1f} ms beside them, {beside['errors']} failures "
        f"in {beside['good']} calls; load {os.getloadavg()[0]:.0f}")
    assert len(lives) == count and beside["errors"] == beside["other"] == 0


def row_halves(latentd, count=1000):
    def descriptors(front):
        return len(os.listdir(f"/proc/{front.process.pid}/fd"))

    with tempfile.TemporaryDirectory() as folder:
        front = Front(latentd, pathlib.Path(folder), "", "--log-level", "error")
        try:
            front.get("/healthz")
            before = descriptors(front)
            replies = sum(front.one_reply(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", half_close=True).status == 200
                          for _ in range(count))
            dropped = sum(not front.raw(b"POST /v1/plan HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                        b"Content-Length: 100\r\n\r\n{", half_close=True).startswith(b"HTTP/1.1 2")
                          for _ in range(count))
            deadline = time.monotonic() + 5
            while descriptors(front) > before and time.monotonic() < deadline:
                time.sleep(0.05)
            after = descriptors(front)
        finally:
            front.kill()
    say("H3", f"{count} clients half-closed after their request: {replies} replies; {count} in a body: {dropped} dropped; "
        f"{before} descriptors before, {after} after")
    assert replies == dropped == count and after <= before


# ---- L3: a full queue -------------------------------------------------------------------------------

def row_3(latentd):
    job_s = 4.0
    with tempfile.TemporaryDirectory() as folder:
        front = Keyed(latentd, pathlib.Path(folder), "step_ms=200", 2, "--worker-jobs", "1", "--limits-queued-max", "8",
                      limits=("--queued", "5"))
        try:
            key, other = front.keys
            front.until(key, front.send(key, steps=20).json["id"], ("succeeded",))  # a rate is known
            ratios = []
            for _ in range(3):
                while (answer := front.send(key, steps=20)).status == 202:
                    pass
                assert answer.status == 429, answer
                told, began = int(answer.headers["Retry-After"]), time.monotonic()
                while (answer := front.send(key, steps=20)).status == 429:
                    time.sleep(0.02)
                ratios.append((told, time.monotonic() - began))
            waits = sorted(front.see(key, "/v1/jobs?limit=50")["jobs"], key=lambda job: job["created_at"])
            etas = []
            began = time.monotonic()
            for job in waits:
                if job["status"] == "queued" and job.get("eta_ms", -1) > 0:
                    etas.append((job["id"], job["eta_ms"] / 1000))
            ends = []
            for job, told in etas:
                front.until(key, job, ("succeeded",))
                ends.append(told / (time.monotonic() - began))
            # The bound of the whole queue under a storm.
            storm = [front.send(other if number % 2 else key, steps=1, tag="step_ms=1000").status for number in range(60)]
            queue = {line.split()[0]: float(line.split()[1]) for line in front.get("/metrics").body.decode().splitlines()
                     if line.startswith("latentd_queue_jobs{")}
        finally:
            front.kill()
    first, later = ratios[0], ratios[1:]  # the first comes at any moment of the running job
    worst = max(abs(told / truth - 1) for told, truth in later)
    say("L3", f"jobs of {job_s:.0f} s, one place: Retry-After " + ", ".join(
        f"{told} s for {truth:.1f} s" for told, truth in (first, *later)) +
        f"; eta of {len(ends)} waiting jobs {min(ends):.2f} to {max(ends):.2f} of the truth; "
        f"{sum(status == 202 for status in storm)} of {len(storm)} taken by a full queue, {int(sum(queue.values()))} in it")
    assert all(told + 0.5 >= truth for told, truth in ratios), ratios  # who waits as told gets in
    assert worst <= 0.5 and all(0.5 <= ratio <= 1.5 for ratio in ends), (ratios, ends)
    assert sum(queue.values()) <= 9  # and the one that runs


# ---- L4, L5: fairness -------------------------------------------------------------------------------

def row_4(latentd):
    users, each, step_ms = 10, 60, 10
    with tempfile.TemporaryDirectory() as folder:
        front = Keyed(latentd, pathlib.Path(folder), f"step_ms={step_ms}", users + 1, "--worker-jobs", "1")
        try:
            blocker = front.send(front.keys[-1], steps=150, tag="step_ms=600000").json["id"]
            for _ in range(each):
                for key in front.keys[:users]:
                    assert front.send(key, steps=2).status == 202
            front.post(f"/v1/jobs/{blocker}/cancel", headers={"Authorization": f"Bearer {front.keys[-1]}"})
            for pid in front.worker_pids():  # the blocker sleeps
                os.kill(pid, 9)
            while True:
                left = [front.see(key, "/v1/me")["usage"]["queued"] for key in front.keys[:users]]
                if sum(left) <= users * each - 500:
                    break
                time.sleep(0.05)
        finally:
            front.kill()
    ran = [each - count for count in left]
    jain = sum(ran) ** 2 / (users * sum(count * count for count in ran))
    say("L4", f"{users} users with {each} jobs each, after {sum(ran)} jobs: {min(ran)} to {max(ran)} each, Jain index {jain:.4f}")
    assert jain >= 0.98 and max(ran) <= 1.05 * sum(ran) / users + 1 and min(ran) >= 0.95 * sum(ran) / users - 1
    with tempfile.TemporaryDirectory() as folder:
        front = Keyed(latentd, pathlib.Path(folder), f"step_ms={step_ms}", users, "--worker-jobs", "1")
        try:
            flooder, light = front.keys[0], front.keys[1:]
            for _ in range(190):
                assert front.send(flooder, steps=5).status == 202
            waits, end, jobs = [], time.monotonic() + 12, []

            def paint(key):
                chance = random.Random(key)
                while time.monotonic() < end:
                    seen = front.until(key, front.send(key, steps=5).json["id"], ("succeeded",))
                    waits.append(seen["timings"]["queue_ms"])
                    jobs.append((seen["created_at"], seen["started_at"]))
                    time.sleep(chance.uniform(0, 0.3))

            begun = time.monotonic()
            threads = [threading.Thread(target=paint, args=(key,)) for key in light]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.monotonic() - begun
            left = front.see(flooder, "/v1/me")["usage"]["queued"]
            starts = [job["started_at"] for job in every_job(front, flooder) if job.get("started_at")]
        finally:
            front.kill()
    starts += [started for _, started in jobs]
    before = [sum(created <= start < started for start in starts) + 1 for created, started in jobs]  # and the running one
    mean = took * 1000 / (len(waits) + 190 - left)
    say("L4", f"one floods with 190 jobs ({left} left), nine paint one after the other: {len(waits)} jobs, behind "
        f"{statistics.mean(before):.1f} others on average and {max(before)} at most (bound 11, in order of arrival 190); "
        f"worst wait {max(waits):.0f} ms at {mean:.0f} ms a job")
    assert left > 0 and max(before) <= users + 1


def row_5(latentd):
    ahead = 12
    with tempfile.TemporaryDirectory() as folder:
        front = Keyed(latentd, pathlib.Path(folder), "step_ms=10", 1, "--worker-jobs", "1")
        try:
            key = front.keys[0]
            for _ in range(ahead):
                front.send(key, steps=2, priority=5)
            low = front.send(key, steps=2, priority=0).json["id"]
            after, deadline = 0, time.monotonic() + 60
            while front.see(key, f"/v1/jobs/{low}")["status"] == "queued" and time.monotonic() < deadline:
                while front.see(key, "/v1/me")["usage"]["queued"] < ahead:
                    front.send(key, steps=2, priority=5)
                    after += 1
            waited = front.until(key, low, ("succeeded",))["started_at"]
            before = sum(job.get("started_at", "z") < waited for job in every_job(front, key))
        finally:
            front.kill()
    say("L5", f"a job of priority 0 behind {ahead} of priority 5 that never run out: {before} ran before it, "
        f"{before / ahead:.1f} times its place by age (bound 10)")
    assert before <= 10 * ahead


def every_job(front, key):
    jobs, cursor = [], ""
    while True:
        page = front.see(key, f"/v1/jobs?limit=100{cursor}")
        jobs += page["jobs"]
        if not page.get("next"):
            return jobs
        cursor = f"&cursor={page['next']}"


# ---- L6: duplicates ---------------------------------------------------------------------------------

def row_6(latentd, keys=200, duplicates=50):
    with tempfile.TemporaryDirectory() as folder:
        front = Keyed(latentd, pathlib.Path(folder), "step_ms=1", 4)
        ids, replays, lock = {number: set() for number in range(keys)}, [0], threading.Lock()
        turn, over = iter([number for number in range(keys) for _ in range(duplicates)]), threading.Event()

        def send():
            while True:
                with lock:
                    number = next(turn, None)
                if number is None:
                    return
                headers = {"Authorization": f"Bearer {front.keys[number % 4]}", "Idempotency-Key": f"order-{number}"}
                while True:
                    try:
                        answer = front.post("/v1/jobs", request(seed=number, steps=1), headers=headers, timeout=10)
                    except (OSError, http.client.HTTPException):
                        time.sleep(0.02)
                        continue
                    if answer.status in (200, 202):
                        break
                    time.sleep(0.05)
                with lock:
                    ids[number].add(answer.json["id"])
                    replays[0] += answer.headers.get("Idempotent-Replayed") == "true"

        def kill():
            count = 0
            while not over.wait(1.0):
                front.kill()
                front.start(ready=False)
                count += 1
            kills.append(count)

        kills = []
        killer = threading.Thread(target=kill)
        senders = [threading.Thread(target=send) for _ in range(32)]
        try:
            killer.start()
            for thread in senders:
                thread.start()
            for thread in senders:
                thread.join()
            over.set()
            killer.join()
            front.wait_ready()
            other = front.post("/v1/jobs", request(seed=10**6, steps=2), headers={
                "Authorization": f"Bearer {front.keys[0]}", "Idempotency-Key": "order-0"})
            made = sum(len(every_job(front, key)) for key in front.keys)
        finally:
            over.set()
            front.kill()
    say("L6", f"{duplicates} duplicates of {keys} keys on 32 connections with {kills[0]} kills of the server: {made} jobs, "
        f"{replays[0]} replays said so; the same key with another body: {other.status}")
    assert made == keys and all(len(found) == 1 for found in ids.values()) and other.status in (409, 422)


# ---- The end ----------------------------------------------------------------------------------------

def main():
    latentd, wanted = sys.argv[1], sys.argv[2:] or ["H1", "H3", "L1", "L2", "L3", "L4", "L5", "L6"]
    failed = passed = skipped = 0
    rows = [("H3", row_halves), ("L3", row_3), ("L4", row_4), ("L5", row_5), ("L6", row_6)]
    if {"H1", "L1", "L2"} & set(wanted) and not WRK:
        print("H1, L1, L2  skipped: wrk is not installed (Debian: wrk)")
        skipped += 1
    if WRK:
        rows[:0] = [("H1", row_slow), ("L1", row_1), ("L2", row_2)]
    for name, row in rows:
        if name not in wanted:
            continue
        try:
            row(latentd)
            passed += 1
        except AssertionError as error:
            print(f"{name}  FAILED {error}")
            failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
