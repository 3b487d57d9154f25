"""Shared fixtures: the program under test, a tiny checkpoint made for the run, and a server on an
ephemeral loopback port that is stopped by its own process id."""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
import zlib

import pytest

START_SECONDS = 60


def pytest_addoption(parser):
    parser.addoption("--latentd", required=True, help="path of the program")
    parser.addoption("--tools", required=True, help="folder with the test tools")


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_others(tmp_path_factory):
    """What the program keeps for later starts is this run's own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def latentd(request):
    return str(pathlib.Path(request.config.getoption("--latentd")).resolve())


@pytest.fixture(scope="session")
def tiny_model(request, tmp_path_factory):
    """A small checkpoint with random weights and a vocabulary of its own."""
    tool = pathlib.Path(request.config.getoption("--tools")).resolve() / "make_checkpoint"
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    subprocess.run([str(tool), "--tiny", str(path)], check=True, timeout=120)
    return path


class Png:
    """The few facts of a PNG that tests ask about, read without the library under test."""

    def __init__(self, data):
        assert data[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG"
        self.text, idat, at = {}, b"", 8
        while at < len(data):
            (length,) = struct.unpack(">I", data[at:at + 4])
            kind, body = data[at + 4:at + 8], data[at + 8:at + 8 + length]
            assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == \
                zlib.crc32(kind + body), "bad CRC"
            if kind == b"IHDR":
                self.width, self.height, self.depth, self.colour = struct.unpack(">IIBB", body[:10])
            elif kind == b"tEXt":
                key, value = body.split(b"\0", 1)
                self.text[key.decode("latin-1")] = value.decode("latin-1")
            elif kind == b"iTXt":
                key, rest = body.split(b"\0", 1)
                packed = rest[0]
                value = rest[2:].split(b"\0", 2)[2]
                self.text[key.decode("latin-1")] = \
                    (zlib.decompress(value) if packed else value).decode()
            elif kind == b"IDAT":
                idat += body
            at += 12 + length
        self.raw = zlib.decompress(idat)
        assert len(self.raw) == self.height * (self.width * 3 + 1)

    def pixels(self):
        """The 8-bit RGB bytes, row by row, with the row filters of the PNG specification (9.2)
        undone: what the rows store are differences, whose size says little about the picture."""
        row_bytes, out, above = self.width * 3, bytearray(), bytes(self.width * 3)
        for start in range(0, len(self.raw), row_bytes + 1):
            kind, row = self.raw[start], bytearray(self.raw[start + 1:start + 1 + row_bytes])
            for i in range(row_bytes):
                left, corner = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
                row[i] = (row[i] + predicted(kind, left, above[i], corner)) & 255
            out += row
            above = row
        return bytes(out)


def predicted(kind, left, above, corner):
    """What one row filter subtracts, by the names of the specification: None, Sub, Up, Average,
    Paeth."""
    if kind < 4:
        return (0, left, above, (left + above) // 2)[kind]
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))


@pytest.fixture(scope="session")
def png():
    return Png


@pytest.fixture
def generate(latentd, tiny_model, tmp_path):
    """generate(*flags) runs `latentd generate` on the tiny model at a small size and returns the
    finished process; the picture is tmp_path/out.png unless `-o` says otherwise, its seed is 1
    unless a flag says otherwise: no test hangs on chance. `bare` adds no size, steps and seed."""

    def run(*flags, check=True, timeout=120, bare=False, **options):
        command = [latentd, "generate", "--model", str(tiny_model)]
        if not bare and not any(flag in ("--size", "--width") for flag in flags):
            command += ["--size", "64x64"]
        if not bare and "--steps" not in flags and "--sigmas" not in flags:
            command += ["--steps", "4"]
        if not bare and "--seed" not in flags:
            command += ["--seed", "1"]
        if "-o" not in flags:
            command += ["-o", str(tmp_path / "out.png")]
        done = subprocess.run(command + list(flags), capture_output=True, text=True,
                              timeout=timeout, cwd=tmp_path, **options)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, latentd, model, folder, *flags):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(folder / "server.log", "ab")
        self.process = subprocess.Popen(
            [latentd, "serve", "--model", str(model), "--port", str(self.port),
             "--state-dir", str(folder / "state"), *flags], stderr=self.log, stdout=self.log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (folder / "server.log").read_text()
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("the server did not become ready: " +
                             (folder / "server.log").read_text()[-3000:])

    def call(self, method, path, body=None, headers=None, timeout=120):
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method, headers={
            **({"Content-Type": "application/json"} if data is not None else {}), **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, body, **options):
        return self.call("POST", path, body, **options)

    def worker_pids(self):
        """Processes whose command line says `worker` below this server (the spawner included)."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            children = []
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    children += task.read_text().split()
                except OSError:
                    continue
            for child in map(int, children):
                waiting.append(child)
                try:
                    words = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"worker" in words:
                    found.append(child)
        return found

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        self.log.close()
        return self.process.returncode


@pytest.fixture
def serve(latentd, tiny_model, tmp_path):
    """serve(*flags) starts a server on the tiny model; all are stopped at the end of the test."""
    running = []

    def start(*flags, model=tiny_model, folder=tmp_path):
        server = Server(latentd, model, folder, *flags)
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()
