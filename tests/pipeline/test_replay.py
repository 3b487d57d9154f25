"""Proves that `generate --replay` paints a picture's own request again and says bit-identical, or names
what differs, and that pictures of other programs are read with a list of what could not be mapped."""

import json
import struct
import zlib

import pytest


def with_text(data, keyword, text, drop=()):
    """The PNG with a text chunk before its pixels, without those in `drop`."""
    out, at = data[:8], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])
        kind, body = data[at + 4:at + 8], data[at + 8:at + 8 + length]
        if kind == b"IDAT" and text is not None:
            chunk = b"tEXt" + keyword.encode() + b"\0" + text.encode("latin-1")
            out += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            text = None
        if kind not in (b"tEXt", b"iTXt") or body.split(b"\0")[0].decode() not in drop:
            out += data[at:at + 12 + length]
        at += 12 + length
    return out


@pytest.mark.parametrize("flags", [
    ("--prompt", "(cat:1.2), [dog|bird]", "--negative-prompt", "bad", "--seed", "5"),
    ("--prompt", "{cat|dog}", "--wildcards", "--sampler", "dpmpp_2m_sde", "--scheduler", "karras",
     "--variation-strength", "0.3", "--variation-seed", "9", "--clip-skip", "1"),
    ("--prompt", "cat", "--sigmas", "14.6,7,1,0", "--deep-shrink", "--guidance-rescale", "0.7"),
    ("--prompt", "cat", "--hires", "--hires-scale", "2", "--hires-strength", "0.5"),
])
def test_its_own_pictures_come_out_bit_identical(generate, tmp_path, flags):
    generate(*flags, "-o", str(tmp_path / "first.png"))
    done = generate("--replay", str(tmp_path / "first.png"), "-o", str(tmp_path / "again.png"),
                    bare=True)
    assert "bit-identical" in done.stderr
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_an_initial_picture_is_asked_for_and_then_used(generate, tmp_path):
    generate("--prompt", "cat", "--seed", "5", "-o", str(tmp_path / "base.png"))
    init = ("--init", str(tmp_path / "base.png"))
    generate("--prompt", "dog", "--seed", "6", *init, "-o", str(tmp_path / "first.png"))
    replay = ("--replay", str(tmp_path / "first.png"))
    done = generate(*replay, bare=True, check=False)
    assert done.returncode == 1 and "--init FILE" in done.stderr
    assert "bit-identical" in generate(*replay, *init, bare=True).stderr


def test_what_differs_is_named(generate, tmp_path):
    generate("--prompt", "cat", "--seed", "5", "-o", str(tmp_path / "first.png"))
    data = (tmp_path / "first.png").read_bytes()
    other = data.replace(b'"seed":5', b'"seed":6').replace(b"Seed: 5", b"Seed: 6")
    fixed, at = other[:8], 8
    while at < len(other):
        (length,) = struct.unpack(">I", other[at:at + 4])
        chunk = other[at + 4:at + 8 + length]
        fixed += struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    (tmp_path / "other.png").write_bytes(fixed)
    done = generate("--replay", str(tmp_path / "other.png"), "--json", "--quiet", bare=True,
                    check=False)
    assert done.returncode == 1 and "not bit-identical" in done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if '"replay"' in line][0]
    assert told["identical"] is False and "pixels differ, by" in told["differences"][0]
    # The same pixels in another file are the same picture with other words around it.
    (tmp_path / "same.png").write_bytes(with_text(data, "Comment", "a note"))
    done = generate("--replay", str(tmp_path / "same.png"), bare=True, check=False)
    assert done.returncode == 1 and "every pixel is the same" in done.stderr


def test_another_device_is_named(generate, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTD_CPU_LEVEL", "generic")
    generate("--prompt", "cat", "--seed", "5", "--steps", "1", "-o", str(tmp_path / "first.png"))
    monkeypatch.delenv("LATENTD_CPU_LEVEL")
    done = generate("--replay", str(tmp_path / "first.png"), bare=True, check=False)
    if done.returncode == 0:
        pytest.skip("this machine has no other CPU level")
    assert "the device was plain C and is " in done.stderr, done.stderr


def test_pictures_of_others_are_read_with_what_could_not_be_mapped(generate, tmp_path):
    generate("--prompt", "cat", "--seed", "5", "-o", str(tmp_path / "first.png"))
    plain = with_text((tmp_path / "first.png").read_bytes(), "", None,
                      ("latentd", "parameters", "prompt"))
    novelai = json.dumps({"prompt": "cat", "uc": "bad", "steps": 3, "scale": 5, "seed": 7,
                          "sampler": "k_euler", "width": 64, "height": 64, "sm": True})
    graph = json.dumps({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "cat"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage",
              "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {
            "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0],
            "latent_image": ["4", 0], "seed": 3, "steps": 3, "cfg": 4.0, "sampler_name": "euler",
            "scheduler": "normal", "denoise": 1.0}}})
    a1111 = ("cat\nNegative prompt: bad\nSteps: 3, Sampler: Euler a, Schedule type: Karras, "
             "CFG scale: 5, Seed: 7, Size: 64x64, Hypernet: foo, Version: v1.10.1")
    for name, texts, unmapped in (
            ("novelai", (("Comment", novelai), ("Software", "NovelAI")), "SMEA"),
            ("comfy", (("prompt", graph),), None),
            ("a1111", (("parameters", a1111),), "Hypernet")):
        data = plain
        for keyword, text in texts:
            data = with_text(data, keyword, text)
        file = tmp_path / f"{name}.png"
        file.write_bytes(data)
        done = generate("--replay", str(file), "-o", str(tmp_path / f"{name}-again.png"), bare=True,
                        check=False)
        assert done.returncode == 1 and "made by another program" in done.stderr, done.stderr
        assert (tmp_path / f"{name}-again.png").exists()
        if unmapped:
            assert any(unmapped in line for line in done.stderr.splitlines() if "note:" in line), \
                (name, done.stderr)


def test_a_server_paints_a_picture_of_others_whose_model_it_lacks(generate, serve, tmp_path):
    generate("--prompt", "cat", "--seed", "5")
    bare = with_text((tmp_path / "out.png").read_bytes(), "", None, ("latentd", "parameters", "prompt"))
    infotext = "cat\nSteps: 3, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64, Model: "
    server = serve()

    def replay(data):
        status, _, body = server.post("/v1/replay?wait=60", data, headers={"Content-Type": "image/png"})
        return status, json.loads(body)

    for name, told in (("far away", True), ("tiny", False)):
        status, answer = replay(with_text(bare, "parameters", infotext + name))
        assert status == 200 and answer["job"]["status"] == "succeeded", answer
        assert answer["job"]["request"]["model"] == "tiny"
        assert any("it is not here" in note and name in note for note in answer["differences"]) == told, answer
    # A picture of our own says exactly what made it.
    own = (tmp_path / "out.png").read_bytes()
    texts = json.dumps({"prompt": "cat", "model": "far", "width": 64, "height": 64, "steps": 3, "seed": 5})
    status, answer = replay(with_text(own, "latentd", texts, ("latentd",)))
    assert status == 422 and "there is no model far" in answer["detail"], answer


@pytest.mark.parametrize("flags, words", [
    (("--steps", "3"), "leave steps away"),
    (("--prompt", "cat"), "leave prompt away"),
    (("--sweep", "steps=1,2"), "without --server and --sweep"),
    (("--server", "http://127.0.0.1:1"), "POST /v1/replay"),
])
def test_flags_that_would_change_it_are_refused(generate, tmp_path, flags, words):
    generate("--prompt", "cat", "-o", str(tmp_path / "first.png"))
    done = generate("--replay", str(tmp_path / "first.png"), *flags, bare=True, check=False)
    assert done.returncode == 1 and words in done.stderr, done.stderr


def test_what_is_no_recipe_is_refused(generate, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    generate("--prompt", "cat", "--output-metadata", "none", "-o", str(tmp_path / "bare.png"))
    for name, words in (("text.png", "is not a picture"), ("bare.png", "does not say how it was made"),
                        ("nothing.png", "cannot be read")):
        done = generate("--replay", str(tmp_path / name), bare=True, check=False)
        assert done.returncode == 1 and words in done.stderr, done.stderr
