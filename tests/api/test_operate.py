"""Proves what operators are given beside the API: the doctor's findings, manual and completion made
from the program's own tables, and settings that are read again at SIGHUP."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest


def run(latentd, *arguments, **options):
    return subprocess.run([latentd, *arguments], capture_output=True, text=True, timeout=60, **options)


def test_the_doctor_finds_nothing_wrong_where_nothing_is(latentd, tmp_path):
    (tmp_path / "models").mkdir(mode=0o755)
    result = run(latentd, "doctor", "--json", "--state-dir", str(tmp_path / "state"), "--model-dir",
                 str(tmp_path / "models"), "--port", "0", "--backend", "cpu")
    told = json.loads(result.stdout)
    assert result.returncode == 0 and told["wrong"] == 0, told
    topics = {check["topic"] for check in told["checks"]}
    assert {"settings", "state", "disk", "models", "memory", "cpu", "gpu", "limits"} <= topics
    assert not (tmp_path / "state").exists(), "it changes nothing"


def test_the_doctor_names_what_is_wrong_and_what_to_do(latentd, tmp_path):
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(latentd, "doctor", "--state-dir", str(open_folder), "--model-dir",
                     str(tmp_path / "nowhere"), "--adapter-dir", str(open_folder), "--vocab",
                     str(tmp_path / "no-vocab"), "--port", str(port), "--backend", "cpu")
    assert result.returncode == 1
    text = result.stdout
    assert text.count("WRONG") >= 3
    for piece in ("can be written by everyone", "nowhere cannot be read", f"127.0.0.1:{port} is in use",
                  "get_clip_vocab.sh", "chmod o-w"):
        assert piece in text, text
    assert run(latentd, "doctor", "--bind", "0.0.0.0").returncode == 1
    assert run(latentd, "doctor", "--no-such-flag").returncode == 2


def test_the_doctor_sees_a_running_server(serve, latentd):
    front = serve()
    result = run(latentd, "doctor", "--json", "--state-dir", str(front.folder / "state"), "--port", str(front.port),
                 "--model-dir", str(front.folder), "--backend", "cpu")
    found = [check["found"] for check in json.loads(result.stdout)["checks"] if check["verdict"] == "note"]
    assert any("a server is running" in line for line in found), found
    assert any("is in use" in line for line in found), found


def verbs(latentd):
    return re.findall(r"^  ([a-z-]+) +\S", run(latentd, "--help").stdout, re.M)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_every_setting(latentd, shell):
    script = run(latentd, "completion", shell)
    assert script.returncode == 0
    for verb in verbs(latentd):
        assert re.search(rf"\b{verb}\b", script.stdout), verb
    options = re.findall(r"^  (--[a-z][a-z0-9-]*)", run(latentd, "serve", "--help").stdout, re.M)
    assert len(options) > 30
    for option in options:
        assert (option if shell != "fish" else option[2:]) in script.stdout, option
    assert run(latentd, "completion", "tcsh").returncode == 2


def test_bash_completes(latentd, tmp_path):
    script = tmp_path / "completion"
    script.write_text(run(latentd, "completion", "bash").stdout)
    ask = 'source "$0"; COMP_WORDS=(latentd %s); COMP_CWORD=%d; _latentd; printf "%%s\\n" "${COMPREPLY[@]}"'

    def complete(words, at):
        return subprocess.run(["bash", "-c", ask % (words, at), str(script)], capture_output=True, text=True,
                              check=True).stdout.split()

    assert complete("ser", 1) == ["serve"]
    assert "--port" in complete("serve --po", 2)
    assert complete("generate --step", 2) == ["--steps"]
    if shutil.which("zsh"):
        (tmp_path / "_latentd").write_text(run(latentd, "completion", "zsh").stdout)
        subprocess.run(["zsh", "-n", str(tmp_path / "_latentd")], check=True)


def test_the_manual_has_every_verb_and_every_setting(latentd):
    page = run(latentd, "man").stdout
    for verb in verbs(latentd):
        assert f".SH LATENTD {verb}\n" in page, verb
    settings = run(latentd, "man", "latentd.conf").stdout
    printed = run(latentd, "serve", "--print-config", "--state-dir", "/nowhere").stdout
    keys = re.findall(r"^;?([a-z_]+) =", printed, re.M)
    assert len(keys) > 30
    for key in keys:
        assert f".B {key}\n" in settings, key
    if shutil.which("man"):
        for text in (page, settings):
            shown = subprocess.run(["man", "--warnings=w", "-l", "-"], input=text, capture_output=True, text=True,
                                   env={**os.environ, "MANWIDTH": "100", "MANPAGER": "cat"})
            if shown.returncode == 0:  # a container without the formatter has nothing to check
                assert not shown.stderr.strip(), shown.stderr[:500]
                assert "latentd" in shown.stdout


def test_sighup_reads_settings_again_and_drops_nothing(serve, tmp_path):
    config = tmp_path / "latentd.conf"
    config.write_text("[limits]\nsteps_max = 10\n[log]\nlevel = info\n")
    front = serve("step_ms=20", "--config", str(config))
    running = front.submit(steps=10)
    assert front.post("/v1/jobs", {"prompt": "a", "width": 64, "height": 64, "steps": 11}).status == 422
    config.write_text("[limits]\nsteps_max = 20\n[worker]\njobs = 3\n")
    os.kill(front.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 5
    while "settings were read again" not in front.log_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert front.post("/v1/jobs", {"prompt": "a", "width": 64, "height": 64, "steps": 11}).status == 202
    assert "worker.jobs" in front.log_text(), "what needs a restart is named"
    assert front.wait(running)["status"] == "succeeded"
    config.write_text("[limits]\nsteps_max = many\n")
    os.kill(front.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 5
    while "settings were not read again" not in front.log_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert front.post("/v1/jobs", {"prompt": "a", "width": 64, "height": 64, "steps": 20}).status == 202
