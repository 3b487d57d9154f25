"""Proves row G9 of robustness.md: a front that dies while results are on their way to it loses none of them,
and nothing that was finished is computed again; what a spool should not hold is dropped. The front is stopped
(SIGSTOP) until its worker has finished, then killed. Prints its figures."""

import os
import signal
import sqlite3
import time

import pytest

from front import Front

SCRIPT = "step_ms=5"
STEP_S = 0.005  # of the script
LONG_ENOUGH_S = 0.6 + 0.1 * os.getloadavg()[0]  # beyond the work itself, whose steps take turns


@pytest.fixture
def front(latentd, tmp_path):
    front = Front(latentd, tmp_path, SCRIPT, "--worker-jobs", "4")
    yield front
    front.kill()


def rows(front):
    with sqlite3.connect(f"file:{front.folder / 'state' / 'jobs.db'}?mode=ro", uri=True) as db:
        return {job: (status, attempt) for job, status, attempt in db.execute("SELECT id, status, attempt FROM jobs")}


def spool(front):
    return front.folder / "state" / "spool"


def until(check, seconds=20):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def die_with_results_on_the_way(front, jobs, steps=20, **fields):
    """Jobs that end while the front sleeps; then it dies."""
    workers = front.worker_pids()
    ids = [front.submit(steps=steps, seed=seed, **fields) for seed in range(jobs)]
    until(lambda: all(front.job(job)["status"] == "running" for job in ids))
    os.kill(front.process.pid, signal.SIGSTOP)
    time.sleep(LONG_ENOUGH_S + jobs * steps * STEP_S)
    front.kill()
    until(lambda: all(is_gone(pid) for pid in workers))
    return ids


def test_what_had_ended_is_not_computed_again(front):
    left = again = 0
    for _ in range(5):
        ids = die_with_results_on_the_way(front, 4, steps=60)  # long enough to be seen at work together
        files = list(spool(front).iterdir())
        assert {file.name[:26] for file in files} <= set(ids)
        finished = {file.name[:26] for file in files}
        left += len(finished)
        before = rows(front)
        assert all(before[job] == (1, 1) for job in ids)  # they ran, once
        front.start()
        assert not list(spool(front).iterdir())
        for job in ids:
            told = front.wait(job)
            assert told["status"] == "succeeded" and len(front.picture(job)) == told["images"][0]["bytes"]
            if job in finished:
                again += rows(front)[job][1] != 1
    print(f"{left} results on their way at 5 deaths of a front: {again} computed again, 0 lost")
    assert left >= 10 and again == 0


def test_every_picture_of_a_job_is_left(front):
    (job,) = die_with_results_on_the_way(front, 1, images=3)
    assert len(list(spool(front).iterdir())) == 1
    front.start()
    told = front.wait(job)
    assert told["status"] == "succeeded" and [image["index"] for image in told["images"]] == [0, 1, 2]
    assert rows(front)[job] == (2, 1)


def test_what_still_ran_is_computed_again(front):
    job = front.submit(steps=150, tag="step_ms=100")
    until(lambda: front.job(job)["status"] == "running")
    workers = front.worker_pids()
    front.kill()
    until(lambda: all(is_gone(pid) for pid in workers))
    assert not list(spool(front).iterdir())
    front.start()
    assert front.job(job)["status"] in ("queued", "running")
    assert front.post(f"/v1/jobs/{job}/cancel").status in (200, 202)


def damage(kind, data):
    if kind == "cut":
        return data[:len(data) // 2]
    if kind == "flipped":
        return data[:200] + bytes([data[200] ^ 1]) + data[201:]
    if kind == "empty":
        return b""
    return os.urandom(5000)


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "noise"])
def test_a_damaged_result_is_dropped_and_computed_again(front, kind):
    (job,) = die_with_results_on_the_way(front, 1)
    (file,) = spool(front).iterdir()
    file.write_bytes(damage(kind, file.read_bytes()))
    front.start()
    assert front.wait(job)["status"] == "succeeded"
    assert not list(spool(front).iterdir())


def test_only_the_running_attempt_counts(front):
    (job,) = die_with_results_on_the_way(front, 1)
    (file,) = spool(front).iterdir()
    data = file.read_bytes()
    front.start()
    digest = front.wait(job)["images"][0]["sha256"]
    front.kill()
    # The same result once more, one under another's name, and things that are no results.
    other = "0" * 26 + file.name[26:]
    file.write_bytes(data)
    (spool(front) / other).write_bytes(data)
    (spool(front) / "tmp.x").write_bytes(b"x")
    (spool(front) / f"{job}.{'g' * 16}").write_bytes(data)
    os.symlink("/etc/passwd", spool(front) / f"{job}.{'1' * 16}")
    os.mkfifo(spool(front) / f"{job}.{'2' * 16}")
    front.start()
    told = front.job(job)
    assert told["status"] == "succeeded" and [image["sha256"] for image in told["images"]] == [digest]
    assert not list(spool(front).iterdir())
    assert "root:" not in front.log_text()


def test_a_result_of_a_cancelled_job_is_not_shown(front):
    workers = front.worker_pids()
    job = front.submit(steps=20, seed=1)
    until(lambda: front.job(job)["status"] == "running")
    os.kill(front.process.pid, signal.SIGSTOP)
    time.sleep(LONG_ENOUGH_S)
    front.kill()
    until(lambda: all(is_gone(pid) for pid in workers))
    with sqlite3.connect(front.folder / "state" / "jobs.db") as db:
        db.execute("UPDATE jobs SET status = 4 WHERE id = ?", (job,))  # being cancelled
    front.start()
    told = front.wait(job)
    assert told["status"] == "cancelled" and told["images"] == []


def test_a_state_folder_that_cannot_hold_a_spool_paints_all_the_same(latentd, tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "spool").write_text("in the way")
    front = Front(latentd, tmp_path, SCRIPT)
    try:
        assert front.wait(front.submit(steps=1))["status"] == "succeeded"
    finally:
        front.kill()
