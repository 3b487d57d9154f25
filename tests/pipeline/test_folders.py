"""Proves that one folder brings everything: adapters, embeddings and wildcard lists that lie in
folders of their names beside the checkpoints are found without a setting, are no checkpoints, and
give way to a folder that is set."""

import json
import shutil
import subprocess

import pytest
from test_residency import adapters

NAMES = {"adapters": "adapter", "embeddings": "embedding", "vae": "vae", "controlnets": "controlnet",
         "wildcards": "wildcard"}


@pytest.fixture
def house(tiny_model, tmp_path):
    folder = tmp_path / "house"
    folder.mkdir()
    shutil.copy(tiny_model, folder / "tiny.safetensors")
    adapters(folder / "adapters", tiny_model, None)
    (folder / "wildcards").mkdir()
    (folder / "wildcards/animal.txt").write_text("cat\n")
    return folder


def settings(latentd, *flags):
    text = subprocess.run([latentd, "serve", *flags, "--print-config"], capture_output=True,
                          text=True, check=True, timeout=30).stdout
    lines = (line.split("#")[0].partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines if key.strip().endswith("_dir")}


def test_folders_beside_the_checkpoints_are_found(latentd, house, tmp_path):
    found = settings(latentd, "--model-dir", str(house))
    assert found["adapter_dir"] == str(house / "adapters")
    assert found["wildcard_dir"] == str(house / "wildcards")
    assert found["embedding_dir"] == found["vae_dir"] == found["controlnet_dir"] == ""
    for name in NAMES:
        (house / name).mkdir(exist_ok=True)
    found = settings(latentd, "--model-dir", str(house))
    assert {found[f"{kind}_dir"] for kind in NAMES.values()} == {str(house / name) for name in NAMES}
    other = tmp_path / "other"
    other.mkdir()
    assert settings(latentd, "--model-dir", str(house),
                    "--adapter-dir", str(other))["adapter_dir"] == str(other)
    assert not any(settings(latentd).get(f"{kind}_dir") for kind in NAMES.values())


def test_they_are_found_beside_a_checkpoint_given_as_a_file(latentd, house, generate, tmp_path):
    found = settings(latentd, "--model", str(house / "tiny.safetensors"))
    assert found["adapter_dir"] == str(house / "adapters")
    assert found["wildcard_dir"] == str(house / "wildcards")
    generate("--model", str(house / "tiny.safetensors"), "--wildcards", "true", "--prompt", "__animal__ <lora:plus:1>")
    (house / "diffusers").mkdir()
    assert settings(latentd, "--model", str(house / "diffusers") + "/")["adapter_dir"] == str(house / "adapters")
    done = subprocess.run([latentd, "serve", "--model", "tiny.safetensors", "--print-config"], cwd=house,
                          capture_output=True, text=True, check=True, timeout=30)
    assert 'adapter_dir = ./adapters' in done.stdout.replace('"', ""), done.stdout
    assert not settings(latentd, "--model", "tiny")["adapter_dir"]  # a name is no path


def test_an_adapter_found_there_paints_alike_from_both_doors(generate, serve, house, tmp_path):
    request = ("--size", "64x64", "--steps", "3", "--seed", "5", "--wildcards", "true",
               "--prompt", "__animal__ <lora:plus:1>")
    generate("--model", "tiny", "--model-dir", str(house), *request, bare=True)
    server = serve("--model-dir", str(house), model="tiny")
    listed = json.loads(server.get("/v1/adapters")[2])["adapters"]
    assert {"plus", "minus", "dora"} <= {adapter["name"] for adapter in listed}
    models = json.loads(server.get("/v1/models")[2])["data"]
    assert [model["name"] for model in models] == ["tiny"]
    status, _, body = server.post("/v1/jobs?wait=60", {
        "prompt": "__animal__ <lora:plus:1>", "wildcards": True, "width": 64, "height": 64,
        "steps": 3, "seed": 5})
    job = json.loads(body)
    assert status == 200 and job["adapters"][0]["tensors_applied"] == 1, body
    assert server.get(job["images"][0]["url"])[2] == (tmp_path / "out.png").read_bytes()
    log = (tmp_path / "server.log").read_text()
    assert "not a checkpoint" not in log and "plus.safetensors" not in log
