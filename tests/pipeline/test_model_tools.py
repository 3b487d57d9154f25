"""Proves that `latentd merge` and `latentd convert` write models that paint, say how they were made,
and leave nothing behind when refused. Runs the real program on a tiny checkpoint."""

import json
import struct
import subprocess

import pytest


def header(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + size]), data[8 + size:]


def tensors(path):
    """Name to (dtype, bytes)."""
    names, data = header(path)
    return {name: (entry["dtype"], data[slice(*entry["data_offsets"])])
            for name, entry in names.items() if name != "__metadata__"}


@pytest.fixture
def tool(latentd, tmp_path):
    def run(*words, status=0):
        done = subprocess.run([latentd, *map(str, words)], capture_output=True, text=True,
                              timeout=300, cwd=tmp_path)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done
    return run


def paint(latentd, model, out, *flags):
    subprocess.run([latentd, "generate", "--model", str(model), "--prompt", "cat", "--seed", "3",
                    "--size", "64x64", "--steps", "3", "-o", str(out),
                    *flags], check=True, capture_output=True, timeout=120)
    return out.read_bytes()


def test_a_folder_and_back_is_bit_identical_and_paints_the_same(tool, latentd, tiny_model, tmp_path,
                                                                png):
    # The names keep the manifest of the tiny models, which has defaults of its own.
    tool("convert", tiny_model, "--to", "diffusers", "-o", "tiny-parts")
    tool("convert", "tiny-parts", "-o", "tiny-back.safetensors")
    assert tensors(tmp_path / "tiny-back.safetensors") == tensors(tiny_model)
    unet = json.loads((tmp_path / "tiny-parts/unet/config.json").read_text())
    assert unet["_class_name"] == "UNet2DConditionModel" and unet["in_channels"] == 4
    vocabulary = json.loads((tmp_path / "tiny-parts/tokenizer/vocab.json").read_text())
    text = json.loads((tmp_path / "tiny-parts/text_encoder/config.json").read_text())
    assert len(vocabulary) == text["vocab_size"]
    assert vocabulary["<|endoftext|>"] == text["eos_token_id"]
    index = json.loads((tmp_path / "tiny-parts/model_index.json").read_text())
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        assert name in index and (tmp_path / "tiny-parts" / name).is_dir()
    pictures = [png(paint(latentd, model, tmp_path / f"{i}.png")).raw
                for i, model in enumerate((tiny_model, tmp_path / "tiny-parts",
                                           tmp_path / "tiny-back.safetensors"))]
    assert pictures[0] == pictures[1] == pictures[2]


def test_fp8_is_smaller_and_still_paints(tool, latentd, tiny_model, tmp_path, png):
    told = json.loads(tool("convert", tiny_model, "--dtype", "fp8", "-o", "f8.safetensors",
                           "--json").stdout)
    stored = tensors(tmp_path / "f8.safetensors")
    weight = "model.diffusion_model.time_embed.0.weight"
    assert stored[weight][0] == "F8_E4M3" and told["dtype"] == "fp8"
    (scale,) = struct.unpack("<f", stored[weight.replace("weight", "scale_weight")][1])
    assert 0 < scale < 1
    assert "model.diffusion_model.scaled_fp8" in stored
    assert (tmp_path / "f8.safetensors").stat().st_size < 0.75 * tiny_model.stat().st_size
    painted = png(paint(latentd, tmp_path / "f8.safetensors", tmp_path / "8.png"))
    assert len(set(painted.pixels())) > 64


def test_merging_with_itself_changes_nothing_and_tells_the_parents(tool, tiny_model, tmp_path):
    tool("merge", tiny_model, tiny_model, "--alpha", "0.5", "-o", "m.safetensors")
    assert tensors(tmp_path / "m.safetensors") == tensors(tiny_model)
    names, _ = header(tmp_path / "m.safetensors")
    history = json.loads(names["__metadata__"]["latentd.merge"])
    assert history["op"] == "weighted_sum" and history["alpha"] == 0.5
    assert history["a"]["name"] == history["b"]["name"] == tiny_model.name
    assert len(history["a"]["sha256"]) == 64 and history["a"] == history["b"]


def test_block_weights_reach_their_blocks_alone(tool, tiny_model, tmp_path):
    tool("convert", tiny_model, "--dtype", "fp8", "-o", "b.safetensors")
    tool("merge", tiny_model, "b.safetensors", "--blocks", "IN01=1,OUT02=1", "--alpha", "0",
         "-o", "m.safetensors")
    before, after = tensors(tiny_model), tensors(tmp_path / "m.safetensors")
    changed = {name for name in before if before[name] != after[name]}
    assert changed
    for name in changed:
        assert name.startswith(("model.diffusion_model.input_blocks.1.",
                                "model.diffusion_model.output_blocks.2.")), name


@pytest.mark.parametrize("words, sentence", [
    (("merge", "M", "M", "--alpha", "5", "-o", "x"), "--alpha must be a number between -4 and 4"),
    (("merge", "M", "M", "--op", "ties", "-o", "x"), "ties takes 3 models, not 2"),
    (("merge", "M", "-o", "x"), "one model alone needs --vae, --text or --adapter"),
    (("merge", "M", "M", "--blocks", "1,2", "-o", "x"), "--blocks takes 26 numbers"),
    (("merge", "M", "M", "--blocks", "IN12=1", "-o", "x"), "'IN12' is no block"),
    (("merge", "M", "M", "--op", "magic", "-o", "x"), "--op must be weighted_sum"),
    (("merge", "M", "M", "--dtype", "int4", "-o", "x"), "--dtype must be keep, fp32"),
    (("convert", "M", "--to", "onnx", "-o", "x"), "--to must be single or diffusers"),
    (("convert", "M"), "convert needs a model and -o OUT"),
])
def test_wrong_usage_is_one_sentence(tool, tiny_model, tmp_path, words, sentence):
    done = tool(*(tiny_model if word == "M" else word for word in words), status=2)
    assert sentence in done.stderr.splitlines()[0]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_done_leaves_nothing(tool, tiny_model, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(tiny_model.read_bytes()[:100000])
    (tmp_path / "there").write_text("mine")
    for words in (("merge", tiny_model, "broken.safetensors", "-o", "x"),
                  ("merge", tiny_model, "--adapter", "broken.safetensors:0.5", "-o", "x"),
                  ("merge", tiny_model, "--vae", "broken.safetensors", "-o", "x"),
                  ("convert", "broken.safetensors", "-o", "x"),
                  ("convert", tiny_model, "-o", "there"),
                  ("convert", tiny_model, "-o", "no/such/folder")):
        done = tool(*words, status=1)
        assert done.stderr.startswith("latentd: ") and done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.safetensors", "there"]
    assert (tmp_path / "there").read_text() == "mine"
