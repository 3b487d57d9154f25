"""Proves that the command line writes WebP and JPEG as it writes PNG: the format by the file's ending
or by a flag, here and on a server with the same bytes; that such a picture is painted again from
itself bit for bit, enlarged and looked into; and that its settings lie where other programs read
them. A program that was built without a format's library refuses it in one sentence."""

import io
import json
import subprocess

import pytest
from PIL import Image

KINDS = {"webp": ("out.webp", "WEBP", "libwebp"), "jpeg": ("out.jpg", "JPEG", "libjpeg")}
FLAGS = ("--prompt", "caf\u00e9, \u732b", "--seed", "5")


@pytest.fixture(params=sorted(KINDS))
def kind(request, latentd, generate, tmp_path):
    """The name, file name and Pillow's name of a format that this build has."""
    path, name, library = KINDS[request.param]
    done = generate(*FLAGS, "-o", str(tmp_path / path), check=False)
    if done.returncode != 0:
        assert f"output.format {request.param}" in done.stderr and library in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / path).exists()
        pytest.skip(f"built without {library}")
    return request.param, path, name


def opened(path, name):
    image = Image.open(io.BytesIO(path.read_bytes()))
    assert image.format == name, image.format
    image.load()
    return image


def test_the_ending_names_the_format(generate, kind, tmp_path):
    word, path, name = kind
    image = opened(tmp_path / path, name)
    assert image.size == (64, 64)
    raw = image.getexif().get_ifd(0x8769)[0x9286]
    text = raw[8:].decode("utf-16-be")
    assert raw[:8] == b"UNICODE\0" and text.startswith("caf\u00e9, \u732b\n") and "Seed: 5" in text
    generate(*FLAGS, "-o", str(tmp_path / "plain.png"))
    generate(*FLAGS, "--output-format", word, "-o", str(tmp_path / "named.bin"))
    assert (tmp_path / "named.bin").read_bytes() == (tmp_path / path).read_bytes()
    generate(*FLAGS, "--output-format", "png", "-o", str(tmp_path / f"png.{path}"))
    assert (tmp_path / f"png.{path}").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_lossless_webp_has_the_pixels_of_the_png(generate, kind, tmp_path):
    if kind[0] != "webp":
        done = generate(*FLAGS, "--output-lossless", "-o", str(tmp_path / "x.jpg"), check=False)
        assert done.returncode != 0 and "output.lossless" in done.stderr
        return
    generate(*FLAGS, "-o", str(tmp_path / "plain.png"))
    generate(*FLAGS, "--output-lossless", "-o", str(tmp_path / "exact.webp"))
    exact = opened(tmp_path / "exact.webp", "WEBP").convert("RGB")
    assert exact.tobytes() == opened(tmp_path / "plain.png", "PNG").convert("RGB").tobytes()


def test_it_is_painted_again_from_itself(generate, kind, tmp_path):
    _, path, _ = kind
    again = tmp_path / f"again.{path}"
    done = generate("--replay", str(tmp_path / path), "-o", str(again), bare=True)
    assert "bit-identical" in done.stderr and again.read_bytes() == (tmp_path / path).read_bytes()
    generate(*FLAGS[:-1], "6", "-o", str(tmp_path / path))
    (tmp_path / "other").write_bytes((tmp_path / path).read_bytes()[:-40] + bytes(40))
    done = generate("--replay", str(tmp_path / "other"), "-o", str(again), bare=True, check=False)
    assert done.returncode == 1 and ("pixel" in done.stderr or "damaged" in done.stderr), done.stderr


def test_it_is_looked_into_and_enlarged(latentd, kind, tmp_path):
    _, path, name = kind

    def told(*words):
        done = subprocess.run([latentd, *map(str, words)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    info = json.loads(told("png-info", tmp_path / path, "--json"))
    assert info["source"] == "latentd" and info["request"]["seed"] == 5
    inspected = json.loads(told("inspect", tmp_path / path, "--json"))
    assert (inspected["kind"], inspected["width"], inspected["height"]) == ("image", 64, 64)
    assert json.loads(inspected["texts"]["latentd"])["request"]["seed"] == 5
    told("upscale", tmp_path / path, "--scale", "2", "-o", f"large-{path}")
    assert opened(tmp_path / f"large-{path}", name).size == (128, 128)
    large = json.loads(told("png-info", tmp_path / f"large-{path}", "--json"))
    assert large["request"]["upscale"]["width"] == 128
    assert json.loads(large["texts"]["latentd_source"])["request"]["seed"] == 5


def test_a_sheet_and_its_cells_have_the_format(generate, kind, tmp_path):
    _, path, name = kind
    generate("--prompt", "cat", "--sweep", "steps=2,3", "-o", str(tmp_path / f"sheet-{path}"))
    stem, ending = f"sheet-{path}".rsplit(".", 1)
    assert opened(tmp_path / f"{stem}.{ending}", name).size[0] >= 128
    for index in range(2):
        assert opened(tmp_path / f"{stem}-{index}.{ending}", name).size == (64, 64)


def test_a_server_sends_the_same_bytes(serve, generate, kind, tmp_path):
    _, path, _ = kind
    server = serve()
    generate(*FLAGS, "--server", server.url, "-o", str(tmp_path / f"there-{path}"))
    generate(*FLAGS, "-o", str(tmp_path / f"here-{path}"))
    there, here = (tmp_path / f"{where}-{path}" for where in ("there", "here"))
    assert opened(there, KINDS[kind[0]][1]).tobytes() == opened(here, KINDS[kind[0]][1]).tobytes()


def test_an_absent_name_follows_the_format(latentd, tiny_model, kind, tmp_path):
    word, path, name = kind
    folder = tmp_path / "here"
    folder.mkdir()
    subprocess.run([latentd, "generate", "--model", str(tiny_model), "--size", "64x64", "--steps", "2", "--seed", "1",
                    "--prompt", "cat", "--output-format", word], check=True, cwd=folder, timeout=120, capture_output=True)
    assert [each.name for each in folder.iterdir()] == [path]
    opened(folder / path, name)


@pytest.mark.parametrize("ending", ["gif", "TIFF", "avif"])
def test_an_ending_of_another_format_is_refused(generate, ending, tmp_path):
    done = generate(*FLAGS, "-o", str(tmp_path / f"out.{ending}"), check=False)
    assert done.returncode == 2 and f"out.{ending}" in done.stderr and ".png, .webp or .jpg" in done.stderr
    assert not list(tmp_path.iterdir())
    generate(*FLAGS, "--output-format", "png", "-o", str(tmp_path / f"out.{ending}"))  # as was said in so many words
    assert (tmp_path / f"out.{ending}").read_bytes().startswith(b"\x89PNG")
