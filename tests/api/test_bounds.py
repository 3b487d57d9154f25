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


def inputs(front, size):
    """A job that starts from a picture and a mask of that many bytes together, and whose worker gets them."""
    ids = [front.post("/v1/images", png(64, 64, part), headers={"Content-Type": "image/png"}).json["id"]
           for part in (31 * MIB, size - 31 * MIB)]
    return front.post("/v1/jobs?wait=30", request(init={"image": {"id": ids[0]}, "mask": {"id": ids[1]}})).status


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


def graph(front, values):
    """The type of the refusal of a body of that many JSON values, whose graph is empty."""
    answer = front.post("/prompt", {"prompt": {}, "extra_data": {"x": [0] * (values - 4)}})
    return answer.json["error"]["type"]


def big_form(front, parts):
    body = b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % i for i in range(parts))
    return front.post("/v1/images/edits", body + b"--b--\r\n",
                      headers={"Content-Type": "multipart/form-data; boundary=b"}).status


def sweep(front, cells):
    answer = front.post("/v1/jobs", request(sweep={"x": {"field": "seed", "values": list(range(cells))}}))
    if answer.status == 202:
        front.post(f"/v1/jobs/{answer.json['id']}/cancel")
    return answer.status


def named(front, size):
    detail = json.dumps(front.post("/v1/plan", request(model="m" * size)).json)
    return next((words for words in ("to 128 bytes", "there is no model") if words in detail), detail)


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
    ("LD_INPUTS_BYTES_MAX", inputs, 62 * MIB, (200, 200, 413)),
    ("LD_AREA_MAX", lambda f, n: upload(f, png(n, 4096)), 4096, (201, 201, 413)),
    ("LD_MULTIPART_PARTS_MAX", form, 4, (201, 201, 413)),
    ("LD_MULTIPART_HEADER_BYTES_MAX", part_header, 1024, (201, 201, 413)),
    ("LD_JSON_GRAPH_VALUES", graph, 8192, ("no_prompt", "no_prompt", "malformed")),
    ("LD_MULTIPART_FORM_PARTS_MAX", big_form, 40, (400, 400, 413)),
    ("LD_SWEEP_CELLS_MAX", sweep, 64, (202, 202, 422)),
    ("LD_NAME_BYTES_MAX", named, 128, ("there is no model", "there is no model", "to 128 bytes")),
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


class Dripping(Ended):
    """An upload above the least rate that never ends."""

    def run(self):
        with socket.create_connection(("127.0.0.1", self.front.port)) as connection:
            began = time.monotonic()
            try:
                connection.sendall(self.first)
                while time.monotonic() - began < 80:
                    connection.sendall(b" " * 25000)
                    time.sleep(1)
            except OSError:
                pass
            self.seconds = time.monotonic() - began


class Unread(Ended):
    """Asks, takes nothing of the answer, and notes when the server gives up. Buffers of both ends are
    small, so that little of it leaves; the state of the server's end is the kernel's own word."""

    def server_end(self, own):
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, here, there, state, queues, *_ = line.split()
            if there.endswith(f":{own:04X}") and here.endswith(f":{self.front.port:04X}"):
                return state, queues
        return None, None

    def run(self):
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            connection.connect(("127.0.0.1", self.front.port))
            connection.sendall(b"GET " + self.first + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            began = full = time.monotonic()
            queues = None
            while time.monotonic() - began < 90:
                state, now = self.server_end(connection.getsockname()[1])
                if state != "01":  # not established any more
                    break
                if now != queues:  # it still takes in
                    queues, full = now, time.monotonic()
                time.sleep(0.1)
            self.seconds = time.monotonic() - full


@pytest.fixture(scope="module")
def slow(front):
    """An upload that never ends, a reply and events that nobody takes: from now on, a minute."""
    found = {"upload": Dripping(front, b"POST /v1/images HTTP/1.1\r\n" + HOST + b"Content-Type: image/png\r\n"
                                b"Content-Length: 33554432\r\n\r\n" + png(64, 64) + b" " * 200000),
             "reply": Unread(front, b"/openapi.json"), "event": Unread(front, b"/v1/events")}
    for number in range(6):
        front.submit(steps=150, images=16, seed=number * 100, tag="step_ms=1")
    return found


@pytest.fixture(scope="module")
def steady(front):
    """A body that comes fast, all but its end: no rate is missed, only the deadline."""
    return Ended(front, b"POST /v1/prompt/parse HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
                 b"Content-Length: 262144\r\n\r\n" + b" " * 262000)


@pytest.mark.parametrize("constant, ask, bound, statuses", WALK, ids=[f"{row[0]}-{row[2]}" for row in WALK])
def test_one_below_at_and_one_above(front, slow, idle, steady, constant, ask, bound, statuses):
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
    deadline = time.monotonic() + 1.5  # a call that comes late is waited for, as long as all work
    while (refused := front.get("/v1/jobs", headers=bearer(key))).status == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
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


def test_an_upload_ends_at_its_deadline(slow):
    """LD_UPLOAD_DEADLINE_S"""
    assert slow["upload"].within(59, 63)


def test_a_reply_and_an_event_end_at_their_deadlines(slow):
    """LD_REPLY_DEADLINE_S, LD_EVENT_DEADLINE_S: from the moment that nothing more went out."""
    assert slow["reply"].within(58, 62)
    assert slow["event"].within(14, 18)


def test_an_idle_connection_is_closed(idle):
    """LD_KEEP_ALIVE_S_MAX"""
    assert idle.within(29, 33)


# Numbers that a lower room repeats because it may not know config/limits.h.
TWINS = {
    "LD_LOG_LINE_BYTES_MAX": ("runtime/base/log.h", r"LD_LOG_LINE_MAX = (\d+)"),
    "LD_SAFETENSORS_HEADER_BYTES_MAX": ("runtime/model/safetensors.h", r"LD_ST_HEADER_MAX = (\d+)"),
    "LD_SAFETENSORS_TENSORS_MAX": ("runtime/model/safetensors.h", r"LD_ST_TENSORS_MAX = (\d+)"),
}


def table_of_limits():
    """Rows of docs/robustness.md, "Limits": (constants, tests or a reason)."""
    text = (ROOT / "docs/robustness.md").read_text().split("## Limits\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return [(re.findall(r"`(\w+)`", constants), re.findall(r"`([^`]+)`", shown), shown.strip())
            for _, constants, shown in rows]


def test_every_limit_has_its_test():
    text = (ROOT / "config/limits.h").read_text()
    constants = set(re.findall(r"^(?:    |#define )(LD_[A-Z0-9_]+)(?: =| \(?INT64)", text, re.M))
    assert len(constants) > 60
    walked = {row[0] for row in WALK}
    named = {}
    for of_row, tests, shown in table_of_limits():
        assert tests or shown.startswith("nothing: "), of_row
        for name in of_row:
            named.setdefault(name, []).extend(tests)
            assert name in constants, f"{name} is gone"
        for test in tests:
            place, _, claim = test.partition("::")
            found = [path for path in (ROOT / "tests" / f"{place}.c", ROOT / "tests" / f"{place}.py") if path.exists()]
            assert found, f"{test}: there is no such file"
            if claim == "WALK":
                assert walked & set(of_row), f"{of_row}: none is in the walk"
            else:
                assert re.search(rf"(?:^def |^static void ){claim}\(", found[0].read_text(), re.M), f"{test} is gone"
    missing = constants - set(named)
    assert not missing, f"nothing proves {sorted(missing)}"
    for name in walked & constants:
        assert "api/test_bounds::WALK" in named[name], f"{name} is walked, and the table does not say so"


def test_numbers_said_twice_are_the_same():
    text = (ROOT / "config/limits.h").read_text()
    for name, (path, pattern) in TWINS.items():
        own = eval(re.search(rf"{name} = ([\d *]+)", text)[1])  # "4 * 1024"
        assert own == int(re.search(pattern, (ROOT / path).read_text())[1]), name
