"""Proves that a full disk and a lack of descriptors are answered and overcome without a restart. The
state folder lies on a small tmpfs that the test mounts; without the right to mount it is skipped."""

import os
import resource
import subprocess
import threading
import time

import pytest

from front import Front, request
from test_metrics import scrape


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", str(place)],
                          capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    ballast = place / "ballast"
    with open(ballast, "wb") as file:
        try:
            while True:
                file.write(bytes(65536))
                file.flush()
        except OSError:
            pass
    return ballast


def test_a_full_disk_refuses_submits_holds_results_and_recovers(latentd, small_disk):
    front = Front(latentd, small_disk, "step_ms=20")
    try:
        done = front.wait(front.submit(seed=1))
        running = front.submit(seed=2, steps=60)
        front.wait(running, ("running",))
        ballast = fill(small_disk)
        refused = front.post("/v1/jobs", request(seed=3, prompt="x" * 16000))
        deadline = time.monotonic() + 10
        while refused.status in (202, 200) and time.monotonic() < deadline:
            refused = front.post("/v1/jobs", request(seed=3, prompt="x" * 16000))
        assert refused.status == 507 and "Retry-After" in refused.headers, refused
        assert scrape(front)['latentd_jobs_rejected_total{reason="storage_full"}'] >= 1
        assert front.job(done["id"])["status"] == "succeeded"
        assert front.get("/readyz").status == 503
        time.sleep(2.5)  # the running job ends while nothing can be stored
        assert front.job(running)["status"] == "running"
        ballast.unlink()
        began = time.monotonic()
        assert front.wait(running)["status"] == "succeeded"
        assert front.post("/v1/jobs", request(seed=4)).status == 202
        assert time.monotonic() - began <= 5
        assert front.get("/readyz").status == 200
    finally:
        front.stop()


def test_running_out_of_descriptors_is_survived(latentd, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        # A child may raise the soft limit again, so the hard one has to go too, in the child alone.
        wrapper = tmp_path / "few"
        wrapper.write_text(f'#!/bin/sh\nulimit -Hn 64\nulimit -Sn 64\nexec "{latentd}" "$@"\n')
        wrapper.chmod(0o755)
        front = Front(str(wrapper), tmp_path, "step_ms=10")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    try:
        import socket

        held = []
        for _ in range(60):
            try:
                held.append(socket.create_connection(("127.0.0.1", front.port), 1))
            except OSError:
                break
        time.sleep(0.5)
        assert front.process.poll() is None
        for connection in held:
            connection.close()
        began = time.monotonic()
        while True:
            try:
                if front.get("/readyz", timeout=1).status == 200:
                    break
            except OSError:
                pass
            assert time.monotonic() - began < 5
            time.sleep(0.05)
        assert front.wait(front.submit())["status"] == "succeeded"
    finally:
        front.stop()


def test_many_submitters_at_once_are_all_served(latentd, tmp_path):
    """Not a measure of speed, but of nothing being lost when 32 clients submit at once."""
    front = Front(latentd, tmp_path, "", "--limits-queued-per-key", "200")
    ids, refused = [], []

    def submit(number):
        for index in range(10):
            answer = front.post("/v1/jobs", request(seed=number * 100 + index, steps=1))
            (ids if answer.status == 202 else refused).append(answer)

    try:
        threads = [threading.Thread(target=submit, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ids) + len(refused) == 320
        assert all(answer.status == 429 for answer in refused)
        assert len({answer.json["id"] for answer in ids}) == len(ids) >= 200
        for answer in ids:
            assert front.wait(answer.json["id"])["status"] == "succeeded"
    finally:
        front.stop()
    assert os.path.exists(tmp_path / "state" / "jobs.db")
