"""Proves that a model file that is replaced while jobs run changes none of them: the server keeps what it
has opened, and the picture of the old file comes out whole."""

import hashlib
import json
import os
import shutil
import time

REQUEST = {"prompt": "cat", "width": 128, "height": 128, "steps": 40, "seed": 3}


def painted(server, seed):
    status, _, body = server.post("/v1/jobs?wait=100", {**REQUEST, "seed": seed})
    job = json.loads(body)
    assert status == 200 and job["status"] == "succeeded", body
    return job["images"][0]["sha256"]


def test_a_replaced_model_file_mixes_nothing(serve, tiny_model, tmp_path):
    own = tmp_path / "own.safetensors"
    shutil.copy(tiny_model, own)
    server = serve(model=own)
    before = [painted(server, seed) for seed in (3, 4)]
    _, _, body = server.post("/v1/jobs", {**REQUEST, "tag": "while"})
    running = json.loads(body)["id"]
    deadline = time.monotonic() + 60
    while json.loads(server.get(f"/v1/jobs/{running}")[2])["status"] != "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Another file of the same size under the name, as a careless copy would put it there.
    data = bytearray(own.read_bytes())
    data[-4096:] = os.urandom(4096)
    other = tmp_path / "other"
    other.write_bytes(data)
    os.replace(other, own)
    while True:
        job = json.loads(server.get(f"/v1/jobs/{running}")[2])
        if job["status"] not in ("queued", "running"):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert job["status"] == "succeeded" and job["images"][0]["sha256"] == before[0]
    assert painted(server, 4) == before[1], "what is loaded stays as it was"
    picture = server.get(job["images"][0]["url"])[2]
    assert hashlib.sha256(picture).hexdigest() == before[0]
