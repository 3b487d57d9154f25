"""Proves that the shipped proxy configuration works in front of the server: keys, pictures in a body
and sockets pass, and of requests that mean two things (those of test_smuggle.py, and what only a
proxy can see: bare line feeds, folded lines, NUL) the server never executes one that the proxy did
not forward. Needs nginx (Debian: nginx-light), which is not among the packages of the tests."""

import base64
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from front import Front, request
from test_keys import add, bearer
from test_smuggle import CASES, HIDDEN, head

ROOT = pathlib.Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)")

# What libmicrohttpd of Debian 12 takes without showing it (robustness.md 3, HTTP).
PROXY_ONLY = {
    "bare line feeds": head(b"Content-Length: 0").replace(b"\r\n", b"\n"),
    "one bare line feed": head(b"X-A: b\nContent-Length: " + str(len(HIDDEN)).encode(), b"Content-Length: 0"),
    "folded line": head(b"X-A: b", b" Content-Length: 5", b"Content-Length: 0"),
    "folded encoding": head(b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n",
    "nul in a value": head(b"X-A: a\0b", b"Content-Length: 0"),
    "nul in a name": head(b"X\0A: b", b"Content-Length: 0"),
}


class Proxied(Front):
    """The front on its UNIX socket; `port` is the proxy's, and so are all calls."""

    def start(self, ready=True):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        place = self.folder / "latentd.sock"
        self.log_path = self.folder / "front.log"
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [self.latentd, "serve", "--unix-socket", str(place), "--state-dir", str(self.folder / "state"),
             "--server-behind-proxy", "--script", self.script, *self.flags],
            stdout=subprocess.PIPE, stderr=self.log)
        self.process.stdout.readline()
        self.access = self.folder / "access.log"
        self.nginx = subprocess.Popen([NGINX, "-c", str(self.configure(place)), "-g", "daemon off;",
                                       "-p", str(self.folder)], stdout=open(self.folder / "nginx.log", "ab"),
                                      stderr=subprocess.STDOUT)
        self.wait_ready()

    def configure(self, place):
        """The shipped file with folders, port and TLS of a test."""
        text = (ROOT / "deploy/nginx.conf").read_text()
        text = text.replace("/run/latentd-proxy", str(self.folder)).replace("/run/latentd/latentd.sock", str(place))
        text = text.replace("access_log /dev/stdout", f"access_log {self.access}")
        text = re.sub(r"    server \{\n        listen 80;.*?\n    \}\n", "", text, flags=re.S)
        text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{self.port};")
        text = re.sub(r"^ *(listen \[|ssl_).*\n", "", text, flags=re.M)
        # Everything that only sees a request is as shipped.
        place = self.folder / "nginx.conf"
        place.write_text(("user root;\n" if os.geteuid() == 0 else "") + text)
        return place

    def stop(self, seconds=30):
        if self.nginx.poll() is None:
            self.nginx.send_signal(signal.SIGTERM)
            self.nginx.wait(10)
        return super().stop(seconds)

    def forwarded(self):
        """Submits that the proxy knows to have led to a job."""
        return len(re.findall(r'"POST /v1/jobs" 202 ', self.access.read_text()))


@pytest.fixture(scope="module")
def proxied(latentd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxied")
    key = add(latentd, folder, "anna")
    front = Proxied(latentd, folder, "")
    front.authorization = bearer(key)
    yield front
    assert front.stop() == 0


def test_keys_pass(proxied):
    assert proxied.get("/v1/jobs").status == 401
    assert proxied.get("/v1/jobs", headers=proxied.authorization).status == 200
    assert proxied.get("/metrics").status == 404


def test_pictures_in_bodies_pass(proxied):
    padding = base64.b64encode(b"x" * 600000).decode()
    for path in ("/v1/plan", "/sdapi/v1/img2img", "/ai/generate-image", "/prompt", "/api/prompt"):
        answer = proxied.post(path, {"prompt": "a", "init_image": padding}, headers=proxied.authorization)
        assert answer.status not in (405, 413), (path, answer)
        assert b"nginx" not in answer.body, path  # the server's own answer
    assert proxied.post("/v1/prompt/parse", b" " * 300000, headers=proxied.authorization).status == 413


def test_sockets_pass(proxied):
    head = (f"GET /ws?clientId=a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Authorization: {proxied.authorization['Authorization']}\r\n\r\n").encode()
    with socket.create_connection(("127.0.0.1", proxied.port), 10) as connection:
        connection.sendall(head)
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(4096)
            assert piece, received
            received += piece
        assert received.startswith(b"HTTP/1.1 101") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in received


def keyed(proxied, case):
    """Every request of a case carries the key: else none of them could do harm."""
    line = b"Authorization: " + proxied.authorization["Authorization"].encode() + b"\r\n"
    return re.sub(rb"(?i)(Host: [^\r\n]*\r?\n)", lambda found: found[1] + line, case)


def smuggled(proxied):
    count, cursor = 0, ""
    while True:
        page = proxied.get(f"/v1/jobs?limit=100{cursor}", headers=proxied.authorization).json
        count += sum(job["request"].get("tag") == "smuggled" for job in page["jobs"])
        if not page.get("next"):
            return count
        cursor = f"&cursor={page['next']}"


def test_nothing_runs_that_the_proxy_did_not_forward(proxied):
    cases, refused = {**CASES, **PROXY_ONLY}, 0
    for name, case in cases.items():
        answer = proxied.raw(keyed(proxied, case + HIDDEN), timeout=0.4)
        refused += answer.startswith(b"HTTP/1.1 4") and b"Connection: close" in answer
        ran, known = smuggled(proxied), proxied.forwarded()
        deadline = time.monotonic() + 2
        while ran > known and time.monotonic() < deadline:  # the line is written after the answer
            time.sleep(0.02)
            known = proxied.forwarded()
        assert ran <= known, name
    print(f"{len(cases)} cases, {refused} refused and closed by the proxy, the others taken apart the same way by both")
    assert proxied.get("/healthz").status == 200
    answer = proxied.post("/v1/jobs", request(tag="honest"), headers=proxied.authorization)
    assert answer.status == 202 and len(cases) >= 46
