"""Proves that a checkpoint is read whole for its SHA-256 once, not at every start (where another digest was noted for the unchanged
file, that one is told; where the file has changed, its own), and that nobody waits for the digests of large files that nobody uses."""

import hashlib
import json
import os
import shutil
import stat
import time

import pytest

from conftest import Server
from test_rescan import read_tensors, write_tensors

FORGED = "a" * 64


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copyfile(tiny_model, tmp_path / "mine.safetensors")


def forge(path, model):
    """Another digest for the model, under the key that the program wrote."""
    head, *lines = path.read_text().splitlines()
    digest, rest = lines[-1].split(" ", 1)
    assert digest == hashlib.sha256(model.read_bytes()).hexdigest() and rest.endswith(" " + str(model))
    path.write_text("\n".join([head, *lines[:-1], f"{FORGED} {rest}", ""]))


def told(server, name):
    """"" where it is not known."""
    return next(each.get("sha256", "") for each in json.loads(server.get("/v1/models")[2])["data"] if each["name"] == name)


def told_by_server(latentd, model, folder):
    server = Server(latentd, model, folder)
    try:
        return told(server, "mine")
    finally:
        server.stop()


def test_a_server_that_starts_again_reads_no_checkpoint_for_its_digest(latentd, model, tmp_path):
    true = hashlib.sha256(model.read_bytes()).hexdigest()
    digests = tmp_path / "state/digests"
    assert told_by_server(latentd, model, tmp_path) == true
    assert stat.S_IMODE(digests.stat().st_mode) == 0o600
    forge(digests, model)
    assert told_by_server(latentd, model, tmp_path) == FORGED
    os.utime(model, (5, 5))
    assert told_by_server(latentd, model, tmp_path) == true


def test_pictures_of_the_command_line_share_one_reading(latentd, generate, model, tmp_path, png):
    true = hashlib.sha256(model.read_bytes()).hexdigest()
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def written(**more):
        generate("--model", str(model), env={**env, **more})
        return png((tmp_path / "out.png").read_bytes()).text["parameters"]

    assert f"Model hash: {true[:10]}" in written()
    forge(tmp_path / "cache/latentd/digests", model)
    assert f"Model hash: {FORGED[:10]}" in written()
    assert f"Model hash: {true[:10]}" in written(XDG_CACHE_HOME="relative", HOME="")  # nowhere to look: read again
    os.utime(model, (5, 5))
    assert f"Model hash: {true[:10]}" in written()


def test_a_cache_that_cannot_be_written_costs_no_picture(generate, model, tmp_path, png):
    (tmp_path / "cache").write_text("a file, not a folder")
    done = generate("--model", str(model), env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert "the digest cache cannot be written" in done.stderr
    assert "Model hash" in png((tmp_path / "out.png").read_bytes()).text["parameters"]


def large(source, path):
    """The same checkpoint and 80 MiB that nothing reads: more than is hashed at once."""
    header, body = read_tensors(source)
    tensors = {name: (each["dtype"], each["shape"], body[slice(*each["data_offsets"])]) for name, each in header.items()
               if name != "__metadata__"}
    tensors["padding"] = ("F16", [40 << 20], bytes(80 << 20))
    write_tensors(path, tensors, header.get("__metadata__"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_large_files_are_hashed_when_nobody_wants_anything(latentd, tiny_model, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    small = shutil.copyfile(tiny_model, models / "small.safetensors")
    true = large(tiny_model, models / "large.safetensors")
    flags = ("--model-dir", str(models))
    server = Server(latentd, "small", tmp_path, *flags)
    try:
        assert told(server, "small") == hashlib.sha256(small.read_bytes()).hexdigest()
        assert told(server, "large") == ""
        # Somebody wants something: it stays unread.
        long = {"prompt": "cat", "size": "384x384", "steps": 150, "model": "small"}
        job = json.loads(server.post("/v1/jobs", long)[2])["id"]
        time.sleep(2.5)
        assert json.loads(server.get(f"/v1/jobs/{job}")[2])["status"] == "running"
        assert told(server, "large") == ""
        assert server.post(f"/v1/jobs/{job}/cancel", {})[0] in (200, 202)
        until = time.monotonic() + 30
        while told(server, "large") == "" and time.monotonic() < until:
            time.sleep(0.1)
        assert told(server, "large") == true
    finally:
        server.stop()
    server = Server(latentd, "small", tmp_path, *flags)
    try:
        assert told(server, "large") == true
    finally:
        server.stop()
