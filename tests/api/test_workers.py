"""Proves that a worker may die, hang, lie or babble at any time: it is replaced, its jobs end as they
should, and the innocent ones give unchanged bytes. The scripted worker misbehaves on command."""

import os
import pathlib
import signal
import subprocess
import time

from front import request


def test_a_killed_worker_is_replaced_and_the_job_gives_the_same_bytes(serve):
    front = serve("step_ms=20")
    expected = front.picture(front.wait(front.submit(seed=6, steps=3))["id"])
    job_id = front.submit(seed=6, steps=40)
    reference = front.submit(seed=7, steps=3)
    front.wait(reference)
    for _ in range(3):  # more kills than a job has attempts: kills from outside do not count
        front.wait(job_id, ("running",))
        pid = front.worker_pid()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while front.worker_pids() in ([], [pid]) and time.monotonic() < deadline:
            time.sleep(0.005)
    job = front.wait(job_id)
    assert job["status"] == "succeeded"
    again = front.wait(front.submit(seed=6, steps=40))
    assert again["images"][0]["sha256"] == job["images"][0]["sha256"]
    assert front.picture(front.wait(front.submit(seed=6, steps=3))["id"]) == expected


def test_workers_know_their_number(serve):
    """By which they share the GPUs out; a new one has the number of the one that it replaces."""
    front = serve("", "--workers", "3")

    def numbers():
        found = {}
        for pid in front.worker_pids():
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "worker" in words:
                found[pid] = next(word for word in words if word.startswith("--slot="))
        return found

    first = numbers()
    assert sorted(first.values()) == ["--slot=0", "--slot=1", "--slot=2"]
    victim = next(pid for pid, number in first.items() if number == "--slot=1")
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (victim in numbers() or len(numbers()) < 3):
        time.sleep(0.02)
    again = numbers()
    assert victim not in again and sorted(again.values()) == sorted(first.values())


def test_a_worker_takes_no_number_that_is_none(latentd):
    for bad in ("16", "-1", "x", ""):
        done = subprocess.run([latentd, "serve", "--check-config", f"--slot={bad}"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 2 and "--slot must be a number below 16" in done.stderr


def test_service_is_back_within_a_second_of_a_crash(serve, tmp_path):
    front = serve("step_ms=10")
    job_id = front.submit(tag=f"crash@2 once={tmp_path / 'crashed'}")
    began = time.monotonic()
    assert front.wait(job_id)["status"] == "succeeded"
    assert time.monotonic() - began < 2
    assert "worker ended" in front.log_text()


def test_a_poison_job_is_found_by_isolation_and_the_others_succeed(serve):
    front = serve("step_ms=30")
    alone = [front.wait(front.submit(seed=seed, steps=12))["images"][0]["sha256"] for seed in range(7)]
    innocent = [front.submit(seed=seed, steps=12) for seed in range(7)]
    poison = front.submit(seed=99, steps=12, tag="crash@6")
    job = front.wait(poison)
    assert job["status"] == "failed" and job["error"]["code"] == "worker_crash"
    assert [front.wait(job_id)["images"][0]["sha256"] for job_id in innocent] == alone
    assert front.log_text().count('"msg":"worker ended"') == 2


def test_a_job_that_ends_its_worker_alone_fails_at_the_second_time(serve):
    front = serve()
    for deed in ("crash@1", "exit@1"):
        job = front.wait(front.submit(tag=deed))
        assert job["status"] == "failed" and job["error"]["code"] == "worker_crash", job
    assert front.wait(front.submit())["status"] == "succeeded"


def test_the_breaker_opens_after_five_deaths(serve):
    front = serve()
    for _ in range(2):
        assert front.wait(front.submit(tag="crash@0"))["status"] == "failed"
    fifth = front.submit(tag="crash@0")
    deadline = time.monotonic() + 10
    ready = front.get("/readyz")
    while b"disabled" not in ready.body and time.monotonic() < deadline:
        time.sleep(0.05)
        ready = front.get("/readyz")
    assert ready.status == 503 and "disabled" in ready.json["detail"]
    assert front.job(fifth)["status"] == "queued"
    assert front.submit()  # still accepted: the queue outlives the breaker


def test_a_hanging_worker_is_noticed_and_replaced(serve, tmp_path):
    front = serve("step_ms=10", "--worker-hang-s", "5")
    job_id = front.submit(tag=f"hang@2 once={tmp_path / 'hung'}")
    began = time.monotonic()
    assert front.wait(job_id)["status"] == "succeeded"
    assert 4 <= time.monotonic() - began <= 12
    assert "worker hangs" in front.log_text()


def test_a_busy_worker_is_not_taken_for_a_hanging_one(serve):
    front = serve("", "--worker-hang-s", "5")
    job_id = front.submit(tag="spin@1")
    time.sleep(7)
    assert front.job(job_id)["status"] == "running"
    assert "worker hangs" not in front.log_text()
    front.call("DELETE", f"/v1/jobs/{job_id}")
    os.kill(front.worker_pid(), signal.SIGKILL)


def test_garbage_floods_and_lies_end_the_worker_not_the_front(serve, tmp_path):
    front = serve("step_ms=10")
    for number, deed in enumerate(("garbage@1", "flood@1", "lie@1")):
        once = tmp_path / f"once{number}"
        words = deed if deed.startswith("lie") else f"{deed} once={once}"
        began = time.monotonic()
        job = front.wait(front.submit(seed=number, tag=words))
        if deed.startswith("lie"):
            assert job["status"] == "failed" and job["error"]["code"] == "worker_crash"
        else:
            assert job["status"] == "succeeded", (deed, job)
        assert time.monotonic() - began < 5, deed
    assert front.get("/healthz").status == 200
    assert front.log_text().count("misbehaves") >= 3


def test_a_frozen_worker_loses_its_lease(serve):
    front = serve("step_ms=50")
    job_id = front.submit(steps=20)
    front.wait(job_id, ("running",))
    pid = front.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    job = front.wait(job_id, seconds=50)
    assert job["status"] == "succeeded"
    assert "worker was not heard" in front.log_text()


def test_a_late_result_of_a_deleted_job_is_dropped(serve):
    front = serve()
    job_id = front.submit(tag="late_ms=800")
    front.wait(job_id, ("running",))
    time.sleep(0.2)
    assert front.call("DELETE", f"/v1/jobs/{job_id}").status == 204
    assert front.wait(front.submit(seed=5))["status"] == "succeeded"
    assert front.get(f"/v1/jobs/{job_id}").status == 404
    assert len(front.get("/v1/jobs").json["jobs"]) == 1


def test_several_jobs_run_at_once_up_to_the_bound(serve):
    front = serve("step_ms=30", "--worker-jobs", "3")
    ids = [front.submit(seed=seed, steps=20) for seed in range(5)]
    front.wait(ids[2], ("running",))
    statuses = [front.job(job_id)["status"] for job_id in ids]
    assert statuses == ["running"] * 3 + ["queued"] * 2
    assert all(front.wait(job_id)["status"] == "succeeded" for job_id in ids)


def test_listings_are_answered_with_no_worker_alive(serve, latentd, tmp_path):
    front = serve()
    front.stop()
    front.script = "no-such-order"
    front.start(ready=False)
    assert front.get("/v1/models").json["data"][0]["id"] == "scripted"
    deadline = time.monotonic() + 5
    while "no order" not in front.get("/readyz").json["detail"] and time.monotonic() < deadline:
        time.sleep(0.05)
    ready = front.get("/readyz")
    assert ready.status == 503 and "no order" in ready.json["detail"]
    assert front.post("/v1/plan", request()).status == 503
    queued = front.post("/v1/jobs", request())
    assert queued.status == 202 and queued.json["status"] == "queued"
