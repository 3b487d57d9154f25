"""Proves what the program refuses to start with, and that it says why in one sentence."""

import os
import socket
import subprocess

import pytest

from front import Front


def run(latentd, *args, env=None):
    return subprocess.run([latentd, *args], capture_output=True, text=True, timeout=20,
                          env={**os.environ, **(env or {})})


def test_help_and_version(latentd):
    assert "usage: latentd VERB" in run(latentd).stdout
    assert run(latentd, "--version").stdout.startswith("latentd ")
    help_text = run(latentd, "serve", "--help").stdout
    assert "--port" in help_text and "--state-dir" in help_text
    wrong = run(latentd, "sevre")
    assert wrong.returncode == 2 and "unknown verb" in wrong.stderr
    typo = run(latentd, "serve", "--prot", "1")
    assert typo.returncode == 2 and "--port" in typo.stderr


def test_settings_are_checked_and_printed(latentd, tmp_path):
    assert run(latentd, "serve", "--check-config").returncode == 0
    bad = run(latentd, "serve", "--check-config", "--port", "70000")
    assert bad.returncode != 0 and "65535" in bad.stderr
    config = tmp_path / "c.conf"
    config.write_text("[server]\nport = 1234\n")
    shown = run(latentd, "serve", "--print-config", "--config", str(config), "--bind", "localhost",
                env={"LATENTD_LOG_LEVEL": "warn"}).stdout
    assert "1234" in shown and "localhost" in shown and "warn" in shown
    config.write_text("[server]\nprot = 1234\n")
    typo = run(latentd, "serve", "--check-config", "--config", str(config))
    assert typo.returncode != 0 and "port" in typo.stderr


def test_beyond_loopback_is_refused(latentd, tmp_path):
    state = str(tmp_path / "state")
    anonymous = run(latentd, "serve", "--bind", "0.0.0.0", "--state-dir", state)
    assert anonymous.returncode == 78, anonymous
    no_proxy = run(latentd, "serve", "--bind", "0.0.0.0", "--allow-anonymous", "--state-dir", state)
    assert no_proxy.returncode == 78
    if os.geteuid() == 0:
        root = run(latentd, "serve", "--bind", "0.0.0.0", "--allow-anonymous", "--behind-proxy",
                   "--state-dir", state)
        assert root.returncode == 78 and "root" in root.stderr


def test_folders_writable_by_everyone_are_refused(latentd, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    models.chmod(0o777)
    refused = run(latentd, "serve", "--port", "0", "--model-dir", str(models), "--state-dir",
                  str(tmp_path / "state"))
    assert refused.returncode == 78 and "everyone" in refused.stderr
    state = tmp_path / "open"
    state.mkdir()
    state.chmod(0o777)
    refused = run(latentd, "serve", "--port", "0", "--state-dir", str(state))
    assert refused.returncode == 78 and "everyone" in refused.stderr


FOLDERS = {"model": "models.dir", "adapter": "models.adapter_dir", "embedding": "models.embedding_dir",
           "vae": "models.vae_dir", "controlnet": "models.controlnet_dir", "wildcard": "models.wildcard_dir",
           "manifest": "models.manifest_dir"}


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("checked", [False, True], ids=["start", "check"])
def test_a_folder_that_is_not_there_is_said_at_once(latentd, tmp_path, kind, checked):
    """Also by --check-config; an empty folder, or one that nobody named, is none of that."""
    def start(folder):
        return run(latentd, "serve", "--port", "0", "--state-dir", str(tmp_path / "state"), "--script", "",
                   f"--{kind}-dir", str(folder), *(["--check-config"] if checked else []))
    missing = tmp_path / "missing"
    refused = start(missing)
    assert refused.returncode == 78, refused
    assert refused.stderr.splitlines()[-1] == (f"latentd: {FOLDERS[kind]} (--{kind}-dir) names the folder "
                                               f"'{missing}', which does not exist")
    missing.write_text("a file")
    refused = start(missing)
    assert refused.returncode == 78 and refused.stderr.splitlines()[-1].endswith("which is not a folder")
    missing.unlink()
    missing.mkdir()
    if checked:
        assert start(missing).returncode == 0
    missing.chmod(0o777)
    refused = start(missing)
    assert refused.returncode == 78 and "everyone" in refused.stderr.splitlines()[-1]


def test_a_taken_port_is_said(latentd, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(latentd, "serve", "--port", port, "--state-dir", str(tmp_path / "s"), "--script", "")
    assert done.returncode == 1 and "is taken" in done.stderr and port in done.stderr


def test_one_server_a_state_folder(serve, latentd, tmp_path):
    serve()
    second = run(latentd, "serve", "--port", "0", "--state-dir", str(tmp_path / "state"), "--script", "")
    assert second.returncode == 1 and "another server" in second.stderr


def test_a_worker_is_not_for_people(latentd):
    assert run(latentd, "worker").returncode == 2


def test_a_unix_socket_serves(latentd, tmp_path):
    place = tmp_path / "s.sock"
    process = subprocess.Popen([latentd, "serve", "--unix-socket", str(place), "--state-dir",
                                str(tmp_path / "state"), "--script", ""], stdout=subprocess.PIPE)
    try:
        assert str(place) in process.stdout.readline().decode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(place))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()


def test_a_damaged_store_is_refused(latentd, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "jobs.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(AssertionError):
        Front(latentd, tmp_path)
    done = run(latentd, "serve", "--port", "0", "--state-dir", str(tmp_path / "state"), "--script", "")
    assert done.returncode == 1 and "damaged" in done.stderr
    assert str(tmp_path) not in done.stderr.splitlines()[-1]
