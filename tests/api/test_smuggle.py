"""Proves that ambiguous requests are refused with 400 and a closed connection, so that a second
request hidden behind them is never executed. Each case carries one that would create a job."""

import json
import pathlib
import re

import pytest

from front import request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODY = json.dumps(request(tag="smuggled")).encode()
HIDDEN = (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
          b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY)
LENGTH = str(len(HIDDEN)).encode()


def head(*lines, target=b"/v1/prompt/parse", method=b"POST"):
    return (method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\n" +
            b"Content-Type: application/json\r\n" + b"".join(line + b"\r\n" for line in lines) +
            b"\r\n")


CASES = {
    "two lengths, second zero": head(b"Content-Length: " + LENGTH, b"Content-Length: 0"),
    "two lengths, first zero": head(b"Content-Length: 0", b"Content-Length: " + LENGTH),
    "two equal lengths": head(b"Content-Length: 2", b"Content-Length: 2") + b"{}",
    "length and chunked": head(b"Content-Length: " + LENGTH, b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunked and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n",
    "unknown encoding": head(b"Transfer-Encoding: gzip"),
    "chunked twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "gzip, chunked": head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "chunked, identity": head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "xchunked": head(b"Transfer-Encoding: xchunked"),
    "chunked with a vertical tab": head(b"Transfer-Encoding: \x0bchunked"),
    "quoted chunked": head(b'Transfer-Encoding: "chunked"'),
    "blank before the colon": head(b"Content-Length : " + LENGTH),
    "tab before the colon": head(b"Content-Length\t: " + LENGTH),
    "blank in a name": head(b"X Y: 1", b"Content-Length: 0"),
    "control in a name": head(b"X\x01Y: 1", b"Content-Length: 0"),
    "control in a value": head(b"X-Y: a\x01b", b"Content-Length: 0"),
    "delete in a value": head(b"X-Y: a\x7fb", b"Content-Length: 0"),
    "escape in a value": head(b"X-Y: \x1b[31m", b"Content-Length: 0"),
    "two hosts": head(b"Host: example.org", b"Content-Length: 0"),
    "plus length": head(b"Content-Length: +" + LENGTH),
    "negative length": head(b"Content-Length: -1"),
    "hex length": head(b"Content-Length: 0x10"),
    "length list": head(b"Content-Length: 0, " + LENGTH),
    "length with a blank inside": head(b"Content-Length: 1 0"),
    "length with a fraction": head(b"Content-Length: 0.0"),
    "huge length": head(b"Content-Length: 99999999999999999999999999"),
    "bad escape": head(b"Content-Length: 0", target=b"/v1/%zz"),
    "cut escape": head(b"Content-Length: 0", target=b"/v1/%a"),
    "encoded slash": head(b"Content-Length: 0", target=b"/v1%2fjobs"),
    "encoded backslash": head(b"Content-Length: 0", target=b"/v1%5cjobs"),
    "encoded dots": head(b"Content-Length: 0", target=b"/v1/%2e%2e/jobs"),
    "encoded dot": head(b"Content-Length: 0", target=b"/v1/jobs%2e"),
    "encoded nul": head(b"Content-Length: 0", target=b"/v1/jobs%00"),
    "encoded nul in the query": head(b"Content-Length: 0", target=b"/v1/jobs?a=%00"),
    "encoded line feed": head(b"Content-Length: 0", target=b"/v1/jobs%0a"),
    "dot segments": head(b"Content-Length: 0", target=b"/v1/../v1/jobs"),
    "one dot": head(b"Content-Length: 0", target=b"/v1/./jobs"),
    "empty segment": head(b"Content-Length: 0", target=b"//v1/jobs"),
    "backslash": head(b"Content-Length: 0", target=b"/v1\\jobs"),
    "fragment": head(b"Content-Length: 0", target=b"/v1/jobs#x"),
    "absolute target": head(b"Content-Length: 0", target=b"http://localhost/v1/jobs"),
    "no slash": head(b"Content-Length: 0", target=b"v1/jobs"),
    "asterisk": head(b"Content-Length: 0", target=b"*"),
    "high byte in the target": head(b"Content-Length: 0", target=b"/v1/\xff"),
    "no host": HIDDEN.replace(b"Host: localhost\r\n", b"X-H: localhost\r\n"),
    "host with a path": HIDDEN.replace(b"Host: localhost", b"Host: localhost/x"),
    "host with credentials": HIDDEN.replace(b"Host: localhost", b"Host: a@localhost"),
    "empty host": HIDDEN.replace(b"Host: localhost", b"Host: "),
    "chunked with HTTP/1.0": head(b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "unknown version": HIDDEN.replace(b"HTTP/1.1", b"HTTP/1.9", 1),
    "unknown method": head(b"Content-Length: 0", method=b"SMUGGLE"),
    "lower-case method": head(b"Content-Length: 0", method=b"post"),
    "body of a call that has none": head(b"Content-Length: " + LENGTH, target=b"/v1/models", method=b"GET"),
}
assert len(CASES) >= 40


@pytest.mark.parametrize("name", CASES)
def test_refused_and_closed_and_nothing_hidden_runs(front, name):
    answer = front.raw(CASES[name] + HIDDEN, timeout=3)
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    # The library writes the header of its own refusals twice; a second answer would be another one.
    assert len(set(lines)) <= 1, lines
    for line in lines:
        assert int(line.split(b" ")[1]) in (400, 413, 414, 431, 501, 505), lines
    jobs = front.get("/v1/jobs").json["jobs"]
    assert not [job for job in jobs if job["request"].get("tag") == "smuggled"]


def test_pipelined_honest_requests_are_answered_in_order(front):
    two = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = front.raw(two + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 3 and answer.count(b'"name":"latentd"') == 2


def test_no_call_needs_its_body_to_be_there(front):
    """Every POST of the router's table, without a body and without a type: an answer, and the server lives."""
    table = "".join((ROOT / "server" / name).read_text() for name in ("routes.c", "routes_dialects.def"))
    targets = re.findall(r'\{"POST", "([^"]+)"', table)
    assert len(targets) > 40
    for target in targets:
        path = re.sub(r"\{[a-z]+\}", "0" * 26, target).encode()
        if path == b"/v1/admin/drain":
            continue  # does as it is told
        for lines in (b"", b"Content-Length: 0\r\n", b"Content-Type: \r\nContent-Length: 0\r\n"):
            answer = front.raw(b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines +
                               b"\r\n")
            assert answer.startswith(b"HTTP/1.1 "), (target, lines, answer)
            assert not answer.startswith(b"HTTP/1.1 500"), (target, lines, answer)
