"""Proves that clients of OpenAI's images interface work unmodified: every point of api.md section 3
that is about them, numbered as there, and what their calls mean in native terms."""

import base64
import http.client
import json

import pytest

from test_images import png
from test_keys import add

SMALL = {"prompt": "a cat", "size": "64x64", "steps": 4, "seed": 1}


def generate(front, path="/v1/images/generations", headers=None, **fields):
    return front.post(path, {**SMALL, **fields}, headers=headers)


def form(front, path, pictures, headers=None, **fields):
    body = b""
    for name, value in fields.items():
        body += b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (
            name.encode(), str(value).encode())
    for name, value in pictures:
        body += (b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n'
                 b"Content-Type: image/png\r\n\r\n%s\r\n" % (name.encode(), value))
    return front.post(path, body + b"--x--\r\n",
                      headers={"Content-Type": "multipart/form-data; boundary=x", **(headers or {})})


def newest(front):
    return front.get("/v1/jobs?limit=1").json["jobs"][0]


def stream(front, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
    connection.request("POST", "/v1/images/generations", json.dumps({**SMALL, "stream": True, **fields}),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    assert answer.getheader("Content-Type").startswith("text/event-stream")
    events = []
    for block in answer.read().decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            assert lines[0].startswith("event: ") and lines[1].startswith("data: ")
            events.append((lines[0][7:], json.loads(lines[1][6:])))
    connection.close()
    return events


def test_point_1_and_32_base64_by_default(front):
    for fields in ({}, {"response_format": "b64_json"}, {"size": "auto"}, {"n": 2.0}):
        answer = generate(front, **fields)
        assert answer.status == 200, answer
        for item in answer.json["data"]:
            assert base64.b64decode(item["b64_json"], validate=True).startswith(b"\x89PNG")
    assert len(answer.json["data"]) == 2 and answer.json["created"] > 1_700_000_000
    assert answer.json["usage"]["total_tokens"] == 0 and answer.json["output_format"] == "png"
    assert answer.headers["X-Request-Id"].startswith("req_")


def test_point_32_sizes(front):
    assert generate(front, size="128x64").json["size"] == "128x64"
    size = generate(front, size="auto").json["size"]
    assert size == "%dx%d" % tuple(newest(front)["request"][side] for side in ("width", "height"))
    for size in ("65x64", "big", "64x99999"):
        refused = generate(front, size=size)
        assert refused.status == 400 and refused.json["error"]["type"] == "invalid_request_error", refused


def test_point_32_models(front):
    for theirs in ("dall-e-3", "gpt-image-1", "gpt-image-1.5"):
        answer = generate(front, model=theirs)
        assert answer.status == 200 and any(theirs in w for w in answer.json["warnings"])
    assert not any("scripted" in w for w in generate(front, model="scripted").json["warnings"])
    refused = generate(front, model="nothing")
    assert refused.status == 404 and refused.json["error"]["code"] == "model_not_found"
    assert refused.json["error"]["param"] == "model"
    assert front.get("/v1/models/scripted").json["object"] == "model"
    assert front.get("/v1/models/nothing").status == 404


def test_point_32_errors_have_their_shape(front):
    for fields, param in (({"n": 11}, "n"), ({"n": 0}, "n"), ({"prompt": ""}, "prompt"), ({"steps": 999}, "steps"),
                          ({"quality": "best"}, "quality"), ({"background": "transparent"}, "background"),
                          ({"output_format": "gif"}, "output/format"), ({"partial_images": 4}, "partial_images"),
                          ({"response_format": "file"}, "response_format")):
        refused = generate(front, **fields)
        assert refused.status == 400, (fields, refused)
        error = refused.json["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["param"] == param, (fields, error)
    assert front.post("/v1/images/generations", b"{").json["error"]["type"] == "invalid_request_error"
    big = front.one_reply(b"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                          b"Content-Length: 999999\r\n\r\n{")
    assert big.status == 413 and big.json["error"]["message"]


def test_point_32_failures_say_whether_to_come_again(serve):
    front = serve("fail@1=numerical")
    failed = generate(front)
    assert failed.status == 500 and failed.headers["X-Should-Retry"] == "false"
    assert failed.json["error"]["type"] == "server_error"


def test_point_32_a_full_queue_is_a_rate_limit(serve):
    front = serve("step_ms=200", "--worker-jobs", "1", "--limits-queued-per-key", "1")
    front.submit(steps=50)
    front.wait(front.get("/v1/jobs").json["jobs"][0]["id"], ("running",))
    front.submit(steps=50)
    refused = generate(front)
    assert refused.status == 429 and refused.json["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["Retry-After"]) >= 1 and "X-Should-Retry" not in refused.headers


def test_point_33_streams_end_after_the_pictures(front):
    events = stream(front, n=2, partial_images=2, steps=9)
    names = [name for name, _ in events]
    assert names.count("image_generation.completed") == 2 and names[-1] == "image_generation.completed"
    partial = [data for name, data in events if name == "image_generation.partial_image"]
    assert partial and {data["partial_image_index"] for data in partial} <= {0, 1}
    for name, data in events:
        assert data["type"] == name and base64.b64decode(data["b64_json"]).startswith(b"\x89PNG")
        assert data["background"] == "opaque" and data["size"] == "64x64"
    assert "total_tokens" in events[-1][1]["usage"]
    assert [name for name, _ in stream(front, partial_images=0)] == ["image_generation.completed"]


def test_a_stream_tells_of_a_failure(serve):
    front = serve("fail@2=numerical")
    events = stream(front)
    assert [name for name, _ in events] == ["error"] and events[0][1]["error"]["type"] == "server_error"


def test_point_18_and_27_with_and_without_v1(front):
    assert generate(front, path="/images/generations").status == 200
    assert front.call("OPTIONS", "/v1/images/generations").status == 204
    assert front.get("/v1/models").json["object"] == "list"


def test_point_19_keys(serve, latentd, tmp_path):
    front = serve()
    key = add(latentd, tmp_path, "anna")
    refused = generate(front, headers={"Authorization": "Bearer sk-wrong"})
    assert refused.status == 401 and refused.json["error"]["code"] == "invalid_api_key"
    assert generate(front, headers={"Authorization": "Bearer " + key}).status == 200


def test_point_4_numbers_in_forms_are_texts(front):
    answer = form(front, "/v1/images/edits", [("image", png(64, 64))], prompt="blue", n="2", size="64x64",
                  steps="4", seed="7")
    assert answer.status == 200 and len(answer.json["data"]) == 2, answer
    request = newest(front)["request"]
    assert request["steps"] == 4 and request["seed"] == 7 and request["init"]["strength"] == 0.7


def test_edits_variations_and_masks(front):
    answer = form(front, "/v1/images/edits", [("image[]", png(64, 64)), ("image[]", png(64, 64)), ("mask", png(64, 64))],
                  prompt="blue", steps=4, strength=0.5)
    assert answer.status == 200, answer
    assert any("first of 2" in warning for warning in answer.json["warnings"])
    request = newest(front)["request"]
    assert request["init"]["mask_from"] == "transparent" and request["init"]["strength"] == 0.5
    assert (request["width"], request["height"]) == (64, 64)  # the picture's own
    assert form(front, "/images/variations", [("image", png(64, 64))], steps=4).status == 200
    for pictures, fields, param in (([], {"prompt": "a"}, "image"), ([("image", png(64, 64))], {}, "prompt"),
                                    ([("image", b"GIF89a")], {"prompt": "a"}, "init/image")):
        refused = form(front, "/v1/images/edits", pictures, **fields)
        assert refused.status == 400 and refused.json["error"]["param"] == param, refused
    assert front.post("/v1/images/edits", {"prompt": "a"}).status == 400  # no form


def test_what_others_added_is_taken(front):
    assert generate(front, num_inference_steps=3, steps=None, guidance_scale=5, negative_prompt="fog", sampler="euler",
                    scheduler="karras", clip_skip=1, loras=[{"name": "ink", "weight": 0.5}]).status == 200
    request = newest(front)["request"]
    assert request["steps"] == 3 and request["cfg_scale"] == 5 and request["negative_prompt"] == "fog"
    assert request["scheduler"] == "karras" and request["clip_skip"] == 1 and request["loras"][0]["name"] == "ink"


def test_what_has_no_meaning_is_said(front):
    answer = generate(front, quality="hd", style="vivid", output_compression=50, wonder=1)
    assert answer.status == 200
    for word in ("quality", "style", "output_compression", "wonder"):
        assert any(word in warning for warning in answer.json["warnings"]), word


def test_addresses_lead_to_the_pictures(front):
    answer = generate(front, response_format="url")
    url = answer.json["data"][0]["url"]
    assert url.startswith(f"http://127.0.0.1:{front.port}/v1/jobs/")
    picture = front.get(url[len(f"http://127.0.0.1:{front.port}"):])
    assert picture.status == 200 and picture.body.startswith(b"\x89PNG")


# ---- Calls that are sent again ----


def jobs(front):
    return front.get("/v1/jobs?limit=100").json["jobs"]


def tries(number):
    return {"X-Stainless-Retry-Count": str(number), "X-Stainless-Lang": "js"}


def test_a_second_try_of_the_sdk_is_not_painted_twice(serve):
    front = serve()
    fields = {"seed": None, "prompt": "a fox"}  # drawn: another painting would be another picture
    first = generate(front, headers=tries(0), **fields)
    second = generate(front, headers=tries(1), **fields)
    third = generate(front, headers=tries(2), **fields)
    assert first.status == second.status == third.status == 200
    assert len(jobs(front)) == 1 and second.headers["Idempotent-Replayed"] == "true"
    assert first.json["data"] == second.json["data"] == third.json["data"]
    # The same wish uttered anew, or another one, is a picture of its own.
    assert generate(front, headers=tries(0), **fields).json["data"] != first.json["data"]
    assert generate(front, headers=tries(1), prompt="a hen").status == 200
    assert generate(front, **fields).status == 200
    assert len(jobs(front)) == 4
    picture = [("image", png(64, 64))]
    edits = [form(front, "/v1/images/edits", picture, headers=tries(n), prompt="a") for n in (0, 1)]
    other = form(front, "/v1/images/edits", [("image", png(64, 32))], headers=tries(1), prompt="a")
    assert edits[0].json["data"] == edits[1].json["data"] != other.json["data"]
    assert len(jobs(front)) == 6


def test_a_second_try_joins_while_the_first_is_painted(serve):
    from test_a1111 import in_background, until
    front = serve("step_ms=60")
    body = json.dumps({**SMALL, "steps": 40, "seed": None}).encode()
    head = (b"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"X-Stainless-Retry-Count: 0\r\nContent-Length: %d\r\n\r\n" % len(body))
    lost, _ = in_background(lambda: front.raw(head + body, timeout=1.2))  # leaves in the middle
    until(lambda: jobs(front))
    answer = generate(front, headers=tries(1), steps=40, seed=None)
    lost.join()
    assert answer.status == 200 and len(jobs(front)) == 1
    assert newest(front)["status"] == "succeeded"


def test_a_second_try_of_what_failed_is_a_new_job(serve):
    front = serve("step_ms=60")
    body = json.dumps({**SMALL, "steps": 100}).encode()
    front.raw(b"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
              b"X-Stainless-Retry-Count: 0\r\nContent-Length: %d\r\n\r\n" % len(body) + body, timeout=0.5)
    front.wait(newest(front)["id"], ("cancelled",))
    from test_a1111 import in_background, until
    thread, box = in_background(lambda: generate(front, headers=tries(1), steps=100))
    until(lambda: len(jobs(front)) == 2)
    assert front.post("/sdapi/v1/interrupt").status == 200
    thread.join()


def test_an_idempotency_key_of_the_client_is_kept(front):
    key = {"Idempotency-Key": "order-of-openai"}
    first, second = generate(front, headers=key, seed=None), generate(front, headers=key, seed=None)
    assert first.json["data"] == second.json["data"] and second.headers["Idempotent-Replayed"] == "true"
    other = generate(front, headers=key, prompt="another")
    assert other.status == 400 and "Idempotency-Key" in other.json["error"]["message"]


def test_keys_do_not_share_their_tries(latentd, tmp_path, serve):
    one, two = add(latentd, tmp_path, "one"), add(latentd, tmp_path, "two")
    front = serve()
    answers = [generate(front, headers={**tries(n), "Authorization": "Bearer " + key}, seed=None)
               for n, key in ((0, one), (1, two))]
    assert answers[0].json["data"] != answers[1].json["data"]
