"""Proves that the measuring verbs measure: each prints one JSON document whose figures are there and
fit each other, a picture has the same bits in any company, and wrong usage is one sentence."""

import json
import subprocess

import pytest

SMALL = ("--backend", "cpu", "--threads", "2", "--size", "64x64", "--steps", "3", "--rounds", "2")


def bench(latentd, *words, status=0):
    done = subprocess.run([latentd, "bench", *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == status, done.stderr
    return done


def document(latentd, what, model, *words):
    return json.loads(bench(latentd, what, "--model", model, "--json", *SMALL, *words).stdout)


def in_order(times, rounds=2):
    assert times["rounds"] >= rounds
    return 0 < times["p10_ms"] <= times["median_ms"] <= times["p90_ms"]


def test_step_and_image(latentd, tiny_model):
    step = document(latentd, "step", tiny_model)
    assert in_order(step["step"]) and step["flop"] > 0 and step["tflops"] > 0
    image = document(latentd, "image", tiny_model, "--stream")
    assert image["streamed"] is False  # there is nothing to stream to on a CPU
    phases = [image[name]["median_ms"] for name in ("text", "steps", "decode")]
    assert all(in_order(image[name]) for name in ("text", "steps", "decode", "total"))
    assert image["step_count"] == 3 and image["nonfinite"] == 0 and image["total"]["p90_ms"] >= max(phases)


def test_serve_counts_pictures_and_compares_their_bits(latentd, tiny_model):
    found = document(latentd, "serve", tiny_model, "--batch", "6")
    assert [row["in_flight"] for row in found["rows"]] == [1, 2, 4]
    for row in found["rows"]:
        assert row["same_bits"] is True
        assert row["pictures"] >= max(2, 2 * row["in_flight"])
        rate = row["pictures"] / row["seconds"]
        assert row["pictures_per_second"] == pytest.approx(rate, rel=1e-3)
        # Steps of a full batch, three for each picture and no more than all that were made.
        assert in_order(row["step"]) and in_order(row["decode"]) and in_order(row["text"])
        assert row["step"]["rounds"] * row["in_flight"] <= 3 * (row["pictures"] + row["in_flight"])


def test_serve_ends_with_its_time(latentd, tiny_model):
    """The first row is always there; what would take longer than was given is not begun."""
    done = bench(latentd, "serve", "--model", tiny_model, "--json", *SMALL, "--batch", "64", "--rounds",
                 "100", "--seconds", "1")
    rows = json.loads(done.stdout)["rows"]
    assert [row["in_flight"] for row in rows] == [1, 2, 4, 8, 16, 32, 64][:len(rows)] and 1 <= len(rows) < 7
    assert f"no time for {2 * rows[-1]['in_flight']} in flight" in done.stderr


def test_kernels(latentd, tiny_model):
    found = document(latentd, "kernels", tiny_model)
    ceilings, rows = found["rows"][:2], found["rows"][2:]
    assert ceilings[0]["tflops"] > 0 and ceilings[1]["gbps"] > 0
    assert len(rows) > 20 and all(in_order(row["time"]) for row in rows)
    for row in rows:  # a doubled map's values are four alike: four of nine taps
        flop = row["flop"] * (4 / 9 if " up" in row["op"] else 1)
        floor = max(1e-9 * flop / ceilings[0]["tflops"], 1e-6 * row["bytes"] / ceilings[1]["gbps"])
        assert row["floor_ms"] == pytest.approx(floor, rel=1e-3)
    assert any(" up" in row["op"] for row in rows)
    # The median rounded to five digits, over the floor.
    assert all(row["ratio"] == pytest.approx(row["time"]["median_ms"] / row["floor_ms"], rel=1e-3)
               for row in rows)


@pytest.mark.parametrize("words, sentence", [
    (("serve",), "--model FILE is needed"),
    (("serve", "--model", "absent.safetensors"), "there is no such model file"),
    (("step", "--rounds", "0"), "--rounds takes 1 to 1000, not '0'"),
    (("image", "--size", "65x64"), "--size takes WxH, both multiples of 8 from 8 to 4096, not '65x64'"),
    (("serve", "--seconds", "0"), "--seconds takes 1 to 86400, not '0'"),
    (("serve", "--batch", "65"), "--batch takes 1 to 64, not '65'"),
    (("step", "--precision", "fp8"), "--precision takes fp16 or bf16, not 'fp8'"),
    (("step", "--model"), "--model takes a checkpoint"),
    (("step", "--sise", "64x64"), "unknown option '--sise'"),
    (("stride",), "unknown 'stride'"),
])
def test_wrong_usage_is_one_sentence(latentd, words, sentence):
    done = subprocess.run([latentd, "bench", words[0], "--backend", "cpu", *words[1:]], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode not in (0, -6, -11) and done.stdout == ""
    assert sentence in done.stderr.splitlines()[0]
