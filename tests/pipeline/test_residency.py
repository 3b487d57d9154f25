"""Proves that models come and go by hand and by need, that their weights stay within the budget while
two of them alternate, that an adapter's variant never reaches another request, and that bad files and
texts fail their own job with one sentence and nothing else."""

import json
import pathlib
import shutil
import struct
import subprocess
import time

import pytest

SMALL = {"prompt": "cat", "size": "64x64", "steps": 2, "seed": 3, "cfg_scale": 2}


def key_of(latentd, folder, *flags):
    done = subprocess.run([latentd, "keys", "add", "boss", "--scopes", "read,generate,admin",
                           "--state-dir", str(folder / "state"), *flags], capture_output=True,
                          text=True, check=True, timeout=60)
    return done.stdout.split()[-1]


def paint(server, headers=None, wait=100, **fields):
    status, _, body = server.call("POST", f"/v1/jobs?wait={wait}", {**SMALL, **fields}, headers)
    assert status == 200, body
    job = json.loads(body)
    picture = None
    if job["status"] == "succeeded":
        picture = server.call("GET", job["images"][0]["url"], None, headers)[2]
    return job, picture


@pytest.fixture
def two_models(tiny_model, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("one", "two"):
        shutil.copy(tiny_model, folder / f"{name}.safetensors")
    with open(folder / "two.safetensors", "r+b") as file:  # other weights, the same shapes
        file.seek(-4096, 2)
        tail = file.read()
        file.seek(-4096, 2)
        file.write(bytes(len(tail)))
    return folder


def states(server, headers):
    models = json.loads(server.call("GET", "/v1/models", None, headers)[2])["data"]
    return {model["name"]: model["loaded"] for model in models}


def test_two_models_alternate_within_a_budget_for_one(serve, two_models, tmp_path, latentd):
    key = {"Authorization": "Bearer " + key_of(latentd, tmp_path)}
    bytes_one = (two_models / "one.safetensors").stat().st_size
    mib = bytes_one * 3 // 2 // (1 << 20) + 1
    assert 2 * bytes_one > mib << 20, "the budget holds one of them"
    server = serve("--model-dir", str(two_models), "--model-memory", str(mib), model="one")
    pictures = {}
    for turn in range(6):
        name = ("one", "two")[turn % 2]
        job, picture = paint(server, key, model=name)
        assert job["status"] == "succeeded", job
        assert pictures.setdefault(name, picture) == picture, "the same bytes after a reload"
        loaded = states(server, key)
        assert loaded == {"one": name == "one", "two": name == "two"}, (name, loaded)
    assert pictures["one"] != pictures["two"]


def test_models_are_loaded_and_unloaded_by_hand(serve, two_models, tmp_path, latentd):
    key = {"Authorization": "Bearer " + key_of(latentd, tmp_path)}
    server = serve("--model-dir", str(two_models), model="one")

    def call(name, verb, headers=key):
        status, _, body = server.call("POST", f"/v1/admin/models/{name}/{verb}", None, headers)
        return status, json.loads(body)

    assert states(server, key) == {"one": True, "two": False}
    status, told = call("two", "load")
    assert status == 200 and told["loaded"] is True, told
    assert {model["name"] for model in told["resident"]} == {"one", "two"}
    assert told["resident_bytes"] == sum(model["bytes"] for model in told["resident"])
    assert states(server, key) == {"one": True, "two": True}
    status, told = call("two", "unload")
    assert status == 200 and [model["name"] for model in told["resident"]] == ["one"]
    assert call("two", "unload")[0] == 404
    assert call("three", "load")[0] == 404 and call("%2e%2e", "load")[0] in (400, 404)
    # An unloaded default comes back with the next job, and one in use stays.
    assert call("one", "unload")[0] == 200
    assert paint(server, key, model="one")[0]["status"] == "succeeded"
    slow = {**SMALL, "model": "one", "steps": 150, "images": 16}
    job = json.loads(server.call("POST", "/v1/jobs", slow, key)[2])["id"]
    status, told = call("one", "unload")
    while status == 200:  # the job may not have begun
        status, told = call("one", "unload")
        if status == 404:
            status = 200
    assert status == 409 and "in use" in told["detail"], told
    server.call("POST", f"/v1/jobs/{job}/cancel", {}, key)
    # Only an administrator.
    assert call("one", "load", None)[0] in (401, 403)


def adapters(folder, tiny_model, tools):
    """Two low-rank adapters on the tiny model's attention, a damaged and a foreign one."""
    folder.mkdir()

    def write(name, tensors):
        header, data = {}, b""
        for key, (shape, values) in tensors.items():
            raw = struct.pack(f"<{len(values)}f", *values)
            header[key] = {"dtype": "F32", "shape": shape,
                           "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)

    with open(tiny_model, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        shapes = {name: entry["shape"] for name, entry in json.loads(file.read(size)).items()
                  if name != "__metadata__"}
    stem = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    rows, columns = shapes[stem + ".weight"]
    module = "lora_unet_" + stem[len("model.diffusion_model."):].replace(".", "_")
    for name, sign in (("plus", 1), ("minus", -1)):
        write(name, {f"{module}.lora_down.weight":
                     ([2, columns], [0.5 + i % 3 for i in range(2 * columns)]),
                     f"{module}.lora_up.weight":
                     ([rows, 2], [sign * (0.1 + i % 5 / 10) for i in range(rows * 2)])})
    write("dora", {f"{module}.lora_down.weight":
                   ([2, columns], [0.5 + i % 3 for i in range(2 * columns)]),
                   f"{module}.lora_up.weight": ([rows, 2], [0.1 + i % 5 / 10 for i in range(rows * 2)]),
                   f"{module}.dora_scale": ([rows, 1], [1.0] * rows)})
    write("sdxl", {"lora_unet_input_blocks_4_1_transformer_blocks_9_attn2_to_k.lora_down.weight":
                   ([4, 2048], [0.0] * 8192),
                   "lora_unet_input_blocks_4_1_transformer_blocks_9_attn2_to_k.lora_up.weight":
                   ([640, 4], [0.0] * 2560)})
    whole = (folder / "plus.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:len(whole) // 2])
    return folder


@pytest.fixture
def adapter_dir(tiny_model, tmp_path):
    return adapters(tmp_path / "adapters", tiny_model, None)


def test_two_adapters_alternate_fifty_times_and_nothing_leaks(serve, adapter_dir):
    server = serve("--adapter-dir", str(adapter_dir))
    plain = paint(server)[1]
    first = {}
    for turn in range(50):
        name = ("plus", "minus")[turn % 2]
        job, picture = paint(server, loras=[{"name": name}])
        (told,) = job["adapters"]
        assert (told["name"], told["tensors_applied"], told["tensors_unmatched"]) == (name, 1, 0)
        assert first.setdefault(name, picture) == picture, f"turn {turn}"
    assert len({plain, *first.values()}) == 3
    assert paint(server)[1] == plain
    # A budget of nothing keeps no variant, and changes nothing but time.
    again = pathlib.Path(adapter_dir).parent / "again"
    again.mkdir()
    other = serve("--adapter-dir", str(adapter_dir), "--models-variant-mib", "0", folder=again)
    for name in ("plus", "minus", "plus"):
        assert paint(other, loras=[{"name": name}])[1] == first[name]


def test_dora_takes_the_norm_that_is_asked_for(serve, adapter_dir, generate, png, tmp_path):
    server = serve("--adapter-dir", str(adapter_dir))
    dora, plain = {"loras": [{"name": "dora"}]}, {"loras": [{"name": "plus"}]}
    merged, (job, comfy) = paint(server, **dora)[1], paint(server, **dora, dora_norm="comfy")
    assert job["request"]["dora_norm"] == "comfy" and comfy != merged
    assert paint(server, **dora, dora_norm="merged")[1] == merged
    raw = [png(paint(server, **plain, **norm)[1]).raw for norm in ({}, {"dora_norm": "comfy"})]
    assert raw[0] == raw[1]  # an adapter without magnitudes has no norm to take
    generate("--prompt", "cat", "--seed", "3", "--steps", "2", "--cfg-scale", "2", "--size", "64x64",
             "--lora", "dora", "--dora-norm", "comfy", "--adapter-dir", str(adapter_dir), bare=True)
    assert (tmp_path / "out.png").read_bytes() == comfy


def test_bad_input_fails_its_own_job_with_one_sentence(serve, adapter_dir, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "self.txt").write_text("a __self__\n")
    (lists / "there.txt").write_text("__back__\n")
    (lists / "back.txt").write_text("{1$$__there__|__there__}\n")
    server = serve("--adapter-dir", str(adapter_dir), "--wildcard-dir", str(lists))
    plain = paint(server)[1]
    for fields, words in (
            ({"loras": [{"name": "sdxl"}]}, "sdxl"),
            ({"loras": [{"name": "cut"}]}, "cut"),
            ({"prompt": "__self__", "wildcards": True}, 'wildcard "self" leads to itself'),
            ({"negative_prompt": "__there__", "wildcards": True}, "leads to itself"),
            ({"init": {"image": {"base64": "AAAA"}}}, "not a PNG")):
        # Beside it a good job, which must not notice.
        beside = json.loads(server.post("/v1/jobs", {**SMALL, "steps": 4})[2])["id"]
        status, _, body = server.post("/v1/jobs?wait=100", {**SMALL, **fields})
        told = json.loads(body)
        detail = told["error"]["detail"] if status == 200 and "error" in told else \
            told.get("detail", "")
        assert (status == 422 or told.get("status") == "failed"), (fields, told)
        assert words in detail and "\n" not in detail and len(detail) < 400, (fields, detail)
        assert paint(server)[1] == plain, fields
        for _ in range(400):
            job = json.loads(server.get(f"/v1/jobs/{beside}")[2])
            if job["status"] not in ("queued", "running"):
                break
            time.sleep(0.05)
        assert job["status"] == "succeeded", job
    assert server.process.poll() is None
