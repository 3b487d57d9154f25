"""Proves that `generate --tipo` paints the prompt that a TIPO model makes of the given one, and tells it:
the same again whatever the number of threads, in every picture of the job, and in a file that is painted
again where there is no such model; and that a model which cannot be used is named."""

import pathlib
import re
import subprocess

import pytest

TIPO = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo_model/files/demo-tipo.gguf"
ASKED = ("--prompt", "(red cat:1.2)", "--seed", "5", "--tipo", "--tipo-length", "very_short")


def told(done):
    [line] = re.findall(r"^prompt: (.*)$", done.stderr, re.M)
    return line


def test_the_prompt_that_is_told_is_the_one_that_is_painted(generate, tmp_path):
    first, plain = tmp_path / "first.png", tmp_path / "plain.png"
    prompt = told(generate(*ASKED, "--tipo-model", str(TIPO), "-o", str(first)))
    assert prompt.startswith("(red cat:1.2), ") and len(prompt) > len("(red cat:1.2), ")
    generate("--prompt", prompt, "--seed", "5", "-o", str(plain))
    assert first.read_bytes() == plain.read_bytes()
    again = generate("--replay", str(first), bare=True)
    assert "bit-identical" in again.stderr and "prompt:" not in again.stderr


def test_the_number_of_threads_does_not_matter(generate, tmp_path):
    out = ("-o", str(tmp_path / "out.png"))
    prompts = {told(generate(*ASKED, "--tipo-model", str(TIPO), "--threads", threads, *out)) for threads in ("1", "2", "3")}
    assert len(prompts) == 1


def test_seeds_and_temperature_decide(generate, tmp_path):
    def prompt(*flags):
        return told(generate(*ASKED, "--tipo-model", str(TIPO), *flags, "-o", str(tmp_path / "out.png")))

    assert len({prompt("--tipo-seed", str(seed)) for seed in range(6)}) > 1
    assert len({prompt("--tipo-seed", str(seed), "--tipo-temperature", "0") for seed in range(3)}) == 1
    assert prompt("--tipo-seed", "5") == prompt()  # the job's own


def test_all_pictures_of_a_job_have_one_prompt(generate, tmp_path):
    generate(*ASKED, "--tipo-model", str(TIPO), "--images", "2", "-o", str(tmp_path / "out.png"))
    [line] = {re.search(rb"\(red cat:1\.2\), [^\"\\\n]*", (tmp_path / f"out-{i}.png").read_bytes())[0] for i in range(2)}
    assert line


def test_sentences_are_written_where_they_are_asked_for(generate, tmp_path):
    def prompt(*flags):
        return told(generate(*ASKED, "--tipo-model", str(TIPO), *flags, "-o", str(tmp_path / "out.png")))

    text = "A red cat sits in the snow."
    assert text not in prompt("--tipo-text", text)
    assert text in prompt("--tipo-text", text, "--tipo-write", "both")
    assert prompt("--tipo-write", "text").endswith(".")


def test_a_server_extends_it_alike(serve, generate, latentd, tmp_path):
    server = serve("--tipo-model", str(TIPO))
    here = generate(*ASKED, "--tipo-model", str(TIPO), "-o", str(tmp_path / "here.png"))
    there = subprocess.run([latentd, "generate", "--server", server.url, *ASKED, "--size", "64x64", "--steps", "4",
                            "-o", str(tmp_path / "there.png")], capture_output=True, text=True, timeout=120)
    assert there.returncode == 0, there.stderr
    assert told(there) == told(here)
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "there.png").read_bytes()
    unknown = subprocess.run([latentd, "generate", "--server", server.url, "--prompt", "embedding:nothere", "--size", "64x64",
                              "--steps", "1", "-o", str(tmp_path / "x.png")], capture_output=True, text=True, timeout=120)
    assert "latentd: note: The embedding \"nothere\" is not known" in unknown.stderr and "prompt:" not in unknown.stderr


@pytest.mark.parametrize("file, sentence", [
    (None, "there is no TIPO model here; models.tipo_model (--tipo-model) names its .gguf file"),
    ("missing.gguf", "the TIPO model cannot be used: there is no such GGUF file"),
    ("text.gguf", "the TIPO model cannot be used: the file is no GGUF file"),
])
def test_a_model_that_cannot_be_used_is_named(generate, tmp_path, file, sentence):
    (tmp_path / "text.gguf").write_text("no model")
    flags = ("--tipo-model", str(tmp_path / file)) if file else ()
    done = generate(*ASKED, *flags, "-o", str(tmp_path / "out.png"), check=False)
    assert done.returncode == 1 and sentence in done.stderr and "prompt:" not in done.stderr
    assert not (tmp_path / "out.png").exists()
