"""Proves that what a key has open ends when the key is revoked: event streams, ComfyUI's sockets and
waiting calls, whoever revoked it; that other keys' streams go on; and that the first key of a server
ends what anonymous callers had open. The times are printed; a stream would stay open for ever."""

import http.client
import json
import threading
import time

import pytest

from test_comfy import Socket
from test_keys import add, bearer, keys

from front import request


class Stream:
    """An event stream, open and read up to its first line."""

    def __init__(self, front, path, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
        self.connection.request("GET", path, headers=headers or {})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.readline() == b"retry: 2000\n"

    def rest(self):
        """Everything up to the end; times out when there is none."""
        return self.answer.read()

    def until(self, word):
        while True:
            line = self.answer.readline()
            assert line, "the stream ended"
            if word in line:
                return line

    def close(self):
        self.connection.close()


def closes(socket_):
    """Frames up to a close."""
    socket_.connection.settimeout(20)
    while True:
        opcode, payload = socket_.frame()
        if opcode == 8:
            return int.from_bytes(payload[:2], "big")


@pytest.mark.parametrize("by", ["file", "call"])
def test_a_revoked_keys_streams_end_and_no_others(serve, latentd, tmp_path, by):
    ada, bob = add(latentd, tmp_path, "ada"), add(latentd, tmp_path, "bob")
    root = add(latentd, tmp_path, "root", "--scopes", "read,generate,admin")
    front = serve("step_ms=100")
    jobs = {}
    for key in (ada, bob):
        answer = front.post("/v1/jobs", request(steps=150), headers=bearer(key))
        assert answer.status == 202, answer
        jobs[key] = answer.json["id"]
    ours = [Stream(front, path, bearer(ada)) for path in ("/v1/events", f"/v1/jobs/{jobs[ada]}/events")]
    other = Stream(front, "/v1/events", bearer(bob))
    sockets = {key: Socket(front, name, headers=f"Authorization: Bearer {key}\r\n")
               for key, name in ((ada, "a"), (bob, "b"))}
    waited = []
    waiting = threading.Thread(target=lambda: waited.append(
        front.post("/v1/jobs?wait=60", request(steps=150, seed=7), headers=bearer(ada), timeout=60)))
    waiting.start()
    ours[0].until(b"event: progress")
    begun = time.monotonic()
    if by == "file":
        keys(latentd, tmp_path, "revoke", "ada")
    else:
        assert front.call("DELETE", "/v1/admin/keys?id=ada", headers=bearer(root)).status == 204
    for stream in ours:
        stream.rest()
        stream.close()
    assert closes(sockets[ada]) == 1001
    print(f"revoked by {by}: streams ended after {time.monotonic() - begun:.2f} s")
    waiting.join(20)
    assert waited and waited[0].status in (200, 401, 404), waited
    if waited[0].status == 200:
        assert waited[0].json["status"] == "cancelled"
    for stream in (other,):
        stream.until(b"event: progress")
        stream.close()
    sockets[bob].until(lambda kind, data: kind == "status")
    for socket_ in sockets.values():
        socket_.close()
    assert front.get(f"/v1/jobs/{jobs[bob]}", headers=bearer(bob)).json["status"] == "running"


def test_the_first_key_ends_what_strangers_follow(serve, latentd, tmp_path):
    front = serve("step_ms=20")
    stream = Stream(front, "/v1/events")
    socket_ = Socket(front, "anybody")
    add(latentd, tmp_path, "anna")
    stream.rest()
    assert closes(socket_) == 1001
    stream.close()
    socket_.close()


def test_a_stream_of_a_valid_key_outlives_changes_of_others(serve, latentd, tmp_path):
    ada = add(latentd, tmp_path, "ada")
    front = serve("step_ms=20")
    stream = Stream(front, "/v1/events", bearer(ada))
    for name in ("b", "c"):
        add(latentd, tmp_path, name)
        keys(latentd, tmp_path, "revoke", name)
    time.sleep(1.5)  # a turn of the loop that looks
    job = front.post("/v1/jobs", request(), headers=bearer(ada)).json["id"]
    assert json.loads(stream.until(b"data:")[6:])["job"] == job or stream.until(job.encode())
    stream.close()
