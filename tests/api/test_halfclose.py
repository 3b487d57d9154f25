"""Proves that a client that closes its sending half still gets its reply, that one that leaves within
a body costs nothing, and that a waiting call notices when its client is gone (a half-closed one
cannot be told from that)."""

import json
import os
import socket
import time

from front import request

TRIES = 1000


def descriptors(front):
    return len(os.listdir(f"/proc/{front.process.pid}/fd"))


def warm(front):
    """Descriptors at rest."""
    last, steady = descriptors(front), 0
    while steady < 10:  # a second without a change: their connections are gone
        time.sleep(0.1)
        now = descriptors(front)
        last, steady = now, steady + 1 if now == last else 0
    return last


def settled(front, before, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and descriptors(front) > before:
        time.sleep(0.05)
    return descriptors(front) <= before


def test_half_closed_after_the_request_still_gets_its_reply(front):
    before = warm(front)
    for _ in range(TRIES):
        answer = front.one_reply(b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                                 half_close=True)
        assert answer.status == 200 and answer.json["name"] == "latentd"
    body = json.dumps(request()).encode()
    head = (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n")
    for _ in range(20):
        answer = front.one_reply(head + body, half_close=True)
        assert answer.status == 202
        front.wait(answer.json["id"])
        front.call("DELETE", f"/v1/jobs/{answer.json['id']}")
    assert settled(front, before)


def test_leaving_within_the_body_leaks_nothing(front):
    before = warm(front)
    made = 0
    while made < TRIES:
        try:
            with socket.create_connection(("127.0.0.1", front.port)) as connection:
                connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                                   b"application/json\r\nContent-Length: 1000\r\n\r\n{" + b" " * (made % 900))
                if made % 2:
                    connection.shutdown(socket.SHUT_WR)
            made += 1
        except OSError:  # one address may hold 64 connections, and a slow machine is still closing them
            time.sleep(0.05)
    assert settled(front, before)
    assert front.get("/v1/jobs").json["jobs"] == []


def leave_while_waiting(front, **fields):
    body = json.dumps(request(**fields)).encode()
    connection = socket.create_connection(("127.0.0.1", front.port))
    connection.sendall(b"POST /v1/jobs?wait=60 HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                       b"application/json\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        jobs = front.get("/v1/jobs?status=running").json["jobs"]
        if jobs:
            connection.close()
            return jobs[0]["id"]
        time.sleep(0.02)
    raise AssertionError("the job did not start")


def test_a_waiting_client_that_leaves_takes_its_job_along(front):
    job_id = leave_while_waiting(front, steps=150, tag="step_ms=50")
    began = time.monotonic()
    assert front.wait(job_id)["status"] == "cancelled"
    assert time.monotonic() - began < 2.6


def test_a_job_that_is_to_finish_does(front):
    job_id = leave_while_waiting(front, steps=20, tag="step_ms=50", on_disconnect="finish")
    assert front.wait(job_id)["status"] == "succeeded"


def test_a_queued_call_does_not_care_who_leaves(front):
    job_id = front.submit(steps=10, tag="step_ms=30")
    assert front.wait(job_id)["status"] == "succeeded"
