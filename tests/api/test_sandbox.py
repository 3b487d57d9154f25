"""Proves that a running server and its workers are behind the seccomp filter, replaced workers too,
that the sender of webhooks is not and comes back after a death, that a setting switches it off, and
that the doctor says how it is. What the filter refuses: tests/unit/test_sandbox.c, by trying."""

import json
import os
import pathlib
import signal
import subprocess
import time

from test_webhook import hooked  # noqa: F401 (a fixture)


def state(pid):
    """(mode of seccomp, no_new_privs) of every thread of a process; 2 is a filter."""
    found = set()
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        found.add((lines["Seccomp"], lines["NoNewPrivs"]))
    return found


def outside():
    """What this very process has: a container may have a filter of its own."""
    return state("self")


def filters(pid):
    lines = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines.get("Seccomp_filters", 0))


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def test_all_threads_and_workers_are_behind_the_filter(serve):
    front = serve("", "--workers", "2")
    ours = filters("self")
    pids = [front.process.pid, *front.worker_pids()]
    assert len(pids) == 3
    for pid in pids:
        assert state(pid) == {("2", "1")}, pid
        assert filters(pid) == ours + 1
    os.kill(pids[1], signal.SIGKILL)
    front.wait(front.submit())
    deadline = time.monotonic() + 20
    new = set()
    while not new and time.monotonic() < deadline:
        time.sleep(0.02)
        new = set(front.worker_pids()) - set(pids)
    assert new and all(state(pid) == {("2", "1")} for pid in new)


def test_a_setting_switches_it_off(serve):
    front = serve("", env={"LATENTD_SERVER_SANDBOX": "false"})
    assert filters(front.process.pid) == filters("self")
    assert state(front.process.pid) == outside()
    front.wait(front.submit())


def test_the_senders_death_costs_only_what_waited(hooked):  # noqa: F811
    front, listener, url = hooked()
    assert state(front.process.pid) == {("2", "1")}
    keeper = next(pid for pid in front.worker_pids()
                  if b"webhook" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2])
    for calls in (1, 2):
        deadline = time.monotonic() + 15
        while not children(keeper) and time.monotonic() < deadline:
            time.sleep(0.05)
        (sender,) = children(keeper)
        assert filters(keeper) == filters(sender) == filters("self")
        front.wait(front.submit(webhook={"url": url}))
        listener.wait(calls)
        os.kill(sender, signal.SIGKILL)
        while sender in children(keeper):
            time.sleep(0.02)
    # With its front the keeper ends, and the sender with it.
    front.stop()
    deadline = time.monotonic() + 10
    while pathlib.Path(f"/proc/{keeper}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not pathlib.Path(f"/proc/{keeper}").exists()


def test_the_doctor_says_how_it_is(latentd, tmp_path):
    def say(**env):
        done = subprocess.run([latentd, "doctor", "--json", "--state-dir", str(tmp_path / "state")],
                              capture_output=True, text=True, timeout=60, env={**os.environ, **env})
        return str([check for check in json.loads(done.stdout)["checks"] if check["topic"] == "sandbox"])

    assert "no connection" in say()
    assert "server.sandbox is off" in say(LATENTD_SERVER_SANDBOX="false")
