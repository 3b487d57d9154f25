"""Proves that a checkpoint is read whole for its SHA-256 once, not at every start: where another digest was noted for the unchanged
file, that one is told; where the file has changed, its own."""

import hashlib
import json
import os
import shutil
import stat

import pytest

from conftest import Server

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


def told_by_server(latentd, model, folder):
    server = Server(latentd, model, folder)
    try:
        _, _, body = server.get("/v1/models")
        return next(each["sha256"] for each in json.loads(body)["data"] if each["name"] == "mine")
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

    def told(**more):
        generate("--model", str(model), env={**env, **more})
        return png((tmp_path / "out.png").read_bytes()).text["parameters"]

    assert f"Model hash: {true[:10]}" in told()
    forge(tmp_path / "cache/latentd/digests", model)
    assert f"Model hash: {FORGED[:10]}" in told()
    assert f"Model hash: {true[:10]}" in told(XDG_CACHE_HOME="relative", HOME="")  # nowhere to look: read again
    os.utime(model, (5, 5))
    assert f"Model hash: {true[:10]}" in told()


def test_a_cache_that_cannot_be_written_costs_no_picture(generate, model, tmp_path, png):
    (tmp_path / "cache").write_text("a file, not a folder")
    done = generate("--model", str(model), env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert "the digest cache cannot be written" in done.stderr
    assert "Model hash" in png((tmp_path / "out.png").read_bytes()).text["parameters"]
