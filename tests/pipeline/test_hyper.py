"""Proves that `hyper` finds an adapter by the recipe beside it or by its name, on the command line
and over HTTP, and that what it did stands in the answer. Uses a small adapter made for the run."""

import json
import struct

import pytest

NAME = "Hyper-SD15-8steps-CFG-lora"


@pytest.fixture
def adapters(tiny_model, tmp_path):
    """A folder with a rank-1 LoRA on the time embedding, which every step passes through."""
    with open(tiny_model, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        shapes = json.loads(file.read(size))
    out, width = shapes["model.diffusion_model.time_embed.0.weight"]["shape"]
    parts = {"lora_unet_time_embedding_linear_1.lora_up.weight": (out, 1),
             "lora_unet_time_embedding_linear_1.lora_down.weight": (1, width)}
    header, data = {}, b""
    for name, shape in parts.items():
        values = struct.pack(f"<{shape[0] * shape[1]}f", *([0.05] * (shape[0] * shape[1])))
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    folder = tmp_path / "adapters"
    folder.mkdir(mode=0o755)
    (folder / f"{NAME}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


def done(process):
    return next(json.loads(line) for line in process.stdout.splitlines() if '"done"' in line)


def test_the_command_line_applies_the_recipe(generate, adapters):
    told = done(generate("--prompt", "cat", "--hyper", "--adapter-dir", str(adapters), "--json",
                         "--steps", "8"))
    assert told["request"]["loras"][0]["name"] == NAME
    assert told["request"]["sampler"] == "euler" and told["request"]["scheduler"] == "sgm_uniform"
    assert told["adapters"][0]["tensors_applied"] == 1
    assert "hyper" not in told["request"]


def test_a_recipe_file_beside_the_adapter_wins(generate, adapters):
    (adapters / f"{NAME}.recipe.conf").write_text(
        "[recipe]\ntitle = own\nsteps = 3\n[quick]\nsteps = 3\nsampler = dpmpp_2m\ncfg_max = 2\n")
    told = done(generate("--prompt", "cat", "--hyper-steps", "3", "--adapter-dir", str(adapters),
                         "--json", "--steps", "3"))
    assert told["request"]["sampler"] == "dpmpp_2m" and told["request"]["steps"] == 3
    refused = generate("--prompt", "cat", "--hyper", "--adapter-dir", str(adapters), check=False)
    assert refused.returncode == 1
    assert "no adapter here has a recipe for 8 steps; there are: 3" in refused.stderr


def test_the_server_lists_and_applies_the_recipe(serve, adapters):
    server = serve("--adapter-dir", str(adapters))
    listed = json.loads(server.get("/v1/adapters")[2])["adapters"]
    assert listed[0]["name"] == NAME and listed[0]["recipe"] == "Hyper-SD15 8 steps, CFG kept"
    status, _, body = server.post("/v1/jobs?wait=120", {
        "prompt": "cat", "size": "64x64", "hyper": {"steps": 15}, "steps": 4, "cfg_scale": 12})
    job = json.loads(body)
    assert status == 200 and job["status"] == "succeeded", job
    assert job["request"]["sampler"] == "euler_ancestral"
    assert job["adapters"][0]["tensors_applied"] == 1
    assert "hyper: the recipe wants 15 steps, not 4" in job["warnings"]
    assert "hyper: the recipe wants cfg_scale 5 to 7, not 12" in job["warnings"]
