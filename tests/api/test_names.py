"""Proves that no name of a request opens a file: hostile names in every field that takes one are
refused, while the daemon's opens are watched with strace where it may trace."""

import itertools
import os
import shutil
import signal
import subprocess
import time

import pytest

from front import request

PARTS = ["..", "../..", "../../etc/passwd", "/etc/passwd", "..\\..\\etc\\passwd", "%2e%2e/etc/passwd",
         "....//etc/passwd", "etc/passwd\x00.safetensors", "~/x", "$HOME/x", "file:///etc/passwd",
         "/proc/self/environ", "/dev/zero", "con", "a/../../etc/passwd", "./../etc/passwd", ".",
         "", " ", "\u202e/etc/passwd", "\uff0e\uff0e/etc/passwd", "x" * 129, "\x7f", "a\nb", "a//b"]
PREFIXES = ["", "models/", "/", "a/", "scripted/", "ink/../"]
NAMES = sorted({prefix + part for prefix, part in itertools.product(PREFIXES, PARTS)})


def bodies():
    for name in NAMES:
        yield request(model=name), "model", name
        yield request(loras=[{"name": name}]), "loras", name
        yield request(vae=name), "vae", name
        yield request(init={"image": {"id": name}}), "init", name


def test_hostile_names_are_refused_and_open_nothing(serve, tmp_path):
    front = serve()
    trace = tmp_path / "opens.txt"
    tracer = None
    if shutil.which("strace"):
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o",
                                   str(trace), "-p", str(front.process.pid)],
                                  stderr=subprocess.DEVNULL)
        time.sleep(1)
        if tracer.poll() is not None:
            tracer = None  # not allowed to trace here
    count = 0
    for body, field, name in bodies():
        answer = front.post("/v1/plan", body)
        assert answer.status in (400, 422), (field, name, answer)
        count += 1
    assert count >= 500
    for target in ("/v1/resolutions?model=../../etc/passwd", "/v1/resolutions?model=%2fetc%2fpasswd"):
        assert front.get(target).status == 404
    if tracer:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        opened = [line for line in trace.read_text().splitlines() if "open" in line]
        assert not [line for line in opened if "passwd" in line or "/proc/self/environ" in line]
    else:
        pytest.skip("refusals were checked; strace is missing or may not trace here")


def test_the_front_holds_no_model_and_the_worker_no_network(serve):
    front = serve()
    front.wait(front.submit())
    front_pid, worker_pid = front.process.pid, front.worker_pid()
    maps = open(f"/proc/{front_pid}/maps").read()
    assert ".safetensors" not in maps and "libcuda" not in maps
    for fd in os.listdir(f"/proc/{front_pid}/fd"):
        try:
            assert "nvidia" not in os.readlink(f"/proc/{front_pid}/fd/{fd}")
        except FileNotFoundError:
            pass
    sockets = 0
    for fd in os.listdir(f"/proc/{worker_pid}/fd"):
        place = os.readlink(f"/proc/{worker_pid}/fd/{fd}")
        assert "jobs.db" not in place
        sockets += place.startswith("socket:")
    assert sockets == 1
