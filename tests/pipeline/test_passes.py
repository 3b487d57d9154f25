"""Proves that a second pass may have a model and adapters of its own, that adapters act in the share
of the steps they were given, that SMEA acts in its steps and no others, and that the rows the UNet
ran are told. One server with the tiny checkpoint and small adapters made for the run."""

import json
import shutil
import struct
import subprocess

import pytest

from conftest import Png, Server

REQUEST = {"prompt": "cat", "width": 64, "height": 64, "steps": 4, "seed": 3, "sampler": "euler"}
SECOND = {"scale": 2, "steps": 3, "strength": 0.6}


def lora(model, path, scale):
    """A rank-1 LoRA on the time embedding, which every step passes through."""
    with open(model, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        shapes = json.loads(file.read(size))
    out, width = shapes["model.diffusion_model.time_embed.0.weight"]["shape"]
    header, data = {}, b""
    for part, shape in (("up", (out, 1)), ("down", (1, width))):
        values = struct.pack(f"<{shape[0] * shape[1]}f", *([scale] * (shape[0] * shape[1])))
        header[f"lora_unet_time_embedding_linear_1.lora_{part}.weight"] = {
            "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.fixture(scope="module")
def server(latentd, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("passes")
    adapters, models = folder / "adapters", folder / "models"
    for made in (adapters, models):
        made.mkdir(mode=0o755)
    lora(tiny_model, adapters / "ink.safetensors", 0.2)
    lora(tiny_model, adapters / "chalk.safetensors", -0.2)
    shutil.copy(tiny_model, models / "tiny-same.safetensors")
    subprocess.run([latentd, "merge", str(tiny_model), "-o", str(models / "tiny-inked.safetensors"),
                    "--adapter", f"{adapters / 'ink.safetensors'}:1", "--quiet"], check=True, timeout=120)
    running = Server(latentd, tiny_model, folder, "--adapter-dir", str(adapters), "--model-dir",
                     str(models))
    yield running
    running.stop()


@pytest.fixture
def paint(server):
    """paint(**fields): the picture's bytes without metadata, and the job."""

    def run(**fields):
        status, _, body = server.post("/v1/jobs?wait=100", {**REQUEST, **fields}, timeout=150)
        job = json.loads(body)
        assert status == 200 and job["status"] == "succeeded", job
        return Png(server.get(job["images"][0]["url"])[2]).raw, job

    return run


def names(job):
    return [adapter["name"] for adapter in job["adapters"]]


def test_an_adapter_acts_in_its_share_of_the_steps(paint):
    plain, _ = paint()
    always, _ = paint(loras=[{"name": "ink"}])
    early, job = paint(loras=[{"name": "ink", "end": 0.5}])
    late, _ = paint(loras=[{"name": "ink", "start": 0.5}])
    never, _ = paint(loras=[{"name": "ink", "start": 0.5, "end": 0.5}])
    assert never == plain and len({plain, always, early, late}) == 4
    assert names(job) == ["ink"] and job["request"]["loras"][0]["end"] == 0.5
    # An adapter that hands over to itself acts always.
    halves, _ = paint(loras=[{"name": "ink", "end": 0.5}, {"name": "ink", "start": 0.5}])
    assert halves == always


def test_the_command_line_takes_ranges_and_second_adapters(generate, server, tiny_model, tmp_path, paint):
    folder = tmp_path / "adapters"
    folder.mkdir()
    lora(tiny_model, folder / "ink.safetensors", 0.2)
    flags = ("--prompt", "cat", "--seed", "3", "--sampler", "euler", "--adapter-dir", str(folder))
    generate(*flags, "--lora", "ink@0-0.5", "--hires-scale", "2", "--hires-steps", "3",
             "--hires-strength", "0.6", "--hires-loras", "ink:0.5")
    made = Png((tmp_path / "out.png").read_bytes()).raw
    assert made == paint(loras=[{"name": "ink", "end": 0.5}],
                         hires={**SECOND, "loras": [{"name": "ink", "weight": 0.5}]})[0]


def test_the_second_pass_has_adapters_of_its_own(paint):
    ink, chalk = {"name": "ink"}, {"name": "chalk", "weight": 0.5}
    plain, _ = paint(hires=SECOND)
    both, _ = paint(hires=SECOND, loras=[ink])
    first, _ = paint(hires={**SECOND, "loras": []}, loras=[ink])
    second, job = paint(hires={**SECOND, "loras": [ink]})
    other, job_other = paint(hires={**SECOND, "loras": [chalk]}, loras=[ink])
    assert len({plain, both, first, second, other}) == 5
    assert names(job) == ["ink"] and names(job_other) == ["ink", "chalk"]
    assert paint(hires={**SECOND, "loras": [ink]}, loras=[ink])[0] == both
    assert paint(hires={**SECOND, "prompt": "cat<lora:ink:1>"})[0] == second


def test_the_second_pass_has_a_model_of_its_own(server, paint):
    plain, _ = paint(hires=SECOND)
    same, job = paint(hires={**SECOND, "model": "tiny-same"})
    assert same == plain and job["request"]["hires"]["model"] == "tiny-same"
    inked, _ = paint(hires={**SECOND, "model": "tiny-inked"})
    assert inked != plain
    _, job = paint(hires={**SECOND, "model": "tiny-inked", "loras": [{"name": "ink", "weight": 0.5}]})
    text = Png(server.get(job["images"][0]["url"])[2]).text
    own = json.loads(text["latentd"])
    assert own["adapters"][0]["name"] == "ink" and own["adapters"][0]["sha256"]
    assert f"Hires checkpoint: tiny-inked [{own['hires_model_sha256'][:10]}]" in text["parameters"]
    assert 'Hires prompt: "cat <lora:ink:0.5>"' in text["parameters"]
    status, _, body = server.post("/v1/jobs", {**REQUEST, "hires": {"model": "tiny-ikned"}})
    assert status == 422 and "did you mean tiny-inked?" in body.decode()


def test_smea_looks_twice_in_early_steps_only(paint):
    steps = {"steps": 8, "scheduler": "normal"}
    plain, job = paint(**steps)
    smea, job_smea = paint(**steps, smea="on", smea_scale=2)
    extra = job_smea["unet_rows"] - job["unet_rows"]
    assert smea != plain and 0 < extra <= job["unet_rows"] / 2 + 2, (job["unet_rows"], extra)
    assert paint(**steps, smea="on", smea_scale=1.5)[0] not in (plain, smea)
    # The tiny model's manifest says 256x256: at 64x64 "auto" has nothing to do.
    auto, job_auto = paint(**steps, smea="auto")
    assert auto == plain and job_auto["unet_rows"] == job["unet_rows"]


def test_smea_works_beside_every_other_row(paint):
    for guidance in ({"sag": 0.5}, {"perp_neg": 1}, {"freeu": True}, {"pag": 2}):
        large = {"width": 128, "height": 128, "steps": 3, "guidance": guidance}
        assert paint(**large, smea="on", smea_scale=1.5)[0] != paint(**large)[0], guidance


GUIDANCE = (
    {"rescale": 0.7}, {"uncond_zero": True}, {"auto_cfg": True}, {"dynamic_threshold": {"mimic_scale": 3}},
    {"skip_above_sigma": 5}, {"skip_below_sigma": 1}, {"ngms": 4}, {"skip_early": 0.4},
    {"uncond_scale": 0.5}, {"pag": 3}, {"sag": 0.5},
    {"apg": {"eta": 0}}, {"perp_neg": 1}, {"epsilon_scale": 1.05}, {"negative_end": 0.5})


def test_every_guidance_changes_the_picture_and_tells_its_rows(paint):
    # At 128x128 the middle block has four positions; with one, PAG's attention is the identity.
    plain, job = paint(cfg_scale=7, negative_prompt="dog", width=128, height=128)
    assert (job["unet_rows"], job["unet_rows_saved"]) == (8, 0)
    for guidance in GUIDANCE:
        picture, job = paint(cfg_scale=7, negative_prompt="dog", width=128, height=128, guidance=guidance)
        key = next(iter(guidance))
        assert picture != plain, guidance
        saves, more = "skip" in key or key in ("ngms", "negative_end"), key in ("pag", "sag", "perp_neg")
        assert (job["unet_rows_saved"] > 0) == saves, (guidance, job["unet_rows_saved"])
        assert (job["unet_rows"] > 8) == more, (guidance, job["unet_rows"])
    _, job = paint(cfg_scale=1)
    assert (job["unet_rows"], job["unet_rows_saved"]) == (4, 4)
    assert paint(cfg_scale=1.5, sampler="euler_cfg_pp")[0] != paint(cfg_scale=1.5)[0]


UPSCALERS = ("latent-bislerp", "latent-nearest-exact", "latent-bilinear", "latent-bicubic",
             "latent-area", "pixel-lanczos")


def test_every_upscaler_gives_its_own_picture(paint):
    pictures = {paint(steps=2, hires={"scale": 1.5, "steps": 2, "upscaler": name})[0]
                for name in UPSCALERS}
    assert len(pictures) == len(UPSCALERS)


def test_the_second_pass_takes_its_own_sampler_steps_and_scale(paint):
    plain, job = paint(hires=SECOND)
    assert job["unet_rows"] == 2 * (4 + 3)
    for other in ({"sampler": "dpmpp_2m"}, {"scheduler": "karras"}, {"steps": 4}, {"cfg_scale": 2},
                  {"prompt": "dog"}, {"negative_prompt": "dog"}, {"strength": 0.3}):
        assert paint(hires={**SECOND, **other})[0] != plain, other
