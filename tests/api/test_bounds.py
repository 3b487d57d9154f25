"""Walks the table of limits (config/limits.h): each bound that the front enforces is met one below, at
and one above, and every constant of that file either stands in this walk or names the test that
proves it. What needs waiting runs beside the rest."""

import http.client
import json
import pathlib
import re
import socket
import struct
import threading
import time
import zlib

import pytest

from front import request
from test_keys import add, bearer

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = b"Host: localhost\r\n"
MIB = 1024 * 1024


def status_of(raw):
    return int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.1 ") else None


def get(front, target=b"/healthz", headers=b""):
    return status_of(front.raw(b"GET " + target + b" HTTP/1.1\r\n" + HOST + headers +
                               b"Connection: close\r\n\r\n"))


def plan(front, **fields):
    asked = {name: value for name, value in request(**fields).items() if value is not None}
    return front.post("/v1/plan", asked).status


def big_plan(front, size):
    """Beyond the bound only the header goes out: the refusal comes before the body is read."""
    if size <= 32 * MIB:
        return front.post("/v1/plan", padded(size)).status
    return announced(front, b"/v1/plan", b"application/json", size)


def announced(front, path, kind, size):
    return status_of(front.raw(b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Type: " + kind +
                               b"\r\nContent-Length: %d\r\n\r\n" % size))


def nested(levels):
    return json.loads('{"x":' * levels + "1" + "}" * levels)


def parse(front, body):
    return front.post("/v1/prompt/parse", body).status


def padded(size):
    body = b'{"prompt":"a"}'
    return body + b" " * (size - len(body))


def chunked(front, chunks):
    body = padded(chunks)
    head = (b"POST /v1/prompt/parse HTTP/1.1\r\n" + HOST + b"Connection: close\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return status_of(front.raw(head + pieces + b"0\r\n\r\n"))


def png(width, height, size=0):
    """A PNG as far as the front looks: signature and header; padded to `size`."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 64)
    picture = (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) +
               struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data)) +
               b"\0\0\0\0IEND\xaeB`\x82")
    return picture + b"\0" * max(0, size - len(picture))


def upload(front, picture):
    return front.post("/v1/images", picture, headers={"Content-Type": "image/png"}).status


def form(front, parts):
    body = b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % i for i in range(parts - 1))
    body += b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + png(64, 64) + b"\r\n--b--\r\n"
    return front.post("/v1/images", body, headers={"Content-Type": "multipart/form-data; boundary=b"}).status


def part_header(front, size):
    line = b'Content-Disposition: form-data; name="image"\r\nX: '
    body = b"--b\r\n" + line + b"y" * (size - len(line) - 4) + b"\r\n\r\n" + png(64, 64) + b"\r\n--b--\r\n"
    return front.post("/v1/images", body, headers={"Content-Type": "multipart/form-data; boundary=b"}).status


def order(front, size):
    return front.post("/v1/jobs", request(), headers={"Idempotency-Key": "k" * size}).status


def headers_of(total):
    """Headers of `total` bytes in the guard's counting: name, value and four for each line."""
    others = len("Host") + len("localhost") + 4 + len("Connection") + len("close") + 4
    return b"X: " + b"y" * (total - others - 1 - 4) + b"\r\n"


# constant, what it does, its bound, (below, at, above)
WALK = [
    ("LD_TARGET_BYTES_MAX", lambda f, n: get(f, b"/healthz?" + b"a" * (n - 9)), 2048, (200, 200, 414)),
    ("LD_HEADER_COUNT_MAX", lambda f, n: get(f, headers=b"".join(b"X-%d: y\r\n" % i for i in range(n - 2))), 64,
     (200, 200, 431)),
    ("LD_HEADER_BLOCK_BYTES_MAX", lambda f, n: get(f, headers=headers_of(n)), 16384, (200, 200, 431)),
    ("LD_JSON_BODY_BYTES_MAX", lambda f, n: parse(f, padded(n)), 262144, (200, 200, 413)),
    ("LD_JSON_IMAGE_BODY_BYTES_MAX", big_plan, 32 * MIB, (200, 200, 413)),
    ("LD_BODY_CHUNKS_MAX", chunked, 4096, (200, 200, 413)),
    ("LD_JSON_DEPTH", lambda f, n: plan(f, user_data=nested(n - 1)), 16, (200, 200, 400)),
    ("LD_JSON_VALUES", lambda f, n: f.post("/v1/plan", {"prompt": "a", "user_data": {"x": [0] * (n - 4)}}).status, 1024,
     (200, 200, 400)),
    ("LD_PROMPT_BYTES_MAX", lambda f, n: plan(f, prompt="x" * n), 16384, (200, 200, 422)),
    ("LD_PROMPT_BYTES_MAX", lambda f, n: plan(f, negative_prompt="\u00e9" * (n // 2) + "x" * (n % 2)), 16384,
     (200, 200, 422)),
    ("LD_USER_DATA_BYTES_MAX", lambda f, n: plan(f, user_data={"x": "y" * (n - 8)}), 4096, (200, 200, 422)),
    ("LD_TAG_BYTES_MAX", lambda f, n: plan(f, tag="t" * n), 256, (200, 200, 422)),
    ("LD_STEPS_MAX", lambda f, n: plan(f, steps=n), 150, (200, 200, 422)),
    ("LD_STEPS_MIN", lambda f, n: plan(f, steps=n), 1, (422, 200, 200)),
    ("LD_IMAGES_MAX", lambda f, n: plan(f, images=n), 16, (200, 200, 422)),
    ("LD_CFG_SCALE_MAX", lambda f, n: plan(f, cfg_scale=n), 30, (200, 200, 422)),
    ("LD_CLIP_SKIP_MAX", lambda f, n: plan(f, clip_skip=n), 12, (200, 200, 422)),
    ("LD_SIDE_MIN", lambda f, n: plan(f, width=n * 8), 8, (422, 200, 200)),
    ("LD_SIDE_MAX", lambda f, n: plan(f, width=n * 8, height=64), 512, (200, 200, 422)),
    ("LD_SIDE_STEP", lambda f, n: plan(f, width=64 + n), 8, (422, 200, 422)),
    ("LD_AREA_DEFAULT", lambda f, n: plan(f, width=1600, height=n * 8, steps=1), 250, (200, 200, 422)),
    ("LD_WORK_DEFAULT", lambda f, n: plan(f, width=1024, height=1024, steps=n, images=4), 117, (200, 200, 422)),
    ("LD_SIGMAS_MAX", lambda f, n: plan(f, sigmas=[float(n - i) for i in range(n)], steps=None), 151, (200, 200, 422)),
    ("LD_SIGMAS_MIN", lambda f, n: plan(f, sigmas=[float(n - i) for i in range(n)], steps=None), 2, (422, 200, 200)),
    ("LD_PRIORITY_DEFAULT", lambda f, n: plan(f, priority=n), 5, (200, 200, 403)),
    ("LD_UPLOAD_BYTES_MAX", lambda f, n: upload(f, png(64, 64, n)), 32 * MIB, (201, 201, 413)),
    ("LD_AREA_MAX", lambda f, n: upload(f, png(n, 4096)), 4096, (201, 201, 413)),
    ("LD_MULTIPART_PARTS_MAX", form, 4, (201, 201, 413)),
    ("LD_MULTIPART_HEADER_BYTES_MAX", part_header, 1024, (201, 201, 413)),
    ("idempotency key", order, 255, (202, 202, 400)),
    ("list limit", lambda f, n: f.get(f"/v1/jobs?limit={n}").status, 100, (200, 200, 422)),
    ("list limit", lambda f, n: f.get(f"/v1/jobs?limit={n}").status, 1, (422, 200, 200)),
]


class Ended(threading.Thread):
    """Says what on a connection, then notes when the server closes it, and by how much a short sleep
    was late meanwhile: the machine's own lateness is not the server's."""

    def __init__(self, front, first):
        super().__init__()
        self.front, self.first, self.seconds, self.late = front, first, None, 0
        self.start()
        threading.Thread(target=self.watch_the_machine, daemon=True).start()

    def watch_the_machine(self):
        while self.seconds is None:
            began = time.monotonic()
            time.sleep(0.05)
            self.late = max(self.late, time.monotonic() - began - 0.05)

    def run(self):
        with socket.create_connection(("127.0.0.1", self.front.port)) as connection:
            connection.settimeout(60)
            connection.sendall(self.first)
            began = time.monotonic()
            try:
                while connection.recv(4096):
                    began = time.monotonic()
            except ConnectionResetError:
                pass
            self.seconds = time.monotonic() - began

    def within(self, least, most):
        """Three threads of the server and one of the test have to wake for it."""
        self.join(60)
        return least <= self.seconds <= most + 4 * self.late


@pytest.fixture(scope="module")
def idle(front):
    """A connection that has done its request and rests from now on."""
    return Ended(front, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")


@pytest.fixture(scope="module")
def steady(front):
    """A body that comes fast, all but its end: no rate is missed, only the deadline."""
    return Ended(front, b"POST /v1/prompt/parse HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
                 b"Content-Length: 262144\r\n\r\n" + b" " * 262000)


@pytest.mark.parametrize("constant, ask, bound, statuses", WALK, ids=[f"{row[0]}-{row[2]}" for row in WALK])
def test_one_below_at_and_one_above(front, idle, steady, constant, ask, bound, statuses):
    found = tuple(ask(front, bound + step) for step in (-1, 0, 1))
    assert found == statuses


def test_what_is_taken_in_also_runs(front):
    """LD_JSON_CANONICAL_VALUES: a request of as many values as may be is longer once its defaults are
    said, and its worker still takes it."""
    answer = front.post("/v1/jobs?wait=20", {"prompt": "a", "width": 64, "height": 64, "steps": 1,
                                             "user_data": {"x": [0] * (1024 - 7)}})
    assert answer.status == 200 and answer.json["status"] == "succeeded", answer


def test_bodies_in_memory_at_once(serve):
    """LD_BODIES_BYTES_MAX: eight announced bodies of 32 MiB fill it; the next is refused unread. On a
    server of its own: any other body that is on its way takes of the same memory."""
    front = serve()

    def announce(length):
        connection = socket.create_connection(("127.0.0.1", front.port))
        connection.sendall(b"POST /v1/plan HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n{" % length)
        return connection

    held = [announce(32 * MIB) for _ in range(7)]
    time.sleep(0.3)
    assert parse(front, {"prompt": "a"}) == 200  # one below
    deadline = time.monotonic() + 5
    refused = None
    while not refused or refused.status == 200:  # the eighth is refused itself beside what is being answered
        assert time.monotonic() < deadline, "eight bodies of 32 MiB and one more were all taken"
        held.append(announce(32 * MIB))
        time.sleep(0.2)
        refused = front.post("/v1/prompt/parse", {"prompt": "a"})
    assert refused.status == 503 and "Retry-After" in refused.headers
    assert front.get("/healthz").status == 200
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 5
    while parse(front, {"prompt": "a"}) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_requests_of_one_connection(front):
    """LD_REQUESTS_PER_CONNECTION_MAX"""
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    ends = []
    for _ in range(1000):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        ends.append(answer.getheader("Connection"))
    assert ends[998] != "close" and ends[999] == "close"


def test_event_streams_of_one_key(serve):
    """LD_EVENT_STREAMS_PER_KEY_MAX"""
    front = serve()
    streams = []
    for number in range(9):
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
        connection.request("GET", "/v1/events")
        answer = connection.getresponse()
        streams.append((connection, answer.status))
        assert answer.status == (200 if number < 8 else 429), number
    for connection, _ in streams:
        connection.close()


def test_waiting_jobs_of_one_key(serve):
    """LD_QUEUED_PER_KEY_MAX: one runs, 200 wait."""
    front = serve("step_ms=3000", "--worker-jobs", "1", "--server-drain-s", "1")
    first = front.submit(steps=10)
    front.wait(first, ("running",))
    statuses = [front.post("/v1/jobs", request()).status for _ in range(201)]
    assert statuses == [202] * 200 + [429]
    front.post(f"/v1/jobs/{first}/cancel")


def test_calls_in_flight_of_one_key(serve, latentd, tmp_path):
    """LD_REQUESTS_PER_KEY_MAX: sixteen calls wait, the next is refused, another key's is not."""
    key, other = add(latentd, tmp_path, "a"), add(latentd, tmp_path, "b")
    front = serve("step_ms=100", "--server-drain-s", "1")
    waiting = []

    def wait():
        waiting.append(front.post("/v1/jobs?wait=20", request(steps=25), headers=bearer(key)).status)

    def calls(count):
        threads = [threading.Thread(target=wait) for _ in range(count)]
        for thread in threads:
            thread.start()
        time.sleep(0.6)
        return threads

    threads = calls(15)
    assert front.get("/v1/jobs", headers=bearer(key)).status == 200  # the sixteenth
    threads += calls(1)
    refused = front.get("/v1/jobs", headers=bearer(key))
    assert refused.status == 429 and refused.headers["Retry-After"] == "1"
    assert front.get("/v1/jobs", headers=bearer(other)).status == 200
    for thread in threads:
        thread.join(30)
    assert waiting == [200] * 16
    assert front.get("/v1/jobs", headers=bearer(key)).status == 200


def stays(front):
    """A connection that is still open after half a second: it holds a place (the one before it may
    take a moment to give its own back)."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection = socket.create_connection(("127.0.0.1", front.port))
        connection.settimeout(0.5)
        try:
            assert connection.recv(1) == b""
        except TimeoutError:
            return connection
        except OSError:
            pass
        connection.close()
    raise AssertionError("no place for another connection")


def test_connections_in_all(serve):
    """LD_CONNECTIONS_MAX, lowered by its setting; that of one address: test_limits.py."""
    front = serve("", "--server-connections", "12")
    held = [socket.create_connection(("127.0.0.1", front.port)) for _ in range(11)]
    assert front.get("/healthz").status == 200
    held.append(stays(front))
    with pytest.raises(OSError):
        front.get("/healthz")
    for connection in held:
        connection.close()


def test_a_body_ends_at_its_deadline(steady):
    """LD_BODY_DEADLINE_S"""
    assert steady.within(14, 18)


def test_an_idle_connection_is_closed(idle):
    """LD_KEEP_ALIVE_S_MAX"""
    assert idle.within(29, 33)


# Constants that this walk does not meet: where they are proven, or why no request can.
ELSEWHERE = {
    "LD_CONNECTIONS_PER_ADDRESS_MAX": "tests/api/test_limits.py", "LD_HEADER_DEADLINE_S": "tests/api/test_limits.py",
    "LD_UPLOAD_RATE_BYTES_MIN": "tests/api/test_limits.py", "LD_UPLOAD_RATE_GRACE_S": "tests/api/test_limits.py",
    "LD_UPLOAD_DEADLINE_S": "the same code as LD_BODY_DEADLINE_S", "LD_REPLY_DEADLINE_S": "the same sweeper",
    "LD_EVENT_DEADLINE_S": "the same sweeper", "LD_WAIT_S_MAX": "tests/unit/test_settings.c",
    "LD_DIALECT_WAIT_S_MAX": "an hour", "LD_MULTIPART_FORM_PARTS_MAX": "tests/api/test_openai.py",
    "LD_JSON_CANONICAL_VALUES": "tests/api/test_bounds.py", "LD_JSON_IMAGES_MAX": "a native request has room for two", "LD_JSON_GRAPH_VALUES": "the graph dialect",
    "LD_PNG_TEXT_CHUNKS_MAX": "tests/unit/test_png.c", "LD_PNG_TEXT_BYTES_MAX": "tests/unit/test_png.c",
    "LD_PROMPT_CHUNKS_MAX": "tests/unit/test_prompt.c", "LD_PROMPT_NESTING_MAX": "tests/unit/test_grammar.c",
    "LD_PROMPT_EXPANSION_BYTES_MAX": "tests/unit/test_wildcards.c", "LD_NAME_BYTES_MAX": "tests/unit/test_params.c",
    "LD_SIDE_STEP_ADVISED": "a warning", "LD_LORAS_MAX": "tests/unit/test_fields.c",
    "LD_LORA_WEIGHT_MAX": "tests/unit/test_fields.c", "LD_WORK_UNIT_PIXELS": "a unit",
    "LD_WORK_MAX": "tests/unit/test_auth.c", "LD_SWEEP_CELLS_MAX": "tests/api/test_sweeps.py",
    "LD_SWEEP_BYTES_MAX": "tests/unit/test_fields.c", "LD_WARNINGS_MAX": "cut, not refused",
    "LD_PROBLEM_ITEMS_MAX": "cut, not refused", "LD_QUEUED_MAX": "tests/api/test_flood.py",
    "LD_RUNNING_PER_KEY_MAX": "tests/unit/test_fair.c", "LD_MEGAPIXEL_STEPS_PER_DAY_MAX": "tests/api/test_isolation.py",
    "LD_PRIORITY_MAX": "tests/unit/test_auth.c", "LD_EVENTS_KEPT_PER_JOB": "tests/unit/test_store.c",
    "LD_RETENTION_DAYS_DEFAULT": "tests/unit/test_store.c", "LD_RETENTION_DAYS_MAX": "tests/unit/test_settings.c",
    "LD_RESULT_BYTES_PER_KEY_MAX": "tests/unit/test_store.c", "LD_ATTEMPTS_MAX": "tests/unit/test_store.c",
    "LD_LEASE_S": "tests/api/test_workers.py", "LD_HEARTBEAT_S": "tests/api/test_workers.py",
    "LD_FRAME_BYTES_MAX": "tests/unit/test_frame.c", "LD_FRAMES_IN_FLIGHT_MAX": "tests/unit/test_frame.c",
    "LD_LOG_LINE_BYTES_MAX": "tests/unit/test_log.c",
    "LD_WEBHOOK_URL_BYTES": "tests/unit/test_webhook.c",
    "LD_SAFETENSORS_HEADER_BYTES_MAX": "tests/unit/test_safetensors.c",
    "LD_SAFETENSORS_TENSORS_MAX": "tests/unit/test_safetensors.c", "LD_SAFETENSORS_FILE_BYTES_MAX": "16 GiB on disk",
    "LD_ADAPTER_RANK_MAX": "tests/unit/test_adapter.c",
    "LD_ARENA_PROCESS_BYTES": "memory", "LD_ARENA_CONNECTION_BYTES": "memory", "LD_ARENA_REQUEST_BYTES": "memory",
    "LD_ARENA_JOB_BYTES": "memory",
}


def test_every_limit_is_walked_or_says_where():
    text = (ROOT / "config/limits.h").read_text()
    constants = set(re.findall(r"^(?:    |#define )(LD_[A-Z0-9_]+)(?: =| \(?INT64)", text, re.M))
    here = pathlib.Path(__file__).read_text()
    walked = {row[0] for row in WALK} | set(re.findall(r'"""(LD_[A-Z0-9_]+)', here))
    assert len(constants) > 60
    missing = constants - walked - set(ELSEWHERE)
    assert not missing, f"nothing proves {sorted(missing)}"
    for constant, place in ELSEWHERE.items():
        assert constant in constants or constant in text, f"{constant} is gone"
        if place.startswith("tests/"):
            assert (ROOT / place).exists(), f"{constant}: {place} is gone"
