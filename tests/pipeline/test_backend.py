"""What the program says about backends and memory, on a machine with or without a GPU: a build
without CUDA, or a machine without a driver, is told in one sentence and the CPU paints on."""

import json
import subprocess

import pytest

MIB = 1 << 20


def run(latentd, *arguments):
    return subprocess.run([latentd, *arguments], capture_output=True, text=True, timeout=120)


def plan(latentd, shape):
    done = run(latentd, "bench", "plan", shape, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_selftest_finds_the_cpu_right_and_names_what_a_gpu_lacks(latentd):
    done = run(latentd, "selftest", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = json.loads(done.stdout)["backends"]
    assert [(v["backend"], v["precision"]) for v in verdicts] == \
        [("cpu", "fp32"), ("cuda", "fp16"), ("cuda", "bf16")]
    assert verdicts[0]["there"] and verdicts[0]["right"] and verdicts[0]["error"] < 1e-5
    for verdict in verdicts[1:]:
        assert verdict["right"] == verdict["there"]
        assert verdict["there"] or "needed" in verdict["says"] or "build" in verdict["says"]
    assert "cpu  fp32  right" in run(latentd, "selftest").stdout


def test_selftest_of_a_backend_by_name_needs_it(latentd):
    there, says = cuda_says(latentd)
    done = run(latentd, "selftest", "--backend", "cuda")
    report = run(latentd, "selftest", "--backend", "cuda", "--json")
    verdicts = json.loads(report.stdout)["backends"]
    assert [v["precision"] for v in verdicts] == ["fp16", "bf16"]
    assert done.returncode == report.returncode == (0 if there else 1)
    if not there:
        assert done.stdout == "" and done.stderr == f"latentd selftest: {says}\n" == report.stderr
    # A missing driver is no failure of what is there, and is said all the same.
    auto = run(latentd, "selftest", "--backend", "auto")
    assert auto.returncode == 0 and auto.stderr == ""
    assert there or f"cuda fp16  not here: {says}" in auto.stdout
    cpu = run(latentd, "selftest", "--backend", "cpu")
    assert cpu.returncode == 0 and cpu.stdout.startswith("cpu  fp32  right") and "cuda" not in cpu.stdout
    for wrong in (["--backend"], ["--backend", "gpu"], ["--backend=cuda"], ["cuda"]):
        done = run(latentd, "selftest", *wrong)
        assert done.returncode == 2 and done.stderr.startswith("usage: ") and done.stdout == "", wrong


def test_plan_adds_up(latentd):
    one = plan(latentd, "1024x1024,1")
    assert one["width"] == one["height"] == 1024 and one["batch"] == 1
    # kernels.md 3: UNet 1.72 GB, text 0.25, decoder 0.10, encoder 0.07; phase kernels and padding.
    assert 2100 * MIB < one["weight_bytes"] < 2300 * MIB
    # Two of the full-size 256-channel maps are live at once: 1.1 to 1.4 GB.
    assert 1000 * MIB < one["vae_peak_bytes"] < 1400 * MIB
    assert one["total_bytes"] == one["weight_bytes"] + max(one["arena_bytes"], one["vae_peak_bytes"]) \
        + one["context_bytes"] + (one["workspace_bytes"] or 0) + one["library_bytes"]
    # The libraries' scratch, in a build that may open them.
    assert one["library_bytes"] in (0, 32 * MIB) and one["library_bytes"] <= 32 * MIB * (one["workspace_bytes"] is not None)
    assert ("libraries" in run(latentd, "bench", "plan", "1024x1024,1").stdout) == (one["library_bytes"] > 0)
    assert one["weight_bytes"] == sum(n["weight_bytes"] for n in one["networks"].values())
    # A ring of two of the largest weight, an upsampling convolution of 1280 channels in both its forms,
    # stands for all of them but the vectors.
    streamed = one["streamed"]
    assert 2 * 1280 * 1280 * 25 * 2 < streamed["ring_bytes"] < 170 * MIB
    assert 0 < streamed["weight_bytes"] < 4 * MIB
    assert streamed["total_bytes"] == one["total_bytes"] - one["weight_bytes"] + streamed["weight_bytes"] \
        + streamed["ring_bytes"]
    assert "streamed" in run(latentd, "bench", "plan", "1024x1024,1").stdout


def test_plan_grows_with_the_batch_and_decodes_one_by_one(latentd):
    one, four = plan(latentd, "512x512"), plan(latentd, "512x512,4")
    assert 3.5 < four["arena_bytes"] / one["arena_bytes"] < 4.5
    assert four["vae_peak_bytes"] == one["vae_peak_bytes"]
    assert four["step_operators"] == one["step_operators"] > 300
    assert four["weight_bytes"] == one["weight_bytes"]


def test_plan_refuses_what_is_no_size(latentd):
    for shape in ("512", "512x", "x512", "510x512", "512x512,0", "512x512,x", "0x0", "99999x64"):
        done = run(latentd, "bench", "plan", shape)
        assert done.returncode == 2 and "usage" in done.stderr, shape


def test_auto_paints_and_an_unknown_backend_is_refused(latentd, tiny_model, tmp_path):
    common = ("--model", str(tiny_model), "--size", "64x64", "--steps", "1", "--quiet")
    out = tmp_path / "auto.png"
    done = run(latentd, "generate", *common, "-o", str(out), "--backend", "auto", "a cat")
    assert done.returncode == 0, done.stderr
    assert out.exists()
    for flag, word, sentence in (("--backend", "gpu", "auto, cpu or cuda"),
                                 ("--precision", "fp8", "fp16 or bf16"),
                                 ("--stream-weights", "sometimes", "auto, on or off")):
        done = run(latentd, "generate", *common, "-o", str(out), flag, word, "a cat")
        assert done.returncode == 1 and sentence in done.stderr


def test_cuda_paints_or_says_what_it_needs(latentd, tiny_model, tmp_path):
    out = tmp_path / "cuda.png"
    done = run(latentd, "generate", "--model", str(tiny_model), "--size", "64x64", "--steps", "1",
               "--quiet", "-o", str(out), "--backend", "cuda", "a cat")
    if done.returncode == 0:
        assert out.exists()
    else:
        assert done.returncode == 1 and not out.exists()
        assert len(done.stderr.strip().splitlines()) == 1
        assert "needed" in done.stderr or "LATENTD_CUDA=ON" in done.stderr


def cuda_says(latentd):
    """(whether CUDA is there, what selftest says about it)."""
    verdicts = json.loads(run(latentd, "selftest", "--json").stdout)["backends"]
    cuda = next(v for v in verdicts if v["backend"] == "cuda")
    return cuda["there"], cuda["says"]


def test_serve_that_insists_on_cuda_starts_or_says_what_it_needs(latentd, tiny_model, tmp_path):
    there, says = cuda_says(latentd)
    if there:
        pytest.skip("this machine has a GPU")
    for extra in ([], ["--check-config"]):
        done = run(latentd, "serve", "--model", str(tiny_model), "--port", "0", "--state-dir",
                   str(tmp_path / "state"), "--backend", "cuda", *extra)
        assert done.returncode == 78, done.stderr
        sentences = [line for line in done.stderr.splitlines() if line.startswith("latentd: ")]
        assert sentences == ["latentd: " + says], done.stderr
        assert "needed" in says or "LATENTD_CUDA=ON" in says
        assert "listening" not in done.stdout
    assert not (tmp_path / "state").exists()  # nothing was begun


def test_serve_with_auto_falls_back_and_says_so(latentd, serve, tmp_path):
    there, says = cuda_says(latentd)
    if there:
        pytest.skip("this machine has a GPU")
    serve("--backend", "auto")
    log = (tmp_path / "server.log").read_text()
    if "LATENTD_CUDA=ON" in says:  # built for the CPU alone: nothing to explain
        assert "the CPU computes" not in log
    else:
        line = next(line for line in log.splitlines() if "the CPU computes" in line)
        assert says in line
