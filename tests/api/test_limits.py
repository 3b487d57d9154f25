"""Proves that nothing is read far beyond its limit and that each limit answers with its own status.
Sends requests just at and beyond the bounds over raw sockets."""

import json
import time

from front import request

HOST = b"Host: localhost\r\n"


def status_of(raw):
    return int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.1 ") else None


def test_targets_headers_and_their_number(front):
    def get(target=b"/healthz", headers=b""):
        return status_of(front.raw(b"GET " + target + b" HTTP/1.1\r\n" + HOST + headers +
                                   b"Connection: close\r\n\r\n"))

    assert get(b"/healthz?" + b"a" * (2048 - 9)) == 200
    assert get(b"/healthz?" + b"a" * (2048 - 8)) == 414
    assert get(b"/" + b"a" * 100000) in (414, 431)
    few = b"".join(b"X-%d: y\r\n" % i for i in range(62))
    assert get(headers=few) == 200
    assert get(headers=few + b"X-a: y\r\n") == 431
    assert get(headers=b"X-Long: " + b"y" * 15000 + b"\r\n") == 200
    assert get(headers=b"X-Long: " + b"y" * 16500 + b"\r\n") == 431
    assert get(headers=b"X-Long: " + b"y" * 200000 + b"\r\n") in (431, None)
    assert front.get("/healthz").status == 200


def test_bodies_are_refused_before_they_are_read(front):
    def post(path, length, body=b"", kind=b"application/json"):
        return status_of(front.raw(
            b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Type: " + kind +
            b"\r\nContent-Length: " + str(length).encode() + b"\r\n\r\n" + body))

    began = time.monotonic()
    assert post(b"/v1/jobs", 10**15) == 413
    assert post(b"/v1/jobs", 32 * 1024 * 1024 + 1) == 413
    assert post(b"/v1/prompt/parse", 256 * 1024 + 1) == 413
    assert post(b"/v1/images", 33 * 1024 * 1024, kind=b"image/png") == 413
    assert post(b"/v1/jobs", 2**64) == 400 or post(b"/v1/jobs", 2**64) == 413
    assert time.monotonic() - began < 3


def test_chunked_bodies_meet_the_same_limits(front):
    head = (b"POST /v1/prompt/parse HTTP/1.1\r\n" + HOST +
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = json.dumps({"prompt": "a"}).encode()
    fine = front.raw(head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n", timeout=2)
    assert status_of(fine) == 200
    long = front.raw(head + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 6)
    assert status_of(long) in (413, None)
    flood = front.raw(head + b"1\r\n \r\n" * 5000)
    assert status_of(flood) in (413, None) and status_of(flood) != 200
    assert front.get("/healthz").status == 200


def test_json_bounds(front):
    deep = b'{"prompt":' + b"[" * 1000 + b"]" * 1000 + b"}"
    for body in (deep, b'{"a":' * 100000, b"{" + b",".join(b'"k%d":1' % i for i in range(20000)) + b"}",
                 b'{"steps":' + b"1" * 1000000 + b"}", b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}',
                 b'{"prompt":"a","prompt":"b"}', b'{"cfg_scale":NaN}', b'{"cfg_scale":1e999}',
                 b'{"prompt":"a"} {}', b"", b"\xef\xbb\xbf{}", b'{"prompt":"a",}'):
        began = time.monotonic()
        answer = front.post("/v1/jobs", body)
        assert answer.status in (400, 422), (body[:40], answer)
        assert time.monotonic() - began < 1
    assert front.post("/v1/jobs", {"prompt": "a", "seed": 2**63}).status in (202, 400, 422)


def test_work_and_area_limits(front):
    assert front.post("/v1/plan", request(width=2048, height=2048)).status == 422
    big = {"width": 1024, "height": 1536, "steps": 28}  # 384 * 28 units a picture, 120,000 in all
    assert front.post("/v1/plan", request(**big, images=12)).status == 422
    assert front.post("/v1/plan", request(**big, images=11)).status == 200
    assert front.post("/v1/plan", request(prompt="x" * 16385)).status == 422


def test_slow_clients_are_cut_at_the_deadline(front):
    import socket

    with socket.create_connection(("127.0.0.1", front.port)) as slow, \
            socket.create_connection(("127.0.0.1", front.port)) as silent, \
            socket.create_connection(("127.0.0.1", front.port)) as trickle:
        trickle.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 200000\r\n\r\n{")
        trickle.settimeout(0.01)
        trickled = None
        began = time.monotonic()
        slow.settimeout(0.5)
        closed = None
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        while closed is None and time.monotonic() - began < 14:
            try:
                trickle.sendall(b" ")
                if trickle.recv(1000) == b"" and trickled is None:
                    trickled = time.monotonic() - began
            except socket.timeout:
                pass
            except OSError:
                trickled = trickled or time.monotonic() - began
            try:
                slow.sendall(b"a")
                if slow.recv(1000) == b"":
                    closed = time.monotonic() - began
            except socket.timeout:
                pass
            except OSError:
                closed = time.monotonic() - began
        assert closed is not None and 9 <= closed <= 11.5
        assert trickled is not None and 4.5 <= trickled <= 7  # below 16 KiB/s after 5 s
        silent.settimeout(3)
        assert silent.recv(10) == b""
    assert front.get("/healthz").status == 200


def test_one_address_has_a_bounded_number_of_connections(serve):
    import socket

    front = serve("", "--server-connections-per-address", "20")
    held = [socket.create_connection(("127.0.0.1", front.port)) for _ in range(20)]
    time.sleep(0.3)
    refused = 0
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", front.port), 2) as extra:
            extra.settimeout(2)
            try:
                refused += extra.recv(10) == b""
            except ConnectionResetError:
                refused += 1
    assert refused == 5
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            assert front.get("/healthz").status == 200
            break
        except OSError:
            time.sleep(0.05)
