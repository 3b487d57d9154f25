"""Proves that a finished picture is enlarged as a job like any other: natively, by A1111's extras and
by NovelAI's call; that its pixels are the filter's, that it keeps what it was made from, and that
bounds, keys, cancelling and counting hold for it. The scripted worker enlarges as the engine does."""

import base64
import io
import struct
import zipfile
import zlib

import pytest

from test_a1111 import in_background, until
from test_images import png, upload
from test_keys import add, bearer
from test_novelai import texts

DIALECT_ERROR = {"error", "detail", "body", "errors"}


def pixels(picture):
    """Size and rows of an RGB PNG of ours."""
    at, data = 8, b""
    while at < len(picture):
        size, kind = struct.unpack(">I4s", picture[at:at + 8])
        if kind == b"IHDR":
            width, height = struct.unpack(">II", picture[at + 8:at + 16])
        elif kind == b"IDAT":
            data += picture[at + 8:at + 8 + size]
        at += size + 12
    raw, stride, rows, above = zlib.decompress(data), 3 * width + 1, [], bytes(3 * width)
    for y in range(height):
        kind, line = raw[y * stride], bytearray(raw[y * stride + 1:(y + 1) * stride])
        for i in range(3 * width):
            left, up = line[i - 3] if i >= 3 else 0, above[i]
            corner = above[i - 3] if i >= 3 else 0
            near = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
            line[i] = (line[i] + (0, left, up, (left + up) // 2, near)[kind]) & 255
        rows.append(bytes(line))
        above = line
    return width, height, rows


def half_and_half(width=8, height=4):
    """Black on the left, white on the right."""
    row = b"\0" + b"\0\0\0" * (width // 2) + b"\xff\xff\xff" * (width - width // 2)
    return png(width, height, data=row * height)


def enlarged(front, picture, headers=None, **fields):
    body = {"upscale": {"image": {"base64": base64.b64encode(picture).decode()}, **fields}}
    answer = front.post("/v1/jobs?wait=20", body, headers=headers)
    assert answer.status == 200, answer
    assert answer.json["status"] == "succeeded", answer
    return answer.json


def extra(front, **fields):
    return front.post("/sdapi/v1/extra-single-image",
                      {"image": base64.b64encode(png(32, 16)).decode(), "upscaler_1": "Lanczos", **fields})


def shape(picture):
    return struct.unpack(">II", picture[16:24])


def test_a_picture_is_enlarged_by_its_filter(front):
    job = enlarged(front, half_and_half(), scale=2, upscaler="pixel-nearest-exact")
    width, height, rows = pixels(front.picture(job["id"]))
    assert (width, height) == (16, 8)
    assert all(row == bytes(24) + b"\xff" * 24 for row in rows)
    image = job["images"][0]
    assert (image["width"], image["height"], image["seed"]) == (16, 8, 0)
    assert job["request"]["upscale"]["width"] == 16 and "prompt" not in job["request"]
    smooth = enlarged(front, half_and_half(), scale=2)
    assert smooth["request"]["upscale"]["upscaler"] == "pixel-lanczos"
    row = pixels(front.picture(smooth["id"]))[2][4]
    assert row[0] == 0 and row[-1] == 255 and 0 < row[21] < 128 < row[24] < 255


def test_sizes_are_fitted_as_asked(front):
    for fields, size in (({"width": 20, "height": 20}, (20, 20)), ({"scale": 1.5}, (12, 6)),
                         ({"width": 20, "height": 20, "resize": "crop"}, (20, 20)),
                         ({"width": 20, "height": 20, "resize": "pad"}, (20, 20)),
                         ({"width": 20, "height": 20, "resize": "cover"}, (40, 20))):
        job = enlarged(front, half_and_half(), **fields)
        assert shape(front.picture(job["id"])) == size, fields
    padded = enlarged(front, png(8, 4), width=16, height=16, resize="pad", upscaler="pixel-area")
    rows = pixels(front.picture(padded["id"]))[2]
    assert rows[0] == bytes(48) and rows[8] == b"\x40\x80\xc0" * 16


def test_it_says_what_it_was_made_from(front):
    first = front.wait(front.submit(prompt="a red fox", seed=9))
    picture = front.picture(first["id"])
    made = texts(front.picture(enlarged(front, picture, scale=2)["id"]))
    assert made["parameters"].startswith("a red fox\n") and "Seed: 9" in made["parameters"]
    assert made["parameters"].endswith("Postprocess upscale to: 128x128, Postprocess upscaler: Lanczos")
    assert "a red fox" in made["latentd_source"] and '"source_sha256"' in made["latentd"]
    bare = front.post("/v1/jobs?wait=20", {"output": {"metadata": "none"}, "upscale": {
        "image": {"base64": base64.b64encode(picture).decode()}}}).json
    assert texts(front.picture(bare["id"])) == {}
    # What it says can be run again, as the picture is still here.
    again = front.post("/v1/replay?wait=20", front.picture(enlarged(front, picture)["id"]),
                       headers={"Content-Type": "image/png"})
    assert again.status in (200, 202), again


def test_equal_requests_give_equal_bytes(front):
    jobs = [enlarged(front, half_and_half(), scale=3) for _ in range(2)]
    assert jobs[0]["id"] != jobs[1]["id"]
    assert jobs[0]["images"][0]["sha256"] == jobs[1]["images"][0]["sha256"]


@pytest.mark.parametrize("fields,pointer", [
    ({"prompt": "a cat"}, "/prompt"), ({"steps": 4}, "/steps"), ({"images": 2}, "/images"),
    ({"sweep": {"x": {"field": "steps", "values": [1]}}}, "/sweep"), ({"hires": True}, "/hires"),
    ({"priority": 6}, "/priority")])
def test_other_fields_have_no_meaning_beside_it(front, fields, pointer):
    body = {"upscale": {"image": {"base64": base64.b64encode(png()).decode()}}, **fields}
    refused = front.post("/v1/jobs", body)
    assert refused.status in (403, 422) and refused.json["errors"][0]["pointer"] == pointer, refused


def test_delivery_goes_with_it(front):
    body = {"upscale": {"image": {"base64": base64.b64encode(png()).decode()}}, "tag": "mine",
            "user_data": {"a": 1}, "priority": 3, "output": {"compression": 9}}
    job = front.post("/v1/jobs?wait=20", body).json
    assert job["status"] == "succeeded" and job["request"]["tag"] == "mine"
    assert job["request"]["priority"] == 3 and job["request"]["output"]["compression"] == 9


def test_bounds_are_named(front):
    for fields, word in (({"scale": 9}, "between 1 and 8"), ({"width": 9000, "height": 10}, "between 1 and 8192"),
                         ({"width": 64}, "together"), ({"upscaler": "esrgan"}, "upscale.upscaler"),
                         ({"width": 8192, "height": 8192}, "16777216 pixels")):
        refused = front.post("/v1/jobs", {"upscale": {"image": {"base64": base64.b64encode(png()).decode()}, **fields}})
        assert refused.status == 422 and word in refused.json["errors"][0]["message"], (fields, refused)
    assert front.post("/v1/jobs", {"upscale": {}}).json["errors"][0]["pointer"] == "/upscale/image"
    tall = front.post("/v1/jobs", {"upscale": {"scale": 8, "image": {
        "base64": base64.b64encode(png(8, 1100)).decode()}}})
    assert tall.status == 422 and tall.json["errors"][0]["pointer"] == "/upscale/scale"
    broken = front.post("/v1/jobs?wait=20", {"upscale": {"image": {
        "base64": base64.b64encode(png(16, 8, data=b"\0")).decode()}}})
    assert broken.status == 200 and broken.json["status"] == "failed", broken


def test_a_keys_area_bounds_it(latentd, tmp_path, serve):
    small = add(latentd, tmp_path, "small", "--area-max", "4096")
    front = serve()
    assert enlarged(front, png(64, 64), headers=bearer(small), scale=4)["images"][0]["width"] == 256
    refused = front.post("/v1/jobs", {"upscale": {"scale": 5, "image": {
        "base64": base64.b64encode(png(64, 64)).decode()}}}, headers=bearer(small))
    assert refused.status == 422 and "65536 pixels" in refused.json["errors"][0]["message"]


def test_it_counts_and_belongs_to_its_key(latentd, tmp_path, serve):
    a, b = add(latentd, tmp_path, "a"), add(latentd, tmp_path, "b")
    front = serve()
    job = enlarged(front, png(64, 64), headers=bearer(a), scale=2)
    today = front.get("/v1/me", headers=bearer(a)).json["usage"]["today"]
    assert today["megapixel_steps"] > 0 and today["images"] == 1, today
    assert front.get(f"/v1/jobs/{job['id']}", headers=bearer(b)).status == 404
    assert front.get(f"/v1/jobs/{job['id']}/images/0", headers=bearer(b)).status == 404
    kept = front.post("/v1/images", png(24, 24), headers={**bearer(a), "Content-Type": "image/png"}).json
    theirs = front.post("/v1/jobs", {"upscale": {"image": {"id": kept["id"]}}}, headers=bearer(b))
    assert theirs.status == 422 and theirs.json["errors"][0]["pointer"] == "/upscale/image"
    mine = front.post("/v1/jobs?wait=20", {"upscale": {"image": {"id": kept["id"]}}}, headers=bearer(a))
    assert mine.status == 200 and mine.json["images"][0]["width"] == 48


def test_it_is_counted_by_kind_and_planned(front):
    enlarged(front, png())
    metrics = front.get("/metrics").body.decode()
    assert any(line.startswith('latentd_jobs_submitted_total{kind="upscale"} ') and float(line.split()[-1]) >= 1
               for line in metrics.splitlines())
    plan = front.post("/v1/plan", {"upscale": {"image": {"base64": base64.b64encode(png()).decode()}}})
    assert plan.status == 200 and plan.json["request"]["upscale"]["width"] == 32, plan


def test_it_can_be_cancelled(serve):
    front = serve("step_ms=100")
    body = {"upscale": {"image": {"base64": base64.b64encode(png()).decode()}}}
    job_id = front.post("/v1/jobs", body).json["id"]
    assert front.post(f"/v1/jobs/{job_id}/cancel", {"keep_partial": True}).status in (200, 202)
    job = front.wait(job_id)
    assert job["status"] == "cancelled" and job["images"] == []


# ---- A1111 ----


def test_extras_of_a1111(front):
    answer = extra(front, upscaling_resize=4)
    assert answer.status == 200 and set(answer.json) == {"html_info", "image", "warnings"}
    assert shape(base64.b64decode(answer.json["image"], validate=True)) == (128, 64)
    for fields, size in (({}, (64, 32)), ({"upscaling_resize": 1}, (32, 16)),
                         ({"resize_mode": 1, "upscaling_resize_w": 48, "upscaling_resize_h": 48}, (48, 48)),
                         ({"resize_mode": 1, "upscaling_resize_w": 48, "upscaling_resize_h": 48,
                           "upscaling_crop": False}, (96, 48)),
                         ({"upscaler_1": "None"}, (32, 16)), ({"upscaler_1": None}, (32, 16)),
                         ({"upscaler_1": "nearest", "show_extras_results": True, "upscale_first": True,
                           "gfpgan_visibility": 0, "codeformer_visibility": 0, "codeformer_weight": 0.5,
                           "upscaler_2": "None", "extras_upscaler_2_visibility": 0}, (64, 32))):
        answer = extra(front, **fields)
        assert answer.status == 200, (fields, answer)
        assert shape(base64.b64decode(answer.json["image"])) == size, fields
    prefixed = extra(front, image="data:image/png;base64," + base64.b64encode(png(8, 8)).decode())
    assert prefixed.status == 200


def test_every_listed_upscaler_works(front):
    names = [upscaler["name"] for upscaler in front.get("/sdapi/v1/upscalers").json]
    assert names[0] == "None" and "Lanczos" in names
    for name in names:
        assert extra(front, upscaler_1=name).status == 200, name


def test_what_extras_lack_is_refused_in_their_shape(front):
    for fields, word in (({"gfpgan_visibility": 0.5}, "face restoration"), ({"codeformer_visibility": 1}, "face restoration"),
                         ({"upscaler_1": "R-ESRGAN 4x+"}, "no upscaler R-ESRGAN"),
                         ({"upscaler_2": "Nearest", "extras_upscaler_2_visibility": 0.5}, "two upscalers"),
                         ({"resize_mode": 2}, "resize_mode"), ({"upscaling_resize": 9}, "between 1 and 8"),
                         ({"image": None}, "image is required"), ({"image": "http://127.0.0.1/a.png"}, "no URL is fetched")):
        refused = extra(front, **fields)
        assert refused.status == 422 and set(refused.json) == DIALECT_ERROR, (fields, refused)
        assert word in refused.json["detail"], (fields, refused)


def test_interrupted_extras_are_an_error(serve):
    front = serve("step_ms=100")
    thread, box = in_background(lambda: extra(front))
    until(lambda: front.get("/sdapi/v1/progress").json["progress"] > 0)
    assert front.post("/sdapi/v1/interrupt").status == 200
    thread.join(20)
    assert set(box["answer"].json) == DIALECT_ERROR, box


# ---- NovelAI ----


def test_upscale_of_novelai(front):
    picture = base64.b64encode(png(32, 16)).decode()
    for scale in (2, 4):
        answer = front.post("/ai/upscale", {"image": picture, "width": 32, "height": 16, "scale": scale})
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/x-zip-compressed", answer
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            assert [(i.filename, i.compress_type) for i in archive.infolist()] == [("image_0.png", zipfile.ZIP_STORED)]
            assert shape(archive.read("image_0.png")) == (32 * scale, 16 * scale)
    for fields, word in (({"scale": 3}, "2 or 4"), ({"width": 64}, "32x16"), ({"image": None}, "image is required"),
                         ({"image": "data"}, "image")):
        refused = front.post("/ai/upscale", {"image": picture, "width": 32, "height": 16, "scale": 2, **fields})
        assert refused.status == 400 and set(refused.json) == {"statusCode", "message"}, (fields, refused)
        assert word in refused.json["message"], (fields, refused)
