"""Proves what a hostile caller costs: the memory that a connection takes while it sends a header block of
almost the limit, and time and memory of JSON made to be dear. Bounds are ratios to an ordinary refused
call of the same run, and bytes; the figures are printed."""

import json
import pathlib
import socket
import time

CONNECTIONS = 60  # of one address, below its limit
KIB = 1024


def resident(front):
    """Bytes of the front's memory that are its own."""
    for line in pathlib.Path(f"/proc/{front.process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no RssAnon")


def test_a_connection_with_a_full_header_takes_little(serve):
    front = serve()
    for _ in range(3):
        front.get("/v1/jobs")
    before, open_ones = resident(front), []
    head = b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(
        b"X-%02d: %s\r\n" % (i, b"x" * 480) for i in range(30))
    assert 14 * KIB < len(head) < 16 * KIB
    try:
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", front.port), 10)
            connection.sendall(head)  # never the blank line
            open_ones.append(connection)
        most, deadline = 0, time.monotonic() + 2
        while time.monotonic() < deadline:
            most = max(most, resident(front))
            time.sleep(0.05)
    finally:
        for connection in open_ones:
            connection.close()
    each = (most - before) / CONNECTIONS
    print(f"{CONNECTIONS} connections with {len(head)} bytes of header each: {each / KIB:.1f} KiB a connection")
    assert each < 128 * KIB  # the pool of a connection is 64 KiB
    assert front.get("/v1/jobs").status == 200


def dear():
    """Bodies that cost a careless reader much, each below the limit of bytes."""
    most = 250 * KIB
    yield "nested arrays", b"[" * most
    yield "nested objects", b'{"a":' * (most // 5)
    yield "empty objects", b"[" + b"{}," * (most // 3 - 1) + b"{}]"
    yield "many names", json.dumps({f"f{i}": 0 for i in range(20000)}).encode()[:-1] + b"}"
    yield "one name again and again", b"{" + b'"prompt":1,' * (most // 11 - 1) + b'"prompt":1}'
    yield "a long number", b'{"steps":' + b"9" * most + b"}"
    yield "a long exponent", b'{"cfg_scale":1e' + b"9" * most + b"}"
    yield "escapes", b'{"prompt":"' + b"\\u0041" * (most // 6) + b'"}'
    yield "half a surrogate", b'{"prompt":"' + b"\\ud800" * (most // 6) + b'"}'
    yield "an open string", b'{"prompt":"' + b"x" * most
    yield "blanks", b" " * most + b"7"
    yield "bytes that are no text", b'{"prompt":"' + b"\xff" * most + b'"}'


def took(front, body):
    began = time.perf_counter()
    answer = front.post("/v1/plan", body)
    return answer, time.perf_counter() - began


def test_dear_json_costs_no_more_than_its_bytes(serve):
    front = serve()
    plain = b'{"prompt":"' + b"x" * (200 * KIB) + b'"}'  # as many bytes, read and refused
    took(front, plain)
    before, worst = resident(front), 0
    for name, body in dear():
        times, usual = [], []
        for _ in range(8):  # turn and turn about, the least of each: the machine may be busy
            usual.append(took(front, plain)[1])
            answer, seconds = took(front, body)
            assert answer.status in (400, 413, 422), (name, answer)
            times.append(seconds)
        ratio = min(times) / min(usual)
        worst = max(worst, ratio)
        print(f"{name}: {ratio:.1f} times an ordinary body of that size")
        assert ratio < 25, name
    grown = resident(front) - before
    print(f"worst ratio {worst:.1f}; memory grown by {grown / KIB:.0f} KiB")
    assert grown < 16 * KIB * KIB
