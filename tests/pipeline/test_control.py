"""Proves that the program's denoiser with ControlNets computes what a plain one in numpy does, in each layout that such files have, at
sides that are no multiples of anything, with several of them at once and at any strength."""

import json
import pathlib
import struct
import subprocess

import numpy as np
import pytest

from control_numpy import ControlNet, Denoiser, read

DEMO = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo_model/files/demo.safetensors"
NEAR = 2e-5  # relative L2; float32 on the same weights is several times nearer
TOKENS = 77
T = 431.25


@pytest.fixture(scope="session")
def denoise(request):
    """denoise(x, context, [(file, strength, hint), ...], t) -> what the program's network gives."""
    tool = pathlib.Path(request.config.getoption("--tools")).resolve() / "denoise"

    def run(x, context, controls=(), t=T):
        words = [str(word) for path, strength, _ in controls for word in (path, strength)]
        data = b"".join(a.astype("<f4").tobytes() for a in (x, context, *(hint for _, _, hint in controls)))
        done = subprocess.run([str(tool), str(DEMO), *map(str, x.shape[1:]), str(len(context)), str(t), *words],
                              input=data, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return np.frombuffer(done.stdout, "<f4").reshape(x.shape).astype(float)

    return run


@pytest.fixture(scope="session")
def model():
    return Denoiser(DEMO)


def write(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, []
    begin = 0
    for name, array in tensors.items():
        raw = array.astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(array.shape), "data_offsets": [begin, begin + len(raw)]}
        data.append(raw)
        begin += len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def made_up(seed):
    """(tensors, metadata) of a ControlNet that nobody trained: the demo's encoder, and everything else at random."""
    tensors, metadata = read(DEMO)
    rng = np.random.default_rng(seed)
    prefix, own = "model.diffusion_model.", "control_model."
    out = {own + name[len(prefix):]: array for name, array in tensors.items()
           if name.startswith(prefix) and name[len(prefix):].split(".")[0] in ("time_embed", "input_blocks", "middle_block")}

    def add(name, *shape):
        gain = 1 / np.sqrt(np.prod(shape[1:]))
        out[f"{own}{name}.weight"] = rng.normal(0, 1.5 * gain, shape)
        out[f"{own}{name}.bias"] = rng.normal(0, 0.1, shape[0])

    base = out[own + "input_blocks.0.0.weight"].shape[0]
    for i, (a, b) in enumerate(zip((3, 16, 16, 32, 32, 96, 96, 256), (16, 16, 32, 32, 96, 96, 256, base))):
        add(f"input_hint_block.{2 * i}", b, a, 3, 3)
    blocks = len({name.split(".")[2] for name in out if name.startswith(own + "input_blocks.")})
    width = base
    for i in range(blocks):
        for part in (".0.out_layers.3.weight", ".0.op.weight"):
            width = out.get(f"{own}input_blocks.{i}{part}", np.empty((width,))).shape[0]
        add(f"zero_convs.{i}.0", width, width, 1, 1)
    add("middle_block_out.0", width, width, 1, 1)
    return out, {"latentd.test_config": metadata["latentd.test_config"]}


@pytest.fixture(scope="session")
def controls(tmp_path_factory):
    """Files of two ControlNets."""
    folder = tmp_path_factory.mktemp("controls")
    for seed in (1, 2):
        write(folder / f"{seed}.safetensors", *made_up(seed))
    return [folder / "1.safetensors", folder / "2.safetensors"]


def inputs(height, width, seed=3):
    rng = np.random.default_rng(seed)
    tensors, _ = read(DEMO)
    wide = tensors["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    x, context = rng.normal(size=(4, height, width)), rng.normal(size=(TOKENS, wide))
    hints = [(rng.random((3, 8 * height, 8 * width)) > 0.8).astype(float), rng.random((3, 8 * height, 8 * width))]
    return [np.float32(array).astype(float) for array in (x, context, *hints)]


def distance(found, right):
    assert np.isfinite(found).all()
    return np.linalg.norm(found - right) / np.linalg.norm(right)


@pytest.mark.parametrize("height,width", [(16, 16), (9, 14), (5, 21)])
def test_what_it_adds_is_numpys(denoise, model, controls, height, width):
    x, context, hint, _ = inputs(height, width)
    plain = model.noise(x, T, context)
    parts = ControlNet(controls[0]).parts(x, hint, T, context)
    right = model.noise(x, T, context, [0.7 * part for part in parts])
    assert distance(denoise(x, context), plain) < NEAR
    assert distance(denoise(x, context, [(controls[0], 0.7, hint)]), right) < NEAR
    assert distance(plain, right) > 0.05  # it says something


def test_two_at_once_add_up(denoise, model, controls):
    x, context, first, second = inputs(10, 12)
    sums = [0.4 * a + 0.9 * b for a, b in zip(ControlNet(controls[0]).parts(x, first, T, context),
                                              ControlNet(controls[1]).parts(x, second, T, context))]
    found = denoise(x, context, [(controls[0], 0.4, first), (controls[1], 0.9, second)])
    assert distance(found, model.noise(x, T, context, sums)) < NEAR
    other = denoise(x, context, [(controls[1], 0.9, second), (controls[0], 0.4, first)])
    assert distance(other, found) < NEAR


def test_every_map_has_a_strength_of_its_own(denoise, model, controls):
    x, context, hint, _ = inputs(8, 8)
    parts = ControlNet(controls[0]).parts(x, hint, T, context)
    strength = np.random.default_rng(4).permutation(len(parts)) / 8
    found = denoise(x, context, [(controls[0], ",".join(map(str, strength)), hint)])
    assert distance(found, model.noise(x, T, context, [s * part for s, part in zip(strength, parts)])) < NEAR


def test_nothing_said_changes_no_bit(denoise, controls):
    x, context, hint, _ = inputs(8, 8)
    assert (denoise(x, context, [(controls[0], 0, hint)]) == denoise(x, context)).all()


@pytest.mark.parametrize("layout", ["bare", "diffusers"])
def test_every_layout_of_the_file_is_the_same_network(denoise, controls, tmp_path, layout):
    x, context, hint, _ = inputs(8, 11)
    tensors, metadata = made_up(1)
    rename = (lambda name: name) if layout == "bare" else diffusers_name
    write(tmp_path / "other.safetensors", {rename(name[len("control_model."):]): array for name, array in tensors.items()}, metadata)
    right = denoise(x, context, [(controls[0], 1, hint)])
    assert (denoise(x, context, [(tmp_path / "other.safetensors", 1, hint)]) == right).all()


def diffusers_name(name):
    """The name that a diffusers ControlNet gives the tensor; levels hold two blocks and, but for the last, a stride."""
    res = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
           "out_layers.3": "conv2", "skip_connection": "conv_shortcut"}
    parts = name.split(".")
    tail = parts[-1]
    module = ".".join(parts[:-1])
    if module == "input_blocks.0.0":
        return f"conv_in.{tail}"
    if parts[0] == "time_embed":
        return f"time_embedding.linear_{1 if parts[1] == '0' else 2}.{tail}"
    if parts[0] == "input_hint_block":
        i = int(parts[1]) // 2
        return f"controlnet_cond_embedding.{'conv_in' if i == 0 else 'conv_out' if i == 7 else f'blocks.{i - 1}'}.{tail}"
    if parts[0] == "zero_convs":
        return f"controlnet_down_blocks.{parts[1]}.{tail}"
    if parts[0] == "middle_block_out":
        return f"controlnet_mid_block.{tail}"
    if parts[0] == "middle_block":
        place = {"0": "mid_block.resnets.0", "1": "mid_block.attentions.0", "2": "mid_block.resnets.1"}[parts[1]]
        rest = ".".join(parts[2:-1])
    else:
        level, i = divmod(int(parts[1]) - 1, 3)
        if i == 2:
            return f"down_blocks.{level}.downsamplers.0.conv.{tail}"
        place = f"down_blocks.{level}.{'resnets' if parts[2] == '0' else 'attentions'}.{i}"
        rest = ".".join(parts[3:-1])
    return f"{place}.{res.get(rest, rest)}.{tail}"
