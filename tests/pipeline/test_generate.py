"""Proves that `latentd generate` turns a prompt into a picture, the same bytes each time, and that
what goes wrong is said in one sentence. Runs the real program on a tiny checkpoint."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest

SAMPLERS = 40  # at least this many must exist
FLAT = 64      # fewer distinct bytes than this are no picture; the tiny model paints 160 or more


def picture(tmp_path, name="out.png"):
    return (tmp_path / name).read_bytes()


def test_a_prompt_becomes_a_picture(generate, tmp_path, png):
    generate("--prompt", "1girl, blue sky", "--size", "96x64")
    image = png(picture(tmp_path))
    assert (image.width, image.height, image.depth, image.colour) == (96, 64, 8, 2)
    assert len(set(image.pixels())) > FLAT, "a flat picture is no picture"


def test_the_same_request_gives_the_same_bytes_whatever_the_threads(generate, tmp_path):
    flags = ("--prompt", "cat", "--seed", "7", "--sampler", "dpmpp_sde")
    generate(*flags, "--threads", "1", "-o", str(tmp_path / "a.png"))
    generate(*flags, "--threads", "2", "-o", str(tmp_path / "b.png"))
    generate(*flags, "--threads", "2", "-o", str(tmp_path / "c.png"))
    assert picture(tmp_path, "a.png") == picture(tmp_path, "b.png") == picture(tmp_path, "c.png")


def test_seed_and_prompt_change_the_picture(generate, tmp_path):
    seen = set()
    for flags in (("--seed", "1"), ("--seed", "2"), ("--seed", "1", "--prompt", "red house"),
                  ("--seed", "1", "--negative-prompt", "red"), ("--seed", "1", "--cfg-scale", "3")):
        generate(*(("--prompt", "a") if "--prompt" not in flags else ()), *flags)
        seen.add(picture(tmp_path))
    assert len(seen) == 5


def test_image_i_of_a_job_is_the_single_image_of_seed_plus_i(generate, tmp_path, png):
    generate("--prompt", "cat", "--seed", "10", "--images", "3", "-o", str(tmp_path / "many.png"))
    for index in range(3):
        generate("--prompt", "cat", "--seed", str(10 + index), "-o", str(tmp_path / "one.png"))
        assert picture(tmp_path, f"many-{index}.png") == picture(tmp_path, "one.png")


def test_pictures_of_one_batch_do_not_mix_where_deep_shrink_changes_only_the_width(generate, tmp_path):
    flags = ("--size", "80x64", "--deep-shrink-block", "11", "--deep-shrink-end", "1")
    generate(*flags, "--seed", "10", "--images", "2", "-o", str(tmp_path / "many.png"))
    for index in range(2):
        generate(*flags, "--seed", str(10 + index), "-o", str(tmp_path / "one.png"))
        assert picture(tmp_path, f"many-{index}.png") == picture(tmp_path, "one.png")


def test_every_sampler_and_scheduler_paints(generate, latentd, tmp_path, png):
    listing = json.loads(subprocess.run([latentd, "generate", "--list", "samplers", "--json"],
                                        capture_output=True, text=True, check=True).stdout)
    assert len(listing) >= SAMPLERS
    for sampler in listing:
        generate("--prompt", "cat", "--sampler", sampler["name"], "--steps", "3")
        assert len(set(png(picture(tmp_path)).pixels())) > FLAT, sampler["name"]
    schedulers = json.loads(subprocess.run([latentd, "generate", "--list", "schedulers", "--json"],
                                           capture_output=True, text=True, check=True).stdout)
    assert len(schedulers) >= 15
    for scheduler in schedulers:
        generate("--prompt", "cat", "--scheduler", scheduler["name"], "--steps", "4")
        assert len(set(png(picture(tmp_path)).pixels())) > FLAT, scheduler["name"]


@pytest.mark.parametrize("flags", [
    ("--guidance-rescale", "0.7"), ("--guidance-uncond-zero-scale", "0.75"),
    ("--guidance-auto-cfg-mode", "hard"), ("--guidance-skip-above-sigma", "5"),
    ("--guidance-dynamic-threshold-mimic-scale", "5"), ("--guidance-apg-eta", "0.5"),
    ("--guidance-pag", "3"), ("--guidance-sag", "0.5"), ("--guidance-freeu-version", "v2"),
    ("--guidance-perp-neg", "1"), ("--deep-shrink-factor", "2"), ("--hires-scale", "1.5"),
    ("--variation-strength", "0.3"), ("--clip-skip", "1"), ("--syntax", "comfy"),
    ("--profile", "a1111"), ("--noise", "philox"), ("--sigmas", "14.6,5,2,0.5,0"),
])
def test_each_feature_changes_the_picture(generate, tmp_path, flags):
    base = ("--prompt", "(cat:1.2) in [red|blue] box, sky", "--negative-prompt", "dog",
            "--seed", "3", "--sampler", "euler_ancestral")
    generate(*base)
    plain = picture(tmp_path)
    generate(*base, *flags)
    assert picture(tmp_path) != plain


UPSCALERS = ("latent-bislerp", "latent-nearest", "latent-nearest-exact", "latent-bilinear",
             "latent-bicubic", "latent-area", "latent-bilinear-aa", "latent-bicubic-aa",
             "pixel-nearest-exact", "pixel-bilinear", "pixel-bicubic", "pixel-area", "pixel-lanczos")


def test_a_prompt_stands_beside_every_kind_of_flag(latentd, tmp_path):
    """Each line is read whole: what it then fails on is the model, or what it would have known."""
    for line in (("cat", "--quality-tags", "--undesired", "heavy"), ("--rating", "general", "cat"),
                 ("--undesired", "none", "--quality-tags", "cat"), ("--quality-tags=v2", "cat"),
                 ("--steps", "2", "--", "--cat"), ("--wildcards", "cat")):
        done = subprocess.run([latentd, "generate", "--model", str(tmp_path / "absent"), *line],
                              capture_output=True, text=True)
        assert done.returncode != 0 and ("absent" in done.stderr or "this model has no such" in
                                         done.stderr), (line, done.stderr)
        assert "second prompt" not in done.stderr, (line, done.stderr)
    done = subprocess.run([latentd, "generate", "cat", "--", "dog"], capture_output=True, text=True)
    assert "'dog' is a second prompt" in done.stderr


def test_every_upscaler_makes_its_own_second_pass(generate, tmp_path, png):
    seen = set()
    for upscaler in UPSCALERS:
        generate("--prompt", "cat", "--seed", "3", "--hires-scale", "1.5", "--hires-upscaler",
                 upscaler, "--steps", "3")
        image = png(picture(tmp_path))
        assert (image.width, image.height) == (96, 96)
        seen.add(picture(tmp_path))
    assert len(seen) == len(UPSCALERS)


def test_prompt_schedules_alternation_and_and(generate, tmp_path):
    seen = set()
    for prompt in ("cat", "[cat:dog:0.5]", "[cat|dog]", "cat AND dog", "cat BREAK dog",
                   "(cat:1.5) dog", "cat dog"):
        generate("--prompt", prompt, "--seed", "1")
        seen.add(picture(tmp_path))
    assert len(seen) == 7


def test_image_to_image_and_inpainting(generate, tmp_path, png):
    generate("--prompt", "cat", "--seed", "1", "-o", str(tmp_path / "base.png"))
    generate("--prompt", "dog", "--seed", "2", "--init", str(tmp_path / "base.png"),
             "--init-strength", "0.5")
    assert picture(tmp_path) != picture(tmp_path, "base.png")
    weak = tmp_path / "weak.png"
    generate("--prompt", "dog", "--seed", "2", "--init", str(tmp_path / "base.png"),
             "--init-strength", "0.05", "-o", str(weak))
    base = png(picture(tmp_path, "base.png")).pixels()
    difference = [sum(abs(a - b) for a, b in zip(base, png(other).pixels()))
                  for other in (weak.read_bytes(), picture(tmp_path))]
    assert difference[0] < difference[1], "a lower strength stays nearer"


@pytest.mark.parametrize("flags, words", [
    (("--steps", "0"), ("steps", "1", "150")),
    (("--steps", "many"), ("steps",)),
    (("--size", "65x64"), ("width", "8")),
    (("--sampler", "eular"), ("sampler", "euler")),
    (("--scheduler", "simpel"), ("scheduler", "simple")),
    (("--cfg-scale", "99"), ("cfg_scale", "30")),
    (("--nonsense", "1"), ("nonsense",)),
    (("--clip-skip", "13"), ("clip_skip", "12")),
    (("--clip-skip", "12"), ("clip_skip", "model 'tiny'")),
    (("--hyper-steps", "8"), ("hyper", "no adapter with a recipe", "loras")),
    (("--prompt", "<lora:missing:1>"), ("missing",)),
    (("--sigmas", "1,2"), ("sigmas", "decreasing")),
    (("--init-strength", "0.5"), ("--init",)),
    (("--init", "/dev/null"), ("/dev/null", "empty")),
    (("--deep-shrink-factor", "0.5"), ("deep_shrink.factor", "1", "9")),
])
def test_bad_values_get_one_sentence_that_names_field_and_bound(generate, tmp_path, flags, words):
    done = generate(*(("--prompt", "cat") if "--prompt" not in flags else ()), *flags, check=False)
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT)
    assert len(done.stderr.strip().splitlines()) <= 3
    for word in words:
        assert word in done.stderr, done.stderr
    assert not (tmp_path / "out.png").exists()


def test_a_model_that_is_not_one_is_refused_by_name(latentd, tmp_path):
    (tmp_path / "page.safetensors").write_text("<html>not found</html>")
    done = subprocess.run([latentd, "generate", "--model", str(tmp_path / "page.safetensors"),
                           "--prompt", "x", "-o", str(tmp_path / "o.png")],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and done.stderr.startswith("latentd: ")
    assert not (tmp_path / "o.png").exists()


def test_ctrl_c_stops_cleanly_and_leaves_no_half_file(latentd, tiny_model, tmp_path):
    process = subprocess.Popen(
        [latentd, "generate", "--model", str(tiny_model), "--prompt", "cat", "--size", "512x512",
         "--steps", "150", "-o", str(tmp_path / "out.png")], stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert os.listdir(tmp_path) == []


def test_a_picture_that_cannot_be_written_says_which_and_why(generate, tmp_path):
    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = generate("--prompt", "cat", check=False, preexec_fn=no_room)
    assert done.returncode == 1
    assert "out.png" in done.stderr and "File too large" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_events_are_json_lines(generate, tmp_path):
    done = generate("--prompt", "cat", "--json", "--seed", "5")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "done" and "progress" in kinds and "image" in kinds
    image = next(event for event in events if event["event"] == "image")
    assert image["seed"] == 5 and image["width"] == 64


def test_what_a_job_has_to_say_is_told_once(generate, tmp_path):
    unknown = ("--prompt", "cat, embedding:nothere")
    note = 'latentd: note: The embedding "nothere" is not known and was left out.\n'
    assert note in generate(*unknown).stderr
    assert generate(*unknown, "--sweep", "steps=1,2", "-o", str(tmp_path / "sheet.png")).stderr.count(note) == 1
    assert "nothere" not in generate(*unknown, "--quiet").stderr
    lines = [json.loads(line) for line in generate(*unknown, "--json").stdout.splitlines()]
    assert "nothere" in lines[-1]["warnings"][0]


def test_metadata_reads_back(generate, latentd, tmp_path, png):
    generate("--prompt", "cat, (sky:1.2)", "--negative-prompt", "dog", "--seed", "123")
    text = png(picture(tmp_path)).text
    assert text["parameters"].startswith("cat, (sky:1.2)\nNegative prompt: dog\nSteps: 4")
    assert "Seed: 123" in text["parameters"] and "Size: 64x64" in text["parameters"]
    assert json.loads(text["latentd"])["request"]["seed"] == 123
    assert "KSampler" in text["prompt"]
    done = subprocess.run([latentd, "png-info", "--json", str(tmp_path / "out.png")],
                          capture_output=True, text=True, check=True)
    info = json.loads(done.stdout)
    assert info["request"]["prompt"] == "cat, (sky:1.2)" and info["request"]["seed"] == 123
    generate("--prompt", "cat", "--output-metadata", "none")
    assert png(picture(tmp_path)).text == {}


@pytest.mark.skipif(not shutil.which("exiftool"), reason="needs exiftool (libimage-exiftool-perl)")
def test_exiftool_reads_the_metadata(generate, tmp_path):
    generate("--prompt", "\u732b, cat", "--seed", "9")
    done = subprocess.run(["exiftool", "-json", "-Parameters", str(tmp_path / "out.png")],
                          capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["Parameters"].startswith("\u732b, cat")


@pytest.mark.skipif(not shutil.which("pngcheck"), reason="needs pngcheck")
def test_pngcheck_is_content(generate, tmp_path):
    generate("--prompt", "cat")
    subprocess.run(["pngcheck", "-q", str(tmp_path / "out.png")], check=True)
