"""Proves that the server gives the same bytes as the command line, and that a worker's death costs
nothing but time. Starts the real server with the real engine on a tiny checkpoint."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
import pathlib

REQUEST = {"prompt": "cat, blue sky", "width": 64, "height": 64, "steps": 4, "seed": 11}
README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def wait_done(server, job, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = json.loads(server.get(f"/v1/jobs/{job}")[2])
        if state["status"] not in ("queued", "running", "cancelling"):
            return state
        time.sleep(0.05)
    raise AssertionError(f"job still {state['status']}")


def test_http_and_command_line_give_the_same_bytes(serve, generate, tmp_path, png):
    server = serve()
    status, headers, body = server.post("/v1/jobs", REQUEST, headers={"Accept": "image/png"})
    assert status == 200, body
    assert headers["X-Latentd-Seed"] == "11"
    generate("--prompt", REQUEST["prompt"], "--seed", "11")
    assert body == (tmp_path / "out.png").read_bytes()
    again = server.post("/v1/jobs?wait=60", REQUEST)
    job = json.loads(again[2])
    assert job["status"] == "succeeded"
    picture = server.get(job["images"][0]["url"])[2]
    assert picture == body and job["images"][0]["sha256"] == hashlib.sha256(body).hexdigest()


def test_the_remote_form_of_generate_gives_the_same_bytes(serve, generate, latentd, tmp_path):
    server = serve()
    generate("--prompt", "cat", "--seed", "4")
    done = subprocess.run([latentd, "generate", "--server", server.url, "--prompt", "cat", "--seed",
                           "4", "--size", "64x64", "--steps", "4", "-o", str(tmp_path / "r.png")],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_image_to_image_on_a_server_gives_the_same_bytes(serve, generate, latentd, tmp_path):
    server = serve()
    base, mask = tmp_path / "base.png", tmp_path / "mask.png"
    generate("--prompt", "cat", "--seed", "1", "-o", str(base))
    generate("--prompt", "dog", "--seed", "2", "-o", str(mask))
    flags = ("--prompt", "bird", "--seed", "3", "--init", str(base), "--init-strength", "0.6")
    for extra in ((), ("--mask", str(mask), "--init-mask-blur", "4")):
        generate(*flags, *extra)
        done = subprocess.run([latentd, "generate", "--server", server.url, "--size", "64x64",
                               "--steps", "4", *flags, *extra, "-o", str(tmp_path / "r.png")],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "r.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_bytes_do_not_depend_on_who_else_is_painting(serve):
    server = serve()
    wanted = [{**REQUEST, "seed": seed, "steps": 3 + seed % 4,
               "sampler": ("euler_ancestral", "dpmpp_2m", "dpmpp_sde", "gradient_estimation")[seed % 4],
               "cfg_scale": 4 + seed % 3} for seed in range(8)]
    alone = [server.post("/v1/jobs", body, headers={"Accept": "image/png"})[2] for body in wanted]
    crowd = [None] * len(wanted)

    def ask(index):
        crowd[index] = server.post("/v1/jobs", wanted[index], headers={"Accept": "image/png"})[2]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowd == alone


def test_a_killed_worker_is_replaced_and_the_job_gives_the_same_bytes(serve):
    server = serve()
    body = {**REQUEST, "width": 256, "height": 256, "steps": 60}
    expected = server.post("/v1/jobs", body, headers={"Accept": "image/png"})[2]
    job = json.loads(server.post("/v1/jobs", body)[2])["id"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = json.loads(server.get(f"/v1/jobs/{job}")[2])
        if state["status"] == "running" and state.get("progress", {}).get("step", 0) >= 2:
            break
        time.sleep(0.02)
    assert state["status"] == "running"
    pids = server.worker_pids()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    state = wait_done(server, job)
    assert state["status"] == "succeeded", state
    assert server.get(state["images"][0]["url"])[2] == expected


def test_a_killed_server_keeps_its_acknowledged_jobs(serve, tmp_path):
    server = serve()
    jobs = [json.loads(server.post("/v1/jobs", {**REQUEST, "seed": seed})[2])["id"]
            for seed in range(6)]
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server = serve()
    for job in jobs:
        state = wait_done(server, job)
        assert state["status"] == "succeeded" and len(state["images"]) == 1


def test_cancel_leaves_at_a_step_and_keeps_the_partial_picture(serve, png):
    server = serve()
    body = {**REQUEST, "width": 256, "height": 256, "steps": 150}
    job = json.loads(server.post("/v1/jobs", body)[2])["id"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = json.loads(server.get(f"/v1/jobs/{job}")[2])
        if state.get("progress", {}).get("step", 0) >= 2:
            break
        time.sleep(0.02)
    server.post(f"/v1/jobs/{job}/cancel", {"keep_partial": True})
    state = wait_done(server, job, 30)
    assert state["status"] == "cancelled"
    assert state["images"][0]["partial"] is True
    assert png(server.get(state["images"][0]["url"])[2]).width == 256


def test_previews_arrive_while_the_job_runs(serve, png):
    server = serve()
    body = {**REQUEST, "width": 256, "height": 256, "steps": 30,
            "preview": {"every": 5, "size": 96}}
    job = json.loads(server.post("/v1/jobs", body)[2])["id"]
    events = server.get(f"/v1/jobs/{job}/events")[2].decode()  # ends with the job
    previews = re.findall(r"event: preview\r?\ndata: (.*)", events)
    assert previews, events[-500:]
    for preview in map(json.loads, previews):
        assert png(base64.b64decode(preview["base64"])).width == 96


def test_self_attention_guidance_shows_each_preview_once(serve):
    server = serve()
    body = {**REQUEST, "steps": 6, "preview": {"every": 1}, "guidance": {"sag": 0.5}}
    job = json.loads(server.post("/v1/jobs", body)[2])["id"]
    events = server.get(f"/v1/jobs/{job}/events")[2].decode()
    previews = re.findall(r"event: preview\r?\ndata: (.*)", events)
    assert 1 <= len(previews) <= 6 and len(set(previews)) == len(previews), events


def test_progress_never_goes_back(serve):
    server = serve()
    body = {**REQUEST, "images": 2, "steps": 3, "sampler": "seeds_3",
            "hires": {"scale": 1.5, "steps": 2, "strength": 1}}
    job = json.loads(server.post("/v1/jobs", body)[2])["id"]
    events = server.get(f"/v1/jobs/{job}/events")[2].decode()
    fractions = [json.loads(data)["progress"]["fraction"]
                 for data in re.findall(r"event: progress\r?\ndata: (.*)", events)]
    assert len(fractions) > 4 and fractions == sorted(fractions), fractions


def test_replay_says_bit_identical(serve):
    server = serve()
    picture = server.post("/v1/jobs", REQUEST, headers={"Accept": "image/png"})[2]
    status, _, body = server.post("/v1/replay?wait=60", picture, headers={"Content-Type": "image/png"})
    answer = json.loads(body)
    assert status == 200 and answer["identical"] is True, answer
    assert answer["differences"] == [], answer


def test_replay_of_image_to_image_says_bit_identical(serve):
    server = serve()
    picture = base64.b64encode(server.post("/v1/jobs", REQUEST, headers={"Accept": "image/png"})[2])
    for mask in ({}, {"mask": {"base64": picture.decode()}, "mask_blur": 4}):
        body = {**REQUEST, "init": {"image": {"base64": picture.decode()}, "strength": 0.5, **mask}}
        made = server.post("/v1/jobs", body, headers={"Accept": "image/png"})[2]
        status, _, body = server.post("/v1/replay?wait=60", made, headers={"Content-Type": "image/png"})
        answer = json.loads(body)
        assert status == 200 and answer["identical"] is True, answer


def test_a_model_given_by_its_file_is_listed_with_its_hash(serve, tiny_model):
    (model,) = json.loads(serve().get("/v1/models")[2])["data"]
    assert model["sha256"] == hashlib.sha256(tiny_model.read_bytes()).hexdigest(), model
    assert model["prediction"] == "eps", model


def test_the_plan_tells_tokens_memory_and_warnings(serve):
    server = serve()
    status, _, body = server.post("/v1/plan", {**REQUEST, "width": 72})
    plan = json.loads(body)
    assert status == 200, plan
    assert plan["request"]["seed"] == 11 and plan["memory_bytes"] > 0
    assert any("64" in warning for warning in plan["warnings"])


def test_more_models_and_vaes_than_fit_wait_for_their_turn(serve, tiny_model, tmp_path):
    for folder in ("models", "vaes"):
        (tmp_path / folder).mkdir()
        for letter in "abcdefghi":
            os.link(tiny_model, tmp_path / folder / f"{letter}.safetensors")
    server = serve("--model-dir", str(tmp_path / "models"), "--vae-dir", str(tmp_path / "vaes"), model="a")
    jobs = [json.loads(server.post("/v1/jobs", {**REQUEST, "steps": 30, **other})[2])["id"]
            for letter in "abcdefghi" for other in ({"model": letter}, {"vae": letter})]
    for job in jobs:
        state = wait_done(server, job)
        assert state["status"] == "succeeded", state


def test_curl_examples_of_the_readme_run_as_printed(serve, tmp_path):
    server = serve()
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.S)
    commands = [block for block in blocks if block.lstrip().startswith("curl")]
    assert len(commands) >= 5
    for command in commands:
        assert "127.0.0.1:7860" in command
        done = subprocess.run(["bash", "-euo", "pipefail", "-c",
                               command.replace("127.0.0.1:7860", f"127.0.0.1:{server.port}")],
                              capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 0, command + done.stderr
        assert not re.search(r'"status": ?[45]\d\d', done.stdout), command + done.stdout
