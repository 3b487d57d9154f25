"""Proves that a picture which no worker's device can hold is refused at submit, by every way in and
in its own form of error, and nothing else is; and that a job which finds too little memory while it
runs is answered with 503. The scripted worker tells of a small device: 104 MiB hold 512x512."""

import base64
import time

import pytest

from front import request
from test_comfy import graph
from test_images import png
from test_metrics import scrape
from test_novelai import body as novelai

SENTENCE = ("a picture of 1024x1024 takes at least 116 MiB of GPU memory; the largest worker has 104 MiB, "
            "enough for about 512x512")
LARGE = {"width": 1024, "height": 1024}


@pytest.fixture
def small(serve):
    return serve("memory_mib=104")


def jobs(front):
    return front.get("/v1/jobs").json["jobs"]


def test_a_native_job_is_refused_with_the_field(small):
    for path in ("/v1/jobs", "/v1/jobs?wait=5", "/v1/plan"):
        refused = small.post(path, request(**LARGE))
        assert refused.status == 507, refused
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert "Retry-After" not in refused.headers  # it would never fit
        assert refused.json["type"] == "urn:latentd:problem:gpu_out_of_memory"
        assert refused.json["detail"] == SENTENCE
        assert refused.json["errors"] == [{"pointer": "/width", "message": SENTENCE}]
    assert jobs(small) == []
    fits = small.post("/v1/jobs?wait=10", request(width=512, height=512))
    assert fits.status == 200 and fits.json["status"] == "succeeded"
    assert small.post("/v1/plan", request(width=512, height=512)).status == 200


@pytest.mark.parametrize("size, fits", [((512, 512), True), ((520, 512), True), ((640, 504), True),
                                        ((640, 512), False), ((256, 1024), True), ((1280, 256), False)])
def test_the_area_counts(small, size, fits):
    answer = small.post("/v1/jobs", request(width=size[0], height=size[1]))
    assert answer.status == (202 if fits else 507), answer


def test_the_second_pass_counts(small):
    hires = {"scale": 2, "strength": 0.5}
    refused = small.post("/v1/jobs", request(width=512, height=512, hires=hires))
    assert refused.status == 507 and refused.json["detail"] == SENTENCE, refused
    assert refused.json["errors"][0]["pointer"] == "/hires"
    assert small.post("/v1/jobs", request(width=256, height=256, hires=hires)).status == 202


def test_a_sweep_is_refused_for_its_largest_cell(small):
    sweep = {"x": {"field": "size", "values": ["512x512", "1024x1024"]}}
    refused = small.post("/v1/jobs", request(sweep=sweep))
    assert refused.status == 507 and refused.json["detail"] == "cell 1 of the sweep: " + SENTENCE, refused
    sweep["x"]["values"].pop()
    assert small.post("/v1/jobs", request(sweep=sweep)).status == 202


def test_what_paints_nothing_fits(small):
    parsed = small.post("/v1/prompt/parse", {"prompt": "a cat"})  # at the default size it would not
    assert parsed.status == 200, parsed
    source = base64.b64encode(png(width=512, height=512)).decode()
    enlarged = small.post("/v1/jobs?wait=20", {"upscale": {"image": {"base64": source}, "scale": 4}})
    assert enlarged.status == 200 and enlarged.json["status"] == "succeeded", enlarged
    assert enlarged.json["images"][0]["width"] == 2048


def test_a_replay_is_refused(serve, small, tmp_path_factory):
    roomy = serve("", folder=tmp_path_factory.mktemp("roomy"))
    picture = roomy.picture(roomy.wait(roomy.submit(**LARGE))["id"])
    refused = small.post("/v1/replay", picture, headers={"Content-Type": "image/png"})
    assert refused.status == 507 and refused.json["detail"] == SENTENCE, refused


def test_the_dialects_refuse_in_their_own_form(small):
    refused = small.post("/sdapi/v1/txt2img", {"prompt": "a cat", "steps": 4, **LARGE})
    assert refused.status == 507, refused
    assert refused.json == {"error": "OutOfMemoryError", "detail": SENTENCE, "body": "", "errors": SENTENCE}
    hires = {"prompt": "a cat", "steps": 4, "width": 512, "height": 512, "enable_hr": True, "hr_scale": 2}
    assert small.post("/sdapi/v1/txt2img", hires).json["detail"] == SENTENCE
    init = base64.b64encode(png()).decode()
    refused = small.post("/sdapi/v1/img2img", {"prompt": "a cat", "steps": 4, "init_images": [init], **LARGE})
    assert refused.status == 507 and refused.json["detail"] == SENTENCE, refused

    refused = small.post("/v1/images/generations", {"prompt": "a cat", "size": "1024x1024", "steps": 4})
    assert refused.status == 507, refused
    assert refused.json == {"error": {"message": SENTENCE, "type": "server_error", "param": "width",
                                      "code": "gpu_out_of_memory"}}

    refused = small.post("/ai/generate-image", novelai(**LARGE))
    assert refused.status == 507 and refused.json == {"statusCode": 507, "message": SENTENCE}, refused

    refused = small.post("/prompt", {"prompt": graph(n5_width=1024, n5_height=1024)})
    assert refused.status == 507, refused
    assert refused.json == {"error": {"type": "gpu_out_of_memory", "message": SENTENCE, "details": SENTENCE,
                                      "extra_info": {}}, "node_errors": {}}
    assert jobs(small) == []


def test_refusals_are_counted_by_their_reason(serve):
    front = serve("memory_mib=104 step_ms=200", "--limits-queued-per-key", "3", "--worker-jobs", "1")

    def rejected():
        return {key: value for key, value in scrape(front).items() if key.startswith("latentd_jobs_rejected_total")}

    full, large, disk = (f'latentd_jobs_rejected_total{{reason="{reason}"}}'
                         for reason in ("queue_full", "gpu_out_of_memory", "storage_full"))
    assert rejected() == {full: 0, large: 0, disk: 0}
    assert front.post("/v1/plan", request(**LARGE)).status == 507
    assert front.post("/v1/jobs", request(width=65)).status == 422
    assert rejected() == {full: 0, large: 0, disk: 0}, "no job was refused, and one was for its caller's mistake"
    sweep = {"x": {"field": "size", "values": ["1024x1024", "1024x1024"]}}
    for path, body in (("/v1/jobs", request(**LARGE)), ("/v1/jobs", request(sweep=sweep)),
                       ("/sdapi/v1/txt2img", {"prompt": "a cat", "steps": 4, **LARGE}),
                       ("/prompt", {"prompt": graph(n5_width=1024, n5_height=1024)})):
        assert front.post(path, body).status == 507, path
    assert rejected() == {full: 0, large: 4, disk: 0}
    answers = [front.post("/v1/jobs", request(steps=20, seed=seed)).status for seed in range(8)]
    assert set(answers) == {202, 429} and rejected() == {full: answers.count(429), large: 4, disk: 0}, answers


def test_without_a_bound_nothing_is_refused(front):
    assert front.post("/v1/jobs", request(**LARGE)).status == 202


def test_two_workers_that_are_too_small_refuse(serve):
    front = serve("memory_mib=104", "--workers", "2")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # until the second one has spoken the job may have a place there
        refused = front.post("/v1/plan", request(**LARGE))
        if refused.status == 507:
            break
    assert refused.status == 507 and refused.json["detail"] == SENTENCE, refused


def test_memory_that_runs_out_while_it_runs_is_503(serve):
    front = serve("fail@1=gpu_out_of_memory")
    waiting = front.post("/v1/jobs", request(), headers={"Accept": "image/png"})
    assert waiting.status == 503 and int(waiting.headers["Retry-After"]) > 0, waiting
    assert waiting.json["type"] == "urn:latentd:problem:gpu_out_of_memory"
    job = front.post("/v1/jobs?wait=10", request())
    assert job.status == 200 and job.json["status"] == "failed"
    assert job.json["error"]["code"] == "gpu_out_of_memory", job
    small = {"width": 64, "height": 64, "steps": 4}
    for path, sent in (("/sdapi/v1/txt2img", {"prompt": "a cat", **small}),
                       ("/v1/images/generations", {"prompt": "a cat", "size": "64x64", "steps": 4}),
                       ("/ai/generate-image", novelai())):
        answer = front.post(path, sent)
        assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0, answer
        assert not path.startswith("/sdapi") or answer.json["error"] == "OutOfMemoryError", answer
    assert front.process.poll() is None and len(front.worker_pids()) == 1
