"""Proves that a finished picture is enlarged without a model, on the command line and by the real
engine, with the same bytes, and that what cannot be done is said in one sentence."""

import base64
import json
import subprocess


def upscale(latentd, *words):
    return subprocess.run([latentd, "upscale", *map(str, words)], capture_output=True, text=True, timeout=60)


def test_here_and_on_a_server_the_bytes_are_the_same(serve, generate, latentd, tmp_path, png):
    server = serve()
    generate("--prompt", "cat", "--seed", "4")
    source = (tmp_path / "out.png").read_bytes()
    done = upscale(latentd, tmp_path / "out.png", "--scale", "3", "-o", tmp_path / "large.png")
    assert done.returncode == 0 and "192x192" in done.stdout, done
    here = png((tmp_path / "large.png").read_bytes())
    assert (here.width, here.height) == (192, 192)
    assert here.text["parameters"].endswith("Postprocess upscaler: Lanczos")
    assert json.loads(here.text["latentd_source"])["request"]["seed"] == 4
    body = {"upscale": {"image": {"base64": base64.b64encode(source).decode()}, "scale": 3},
            "output": {"metadata": "none"}}
    status, _, there = server.post("/v1/jobs", body, headers={"Accept": "image/png"})
    assert status == 200, there
    bare = upscale(latentd, tmp_path / "out.png", "--scale=3", "--metadata", "none", "-o", tmp_path / "bare.png")
    assert bare.returncode == 0 and there == (tmp_path / "bare.png").read_bytes()
    job = json.loads(server.post("/v1/jobs?wait=60", body)[2])
    assert job["status"] == "succeeded" and job["progress"]["fraction"] == 1
    plan = json.loads(server.post("/v1/plan", body)[2])
    assert plan["unet_rows"] == 0 and plan["request"]["upscale"]["width"] == 192


def test_what_cannot_be_done_is_said(generate, latentd, tmp_path):
    generate("--prompt", "cat")
    picture = tmp_path / "out.png"
    (tmp_path / "text.png").write_text("no picture")
    for words, sentence in (((picture, "--scale", "9"), "between 1 and 8"), ((), "a picture is needed"),
                            ((picture, "--width", "64"), "together"), ((picture, "--steps", "3"), "no flag --steps"),
                            ((tmp_path / "none.png",), "none.png"), ((tmp_path / "text.png",), "text.png"),
                            ((picture, "-o", tmp_path / "no" / "x.png"), "no/x.png"), ((picture, "--scale"), "needs a value")):
        done = upscale(latentd, *words)
        assert done.returncode in (1, 2) and sentence in done.stderr, (words, done)
        assert done.stderr.startswith("latentd: ") and len(done.stderr.splitlines()) == 1
