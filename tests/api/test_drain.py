"""Proves that SIGTERM stops accepting at once, lets running jobs end, loses no reply, and that a
second one hurries; that a killed front loses nothing it acknowledged."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

from front import request


def wait_closed(front, seconds=2):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", front.port), 0.2).close()
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_running_jobs_end_and_waiting_calls_are_answered(serve):
    front = serve("step_ms=50", "--worker-jobs", "1")
    answers = []

    def wait_for_one(seed):
        answers.append((seed, front.post("/v1/jobs?wait=30", request(seed=seed, steps=20))))

    threads = [threading.Thread(target=wait_for_one, args=(1,))]
    threads[0].start()
    deadline = time.monotonic() + 5
    while not front.get("/v1/jobs?status=running").json["jobs"] and time.monotonic() < deadline:
        time.sleep(0.01)
    threads.append(threading.Thread(target=wait_for_one, args=(2,)))
    threads[1].start()
    time.sleep(0.2)
    began = time.monotonic()
    front.process.send_signal(signal.SIGTERM)
    assert wait_closed(front)
    assert time.monotonic() - began < 1
    for thread in threads:
        thread.join()
    assert front.process.wait(10) == 0
    result = dict(answers)
    assert result[1].status == 200 and result[1].json["status"] == "succeeded"
    assert result[2].status == 202 and result[2].json["status"] == "queued"
    front.start()
    assert front.wait(result[2].json["id"])["status"] == "succeeded"


def test_a_second_signal_hurries_and_the_job_is_queued_again(serve):
    front = serve("step_ms=50")
    job_id = front.submit(steps=150)
    front.wait(job_id, ("running",))
    front.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert front.process.poll() is None
    began = time.monotonic()
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(10) == 0
    assert time.monotonic() - began < 5
    front.start()
    assert front.job(job_id)["status"] in ("queued", "running")
    front.post(f"/v1/jobs/{job_id}/cancel")


def test_a_job_counts_as_running_as_soon_as_anybody_can_see_it(serve, tmp_path):
    """On a disk so slow that SIGTERM comes while its claim is flushed."""
    library = tmp_path / "slow_flush.so"
    source = pathlib.Path(__file__).resolve().parents[1] / "bench/slow_flush.c"
    subprocess.run(["cc", "-std=gnu11", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    front = serve("step_ms=50", env={"LD_PRELOAD": str(library), "SLOW_FLUSH_MS": "300"})
    job_id = front.submit(steps=20)
    front.wait(job_id, ("running",))
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(20) == 0
    front.env = None
    front.start()
    assert front.job(job_id)["status"] == "succeeded"


def test_new_work_is_refused_while_draining(serve):
    front = serve("step_ms=50")
    job_id = front.submit(steps=40)
    front.wait(job_id, ("running",))
    keep = socket.create_connection(("127.0.0.1", front.port))
    keep.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert keep.recv(4096).startswith(b"HTTP/1.1 200")
    front.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    body = json.dumps(request()).encode()
    keep.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    answer = keep.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503") and b"Connection: close" in answer
    keep.close()
    assert front.process.wait(20) == 0


def test_a_killed_front_loses_nothing(serve):
    front = serve("step_ms=20", "--worker-jobs", "2")
    ids = [front.submit(seed=seed, steps=10) for seed in range(8)]
    front.wait(ids[0])
    worker = front.worker_pid()
    front.kill()
    deadline = time.monotonic() + 3
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{worker}")  # it does not outlive its front
    front.start()
    jobs = [front.wait(job_id) for job_id in ids]
    assert all(job["status"] == "succeeded" for job in jobs)
    assert len({job["images"][0]["sha256"] for job in jobs}) == 8
