"""Proves the life of a job as a client sees it: queue, wait, result, cancel, delete, list, and one
job per idempotency key. Uses the scripted worker, whose steps take as long as the tag says."""

import hashlib
import json
import struct
import threading
import time

from front import read_events, request


def test_a_job_is_queued_runs_and_succeeds(front):
    answer = front.post("/v1/jobs", request(images=2, tag="mine", user_data={"k": [1]}))
    assert answer.status == 202, answer
    queued = answer.json
    assert queued["status"] in ("queued", "running")  # an idle worker begins while the answer is written
    assert answer.headers["Location"] == f"/v1/jobs/{queued['id']}" == queued["links"]["self"]
    job = front.wait(queued["id"])
    assert job["status"] == "succeeded" and "error" not in job
    told = [data["status"] for _, name, data in read_events(front, queued["links"]["events"]) if name == "status"]
    assert told == ["queued", "running", "succeeded"]
    assert job["progress"]["fraction"] == 1
    assert [image["seed"] for image in job["images"]] == [1, 2]
    assert job["request"]["seed"] == 1 and job["request"]["tag"] == "mine"
    assert job["timings"]["queue_ms"] >= 0 and job["unet_rows"] == 16
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    for image in job["images"]:
        body = front.get(image["url"]).body
        assert hashlib.sha256(body).hexdigest() == image["sha256"]
        assert len(body) == image["bytes"]
        assert struct.unpack(">II", body[16:24]) == (64, 64)


def test_a_job_says_what_computed_it_and_what_bf16_took_over(front):
    first = front.job(front.submit(tag="step_ms=200"))
    assert first["numerics"] == {} and first["repainted"] == 0
    for repainted in (0, 2):
        job = front.wait(front.submit(images=2, tag=f"repainted={repainted}"))
        assert job["numerics"] == {"backend": "script", "device": "none", "precision": "fp16"}
        assert job["repainted"] == repainted


def test_equal_requests_give_equal_bytes(front):
    first, second = (front.wait(front.submit(seed=77)) for _ in range(2))
    assert first["images"][0]["sha256"] == second["images"][0]["sha256"]
    assert front.picture(first["id"]) == front.picture(second["id"])


def test_a_random_seed_is_told(front):
    seeds = {front.wait(front.submit(seed=-1))["images"][0]["seed"] for _ in range(3)}
    assert len(seeds) == 3 and all(0 <= seed < 2**32 for seed in seeds)
    big = front.wait(front.submit(seed="18446744073709551615"))
    assert big["images"][0]["seed"] == "18446744073709551615"


def test_waiting_calls_answer_when_the_job_has_ended(front):
    for options in ({"headers": {"Prefer": "wait=20"}}, {"query": "?wait=20"}):
        began = time.monotonic()
        answer = front.post("/v1/jobs" + options.get("query", ""), request(tag="step_ms=50"),
                            headers=options.get("headers"))
        assert answer.status == 200 and answer.json["status"] == "succeeded", answer
        assert 0.2 <= time.monotonic() - began < 5
    failed = front.post("/v1/jobs?wait=20", request(tag="fail@1=device"))
    assert failed.status == 200 and failed.json["status"] == "failed"
    assert failed.json["error"]["code"] == "device"


def test_a_wait_that_runs_out_answers_202(front):
    answer = front.post("/v1/jobs?wait=1", request(tag="step_ms=600"))
    assert answer.status == 202 and answer.json["status"] == "running", answer
    assert answer.headers["Location"] == answer.json["links"]["self"]
    front.post(f"/v1/jobs/{answer.json['id']}/cancel")
    assert front.post("/v1/jobs?wait=x", request()).status == 422
    assert front.post("/v1/jobs?wait=-1", request()).status == 422


def test_accept_png_answers_with_the_picture_or_the_problem(front):
    answer = front.post("/v1/jobs", request(seed=5), headers={"Accept": "image/png"})
    assert answer.status == 200 and answer.headers["Content-Type"] == "image/png", answer
    job = front.job(answer.headers["X-Latentd-Job"])
    assert answer.headers["X-Latentd-Seed"] == "5"
    assert hashlib.sha256(answer.body).hexdigest() == job["images"][0]["sha256"]
    failed = front.post("/v1/jobs", request(tag="fail@1=gpu_out_of_memory"),
                        headers={"Accept": "image/png"})
    assert failed.status == 503 and int(failed.headers["Retry-After"]) > 0, failed
    assert failed.headers["Content-Type"] == "application/problem+json"
    late = front.post("/v1/jobs?wait=1", request(tag="step_ms=600"), headers={"Accept": "image/png"})
    assert late.status == 202 and late.json["status"] == "running"
    front.post(f"/v1/jobs/{late.json['id']}/cancel")


def test_cancel_is_idempotent_and_leaves_at_the_next_step(front):
    job_id = front.submit(steps=100, tag="step_ms=50")
    front.wait(job_id, ("running",))
    began = time.monotonic()
    first = front.post(f"/v1/jobs/{job_id}/cancel")
    assert first.status == 202 and first.json["status"] == "cancelling", first
    job = front.wait(job_id)
    assert job["status"] == "cancelled" and job["images"] == []
    assert time.monotonic() - began < 2
    again = front.post(f"/v1/jobs/{job_id}/cancel")
    assert again.status == 200 and again.json["status"] == "cancelled"
    done = front.wait(front.submit())
    assert front.post(f"/v1/jobs/{done['id']}/cancel").json["status"] == "succeeded"


def test_cancel_can_keep_the_partial_picture(front):
    job_id = front.submit(steps=100, images=2, tag="step_ms=30")
    front.wait(job_id, ("running",))
    front.post(f"/v1/jobs/{job_id}/cancel", {"keep_partial": True})
    job = front.wait(job_id)
    assert job["status"] == "cancelled" and len(job["images"]) == 1
    assert job["images"][0]["partial"] is True
    assert front.picture(job_id).startswith(b"\x89PNG")
    for bad in ({"keep_partial": 1}, {"keep": True}, []):
        assert front.post(f"/v1/jobs/{job_id}/cancel", bad).status == 422, bad


def test_a_queued_job_is_cancelled_at_once(serve):
    front = serve("step_ms=50", "--worker-jobs", "1")
    first = front.submit(steps=40)
    second = front.submit()
    front.wait(first, ("running",))
    assert front.job(second)["status"] == "queued" and front.job(second)["position"] == 0
    answer = front.post(f"/v1/jobs/{second}/cancel")
    assert answer.status == 200 and answer.json["status"] == "cancelled"
    front.post(f"/v1/jobs/{first}/cancel")


def test_a_deleted_job_is_gone_with_its_pictures(front):
    job = front.wait(front.submit(seed=909))
    url = job["images"][0]["url"]
    sha256 = job["images"][0]["sha256"]
    blob = front.folder / "state" / "blobs" / sha256[:2] / f"{sha256}.png"
    assert blob.exists()
    other = front.wait(front.submit(seed=909))  # the same bytes, one file
    assert front.call("DELETE", f"/v1/jobs/{job['id']}").status == 204
    assert front.get(f"/v1/jobs/{job['id']}").status == 404 and front.get(url).status == 404
    assert front.call("DELETE", f"/v1/jobs/{job['id']}").status == 404
    assert blob.exists() and front.picture(other["id"])
    assert front.call("DELETE", f"/v1/jobs/{other['id']}").status == 204
    assert not blob.exists()
    running = front.submit(steps=100, tag="step_ms=30")
    front.wait(running, ("running",))
    assert front.call("DELETE", f"/v1/jobs/{running}").status == 204
    assert front.get(f"/v1/jobs/{running}").status == 404
    assert front.wait(front.submit())["status"] == "succeeded"


def test_lists_are_paged_and_filtered(serve):
    front = serve()
    ids = [front.submit(seed=seed) for seed in range(5)]
    for job_id in ids:
        front.wait(job_id)
    failed = front.submit(tag="fail@1=device")
    front.wait(failed)
    seen, cursor = [], ""
    for _ in range(4):
        page = front.get(f"/v1/jobs?limit=2{cursor}").json
        seen += [job["id"] for job in page["jobs"]]
        if not page.get("next"):
            break
        cursor = f"&cursor={page['next']}"
    assert seen == ([*ids, failed])[::-1]
    only = front.get("/v1/jobs?status=failed").json["jobs"]
    assert [job["id"] for job in only] == [failed]
    for query in ("limit=0", "limit=101", "limit=x", "status=odd", "cursor=abc", "cursor=-1"):
        assert front.get(f"/v1/jobs?{query}").status == 422, query


def test_priority_decides_who_is_next(serve):
    front = serve("step_ms=20", "--worker-jobs", "1")
    first = front.submit(steps=20)
    front.wait(first, ("running",))
    low, high = front.submit(priority=1), front.submit(priority=5)
    assert front.job(high)["position"] == 0 and front.job(low)["position"] == 1
    assert front.wait(high)["finished_at"] <= front.wait(low)["started_at"]


def test_an_idempotency_key_makes_one_job(front):
    headers = {"Idempotency-Key": "k1"}
    body = request(seed=31)
    first = front.post("/v1/jobs", body, headers=headers)
    again = front.post("/v1/jobs", body, headers=headers)
    assert first.status == 202 and again.status in (200, 202)
    assert first.json["id"] == again.json["id"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    waited = front.post("/v1/jobs?wait=20", body, headers=headers)
    assert waited.status == 200 and waited.json["id"] == first.json["id"]
    other = front.post("/v1/jobs", request(seed=32), headers=headers)
    assert other.status == 422, other
    front.call("DELETE", f"/v1/jobs/{first.json['id']}")
    assert front.post("/v1/jobs", body, headers=headers).status == 410
    for bad in ("", "x" * 256):
        assert front.post("/v1/jobs", body, headers={"Idempotency-Key": bad}).status == 400


def test_parallel_duplicates_make_one_job(front):
    found = []

    def send():
        answer = front.post("/v1/jobs", request(seed=41), headers={"Idempotency-Key": "many"})
        found.append((answer.status, answer.json["id"]))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _ in found} <= {200, 202}  # 200: it had ended by then
    assert len(found) == 20 and len({job_id for _, job_id in found}) == 1


def test_the_queue_is_bounded(serve):
    front = serve("step_ms=200", "--worker-jobs", "1", "--limits-queued-per-key", "3")
    running = front.submit(steps=100)
    front.wait(running, ("running",))
    for _ in range(3):
        front.submit()
    full = front.post("/v1/jobs", request())
    assert full.status == 429 and int(full.headers["Retry-After"]) >= 1, full
    assert full.json["type"].endswith("queue_full")
    front.post(f"/v1/jobs/{running}/cancel")
    assert front.get("/readyz").status == 200


def test_wrong_values_are_all_listed(front):
    answer = front.post("/v1/jobs", {"prompt": 7, "steps": 0, "width": 63, "sampler": "eulr",
                                     "model": "none", "unknown": 1, "priority": 11})
    assert answer.status == 422
    pointers = {error["pointer"] for error in answer.json["errors"]}
    assert {"/prompt", "/steps", "/width", "/unknown", "/priority"} <= pointers, answer
    named = front.post("/v1/jobs", request(model="none", sampler="eulr"))
    assert named.status == 422
    assert {error["pointer"] for error in named.json["errors"]} >= {"/model", "/sampler"}
    malformed = front.post("/v1/jobs", b'{"prompt": "a",\n "steps": }')
    assert malformed.status == 400 and "line 2" in malformed.json["detail"]
    assert front.post("/v1/jobs", b"[]").status in (400, 422)
    assert json.loads(malformed.body)["instance"] == "/v1/jobs"
