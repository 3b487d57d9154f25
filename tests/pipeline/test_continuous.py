"""Proves what the continuous batch promises, on the real engine with a tiny checkpoint: a short job that
comes during a long one waits for a step of it and no more, jobs of one size run in one pass, and equal
prompts are encoded once. Prints its figures."""

import json
import re
import threading
import time

LONG = {"prompt": "a long one", "width": 256, "height": 256, "steps": 150, "seed": 1}
SHORT = {"prompt": "a short one", "width": 64, "height": 64, "steps": 1, "seed": 2}


def metrics(server):
    values = {}
    for line in server.get("/metrics")[2].decode().splitlines():
        found = re.match(r"^([^#].*) (\S+)$", line)
        if found:
            values[found[1]] = float(found[2])
    return values


def grew(before, after, start):
    return sum(value - before.get(name, 0) for name, value in after.items() if name.startswith(start))


def job(server, name):
    return json.loads(server.get(f"/v1/jobs/{name}")[2])


def submit(server, request):
    status, _, body = server.post("/v1/jobs", request)
    assert status == 202, body
    return json.loads(body)["id"]


def until(check, seconds=120):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_short(server, seed):
    begun = time.monotonic()
    status, _, body = server.post("/v1/jobs?wait=60", {**SHORT, "seed": seed})
    assert status == 200 and json.loads(body)["status"] == "succeeded", body
    return time.monotonic() - begun


def test_a_short_job_waits_for_one_step_of_a_long_one(serve, capsys):
    server = serve()
    run_short(server, 1)  # builds what later ones reuse
    alone = sorted(run_short(server, seed) for seed in range(10, 15))[2]
    long = submit(server, LONG)
    until(lambda: job(server, long).get("progress", {}).get("step", 0) >= 2)
    before, begun = metrics(server), time.monotonic()
    first_step = job(server, long)["progress"]["step"]
    waits = sorted(run_short(server, seed) for seed in range(20, 25))
    now = job(server, long)
    step = (time.monotonic() - begun) / max(1, now["progress"]["step"] - first_step)
    assert now["status"] == "running", "the long job must outlast the short ones for this to show anything"
    left = step * (150 - now["progress"]["step"])
    server.post(f"/v1/jobs/{long}/cancel", {})
    with capsys.disabled():
        print(f"\n  short job: {alone * 1e3:.0f} ms alone, {waits[2] * 1e3:.0f} ms (worst {waits[-1] * 1e3:.0f} ms) "
              f"beside a long one of {step * 1e3:.0f} ms a step with {left:.1f} s to go")
    # It joins behind the step at hand; its text, its own step and its decoding each let the long job do
    # one step in between.
    assert waits[2] <= alone + 4 * step + 0.2, (waits, alone, step)
    assert waits[2] < left / 2
    assert grew(before, metrics(server), "latentd_denoise_step_seconds_count") >= 5


def test_jobs_of_one_size_run_in_one_pass_and_equal_prompts_are_encoded_once(serve, capsys):
    server = serve()
    shape = {"width": 128, "height": 128, "steps": 30, "prompt": "the same prompt", "negative_prompt": "the same too"}
    run_short(server, 1)
    before = metrics(server)
    names = [submit(server, {**shape, "seed": seed}) for seed in range(4)]
    until(lambda: all(job(server, name)["status"] == "succeeded" for name in names))
    after = metrics(server)
    encoded = grew(before, after, 'latentd_text_contexts_total{result="encoded"}')
    shared = grew(before, after, 'latentd_text_contexts_total{result="shared"}')
    passes = grew(before, after, "latentd_batch_size_count")
    rows = grew(before, after, "latentd_batch_size_sum")
    with capsys.disabled():
        print(f"\n  four jobs of 30 steps: {passes:.0f} passes, {rows / passes:.1f} rows a pass; "
              f"{encoded:.0f} texts encoded, {shared:.0f} shared")
    assert encoded == 2 and shared == 6
    assert rows == 4 * 30 * 2
    assert passes < 4 * 30, "they were not batched"
