"""Proves that the commands of the documentation run as printed, in their order and by whoever copies them:
every `sh` block of a page goes into one shell against a fresh server with the demo model. No call may be
answered with an error except by the few routes that latentd has only to say no, and every route of the
contract is called."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from PIL import Image, ImageChops

from front import Front

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy/demo_model/files"
PAGES = ["docs/api.md", "docs/clients.md", "docs/quickstart.md", "docs/from-a1111.md", "docs/from-comfyui.md", "docs/from-novelai.md"]
REFUSED = {"/sdapi/v1/interrogate", "/controlnet/detect", "/ai/annotate-image", "/ai/encode-vibe", "/ai/augment-image"}
MARK = "@@call "
# curl, telling after each call what it asked and what came back
CURL = f"""curl() {{ command curl -w '%{{stderr}}{MARK}%{{http_code}} %{{method}} %{{url}}\\n' "$@"; }}
"""


def blocks(page):
    return [block for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.S) if "curl" in block]


def run(page, latentd, folder):
    """[(status, method, path)] of the page's calls, and the folder where they left their files."""
    models = folder / "models"
    models.mkdir()
    for name in ("demo.safetensors", "merges.txt"):
        shutil.copy(DEMO / name, models)  # a folder that models may be put into
    front = Front(latentd, folder, None, "--model-dir", str(models), "--adapter-dir", str(DEMO / "adapters"),
                  "--embedding-dir", str(DEMO / "embeddings"), "--controlnet-dir", str(DEMO / "controlnets"), "--tipo-model", str(DEMO / "demo-tipo.gguf"),
                  "--server-drain-s", "5")  # pages leave jobs behind that nobody waits for
    (folder / "bin").mkdir()
    (folder / "bin/latentd").symlink_to(latentd)
    work = folder / "work"
    work.mkdir()
    script = CURL + "\n".join(blocks(page)).replace("127.0.0.1:7860", f"127.0.0.1:{front.port}")
    env = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "STATE_DIRECTORY": str(folder / "state")}
    try:
        done = subprocess.run(["bash", "-eu", "-c", script], cwd=work, env=env, capture_output=True, text=True, errors="replace", timeout=600)  # ends a hang only
    finally:
        front.stop()
    calls = [line.split(" ", 2) for line in re.findall(rf"{MARK}(.*)", done.stderr)]
    assert done.returncode == 0, (calls[-3:], done.stderr[-1500:], done.stdout[-1500:])
    return [(int(code), method, re.sub(r"^http://[^/]*|\?.*$", "", url)) for code, method, url in calls], work


@pytest.fixture(scope="module")
def pages(latentd, tmp_path_factory):
    missing = [tool for tool in ("jq", "unzip") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"not here: {missing}")
    return {page: run(page, latentd, tmp_path_factory.mktemp("docs")) for page in PAGES}


def test_no_command_of_the_documentation_is_refused(pages):
    for page, (made, _) in pages.items():
        assert made, page
        wrong = [call for call in made if call[0] >= 400 and call[2].removeprefix("/api") not in REFUSED]
        assert not wrong, (page, wrong)


def test_the_same_picture_in_both_interfaces(pages):
    for page, theirs, ours in (("docs/from-a1111.md", "ball.png", "same.png"), ("docs/from-novelai.md", "image_0.png", "cat.png"),
                               ("docs/from-comfyui.md", "graph.png", "cat.png")):
        folder = pages[page][1]
        with Image.open(folder / theirs) as a, Image.open(folder / ours) as b:
            assert ImageChops.difference(a.convert("RGB"), b.convert("RGB")).getbbox() is None, page


def test_every_route_of_the_contract_is_called(pages):
    contract = json.loads((ROOT / "api/openapi.json").read_text())["paths"]
    made = {(method.lower(), path) for made, _ in pages.values() for _, method, path in made}
    silent = [f"{method} {path}" for path, methods in contract.items() for method in methods if method in ("get", "post", "delete", "put")
              and not any(method == verb and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), called) for verb, called in made)]
    assert not silent, silent
