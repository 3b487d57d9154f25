"""Proves that clients of NovelAI's image interface work unmodified: every point of api.md section 3
that is about them, numbered as there, and what their calls mean in native terms."""

import base64
import http.client
import io
import json
import struct
import zipfile

import pytest

from test_images import png
from test_keys import add

SMALL = {"width": 64, "height": 64, "steps": 4, "seed": 1, "n_samples": 1}


def body(action="generate", prompt="a cat", **parameters):
    return {"input": prompt, "model": "nai-diffusion-2", "action": action, "parameters": {**SMALL, **parameters}}


def generate(front, action="generate", **parameters):
    return front.post("/ai/generate-image", body(action, **parameters))


def pictures(answer):
    assert answer.status == 200, answer
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        return {info.filename: (info.compress_type, archive.read(info)) for info in archive.infolist()}


def texts(picture):
    found, at = {}, 8
    while at < len(picture):
        size, kind = struct.unpack(">I4s", picture[at:at + 8])
        data = picture[at + 8:at + 8 + size]
        if kind == b"tEXt":
            key, value = data.split(b"\0", 1)
            found[key.decode()] = value.decode("latin-1")
        elif kind == b"iTXt":
            key, rest = data.split(b"\0", 1)
            found[key.decode()] = rest.split(b"\0\0", 1)[1].lstrip(b"\0").decode()
        at += size + 12
    return found


def newest(front):
    return front.get("/v1/jobs?limit=1").json["jobs"][0]


def native(front, action="generate", **parameters):
    pictures(generate(front, action, **parameters))
    return newest(front)["request"]


def test_smea_is_the_native_one(front):
    assert native(front, sm=True)["smea"] == "on"
    assert native(front, sm=True, sm_dyn=True)["smea"] == "on"
    assert native(front, sm=False).get("smea", "off") == "off"


def test_point_34_a_stored_zip_with_signed_pictures(front):
    answer = generate(front, n_samples=2, seed=7, qualityToggle=True, ucPreset=1, sm=False, scale=6)
    assert answer.headers["Content-Type"] == "application/x-zip-compressed"
    found = pictures(answer)
    assert sorted(found) == ["image_0.png", "image_1.png"]
    for name, (method, picture) in found.items():
        assert method == zipfile.ZIP_STORED and picture.startswith(b"\x89PNG")
        told = texts(picture)
        assert {"Title", "Description", "Software", "Source", "Generation time", "Comment"} <= set(told)
        assert told["Software"] == "NovelAI" and told["Description"] == "a cat"
        comment = json.loads(told["Comment"])
        assert comment["seed"] == 7 + int(name[6]) and comment["steps"] == 4 and comment["scale"] == 6
        assert comment["qualityToggle"] is True and comment["ucPreset"] == 1
    assert pictures(generate(front, n_samples=2, seed=7, qualityToggle=True, ucPreset=1, sm=False, scale=6)) == found
    # The job's own picture has none of it, and its metadata reads as a latentd picture all the same.
    assert "Title" not in texts(front.picture(newest(front)["id"]))
    again = front.post("/v1/png-info", found["image_1.png"][1], headers={"Content-Type": "image/png"})
    assert again.json["source"] == "latentd"


def test_point_34_errors_have_their_shape(front):
    for action, fields, word in (("generate", {"steps": 51}, "steps"), ("generate", {"n_samples": 9}, "n_samples"),
                                 ("generate", {"width": 65}, "width"), ("generate", {"sampler": "k_none"}, "sampler"),
                                 ("img2img", {}, "image is required"), ("wander", {}, "action"),
                                 ("infill", {"image": base64.b64encode(png(64, 64)).decode()}, "mask is required")):
        refused = generate(front, action, **fields)
        assert refused.status == 400, refused
        assert set(refused.json) == {"statusCode", "message"} and refused.json["statusCode"] == 400
        assert word in refused.json["message"], refused
    assert front.post("/ai/generate-image", {"input": "a"}).status == 400
    assert front.post("/ai/generate-image", b"{").json["statusCode"] == 400
    assert front.get("/ai/nothing").json["statusCode"] == 404


def test_what_is_not_there_is_said(front):
    for field, value in (("controlnet_condition", "AAAA"), ("reference_image_multiple", ["AAAA"]),
                         ("characterPrompts", [{"prompt": "a"}])):
        refused = generate(front, **{field: value})
        assert refused.status == 400 and field in refused.json["message"], refused
    assert generate(front, reference_image_multiple=[], characterPrompts=[], controlnet_condition=None).status == 200
    for path in ("annotate-image", "encode-vibe", "augment-image"):
        refused = front.post("/ai/" + path, {"image": "AAAA"})
        assert refused.status == 400 and "latentd" in refused.json["message"], path
    odd = generate(front, wonder=1)
    assert "wonder" in odd.headers["X-Latentd-Warnings"]


def stream(front, kind, **parameters):
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
    sent = body(**parameters)
    if kind:
        sent["parameters"]["stream"] = kind
    connection.request("POST", "/ai/generate-image-stream", json.dumps(sent), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status == 200, content
    return answer.getheader("Content-Type"), content


def unpack(data):
    """The few forms of MessagePack that the stream has."""
    def one(at):
        kind = data[at]
        if kind & 0xF0 == 0x80:
            result, at = {}, at + 1
            for _ in range(kind & 0x0F):
                key, at = one(at)
                result[key], at = one(at)
            return result, at
        if kind & 0xE0 == 0xA0:
            size = kind & 0x1F
            return data[at + 1:at + 1 + size].decode(), at + 1 + size
        if kind == 0xCE:
            return struct.unpack(">I", data[at + 1:at + 5])[0], at + 5
        if kind == 0xCA:
            return struct.unpack(">f", data[at + 1:at + 5])[0], at + 5
        assert kind in (0xC6, 0xDB), hex(kind)
        size = struct.unpack(">I", data[at + 1:at + 5])[0]
        value = data[at + 5:at + 5 + size]
        return (value if kind == 0xC6 else value.decode()), at + 5 + size

    result, at = one(0)
    assert at == len(data)
    return result


def test_point_35_a_stream_of_server_sent_events(front):
    kind, content = stream(front, "sse", steps=9, n_samples=2)
    assert kind.startswith("text/event-stream")
    events = [json.loads(block.split("data: ", 1)[1]) for block in content.decode().split("\n\n") if "data: " in block]
    assert [e["event_type"] for e in events].count("final") == 2 and events[-1]["event_type"] == "final"
    assert any(e["event_type"] == "intermediate" and 0 < e["step_ix"] < 9 for e in events)
    assert {e["samp_ix"] for e in events if e["event_type"] == "final"} == {0, 1}
    final = base64.b64decode(events[-1]["image"])
    assert texts(final)["Software"] == "NovelAI"


@pytest.mark.parametrize("kind", ["msgpack", None])
def test_point_35_a_stream_of_messages(front, kind):
    kind, content = stream(front, kind, steps=9)
    assert kind == "application/x-msgpack"
    events, at = [], 0
    while at < len(content):
        size = struct.unpack(">I", content[at:at + 4])[0]
        events.append(unpack(content[at + 4:at + 4 + size]))
        at += 4 + size
    assert events[-1]["event_type"] == "final" and events[-1]["image"].startswith(b"\x89PNG")
    assert events[0]["event_type"] == "intermediate" and events[0]["image"].startswith(b"\x89PNG")
    assert events[0]["gen_id"] == events[-1]["gen_id"]


def test_point_35_other_encodings_are_refused(front):
    sent = body()
    sent["parameters"]["stream"] = "xml"
    refused = front.post("/ai/generate-image-stream", sent)
    assert refused.status == 400 and "stream" in refused.json["message"]


def test_a_stream_tells_of_a_failure(serve):
    front = serve("fail@2=numerical")
    _, content = stream(front, "sse")
    assert b"event: error" in content
    _, content = stream(front, "msgpack")
    assert unpack(content[4:])["event_type"] == "error"


def test_point_19_keys(serve, latentd, tmp_path):
    front = serve()
    key = add(latentd, tmp_path, "anna")
    refused = front.post("/ai/generate-image", body(), headers={"Authorization": "Bearer pst-wrong"})
    assert refused.status == 401 and refused.json["statusCode"] == 401
    for value in (key, "pst-" + key):
        answer = front.post("/ai/generate-image", body(), headers={"Authorization": "Bearer " + value})
        assert answer.status == 200, answer
    assert front.post("/ai/generate-image", body(), headers={"apikey": key}).status == 200


def test_programs_that_name_the_services_site_are_no_pages(front):
    origin = {"Origin": "https://novelai.net"}
    for headers in (origin, {**origin, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}):
        answer = front.post("/ai/generate-image", body(), headers=headers)
        assert answer.status == 200 and "Access-Control-Allow-Origin" not in answer.headers
    assert front.post("/ai/generate-image", body(), headers={**origin, "Content-Type": "text/plain"}).status == 400
    for method, path, headers in (("POST", "/ai/generate-image", {**origin, "Sec-Fetch-Site": "cross-site"}),
                                  ("OPTIONS", "/ai/generate-image", origin), ("POST", "/v1/jobs", origin),
                                  ("POST", "/ai/generate-image", {"Origin": "https://novelai.net.evil.example"})):
        assert front.call(method, path, body() if method == "POST" else None, headers=headers).status == 403, (method, path)


def test_point_36_prompts_in_any_script(front):
    found = pictures(front.post("/ai/generate-image", body(prompt="猫耳")))
    told = texts(found["image_0.png"][1])
    assert told["Description"] == "猫耳" and json.loads(told["Comment"])["prompt"] == "猫耳"
    assert b"tEXtDescription" in pictures(front.post("/ai/generate-image", body(prompt="café")))["image_0.png"][1]


def test_the_fields_mean_what_the_second_model_means(front):
    request = native(front, scale=11, sampler="k_dpmpp_2m", noise_schedule="karras", uncond_scale=0.5,
                     negative_prompt="fog", skip_cfg_above_sigma=19)
    assert request["syntax"] == "novelai" and request["cfg_scale"] == 11 and request["sampler"] == "dpmpp_2m"
    assert request["scheduler"] == "karras" and request["negative_prompt"] == "fog"
    assert request["guidance"]["uncond_scale"] == 0.5 and request["guidance"]["skip_above_sigma"] == 19
    request = native(front, uc="old")
    assert request["negative_prompt"] == "old" and request["sampler"] == "euler_ancestral"
    assert request["cfg_scale"] == 10 and request["scheduler"] == "normal" and request["clip_skip"] == 2
    # Written into the texts by the client, or not at all.
    assert native(front, qualityToggle=True, ucPreset=0)["prompt"] == "a cat"
    decrisper = native(front, dynamic_thresholding=True)["guidance"]["dynamic_threshold"]
    assert decrisper["mimic_scale"] == 10 and decrisper["percentile"] == 0.999


def test_pictures_in(front):
    picture = base64.b64encode(png(64, 64)).decode()
    init = native(front, "img2img", image=picture, strength=0.4, noise=0.1)["init"]
    assert init["strength"] == 0.4 and init["noise"] == 0.1
    init = native(front, "infill", image=picture, mask=picture, add_original_image=False)["init"]
    assert init["strength"] == 1 and init["paste_back"] is False and "id" in init["mask"]


def test_models_by_the_services_names(front):
    answer = front.post("/ai/generate-image", {**body(), "model": "nai-diffusion-3"})
    assert answer.status == 200 and "nai-diffusion-3" in answer.headers["X-Latentd-Warnings"]
    assert "nai-diffusion" not in generate(front).headers.get("X-Latentd-Warnings", "")
    assert front.post("/ai/generate-image", {**body(), "model": "nothing"}).status == 400


def test_suggestions_and_subscription(front):
    found = front.get("/ai/generate-image/suggest-tags?model=nai-diffusion-2&prompt=1girl,%20blue%20e").json["tags"]
    assert found[0]["tag"] == "blue eyes" and 0 < found[0]["confidence"] <= 1 and "count" in found[0]
    assert front.get("/ai/generate-image/suggest-tags?prompt=").json == {"tags": []}
    subscription = front.get("/user/subscription").json
    assert subscription["active"] and subscription["perks"]["unlimitedImageGeneration"]


def test_a_page_of_that_origin_gets_nothing_without_a_preflight(front):
    """What a browser sends unasked (a simple post) is refused, and so is the asking."""
    before = len(front.get("/v1/jobs?limit=100").json["jobs"])
    page = {"Origin": "https://novelai.net"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refused = front.post("/ai/generate-image", json.dumps(body()), headers={**page, "Content-Type": kind})
        assert refused.status in (400, 403, 415), (kind, refused)
    assert front.call("OPTIONS", "/ai/generate-image", headers={
        **page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}).status == 403
    crossed = front.post("/ai/generate-image", body(), headers={**page, "Sec-Fetch-Site": "cross-site"})
    assert crossed.status == 403
    assert len(front.get("/v1/jobs?limit=100").json["jobs"]) == before
