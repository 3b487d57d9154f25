"""Proves how pictures go out (tags, ranges, stripped metadata) and come in (uploads, inline, forms),
and that a picture's own metadata can be read and run again. Builds its own PNG files."""

import base64
import hashlib
import struct
import zlib

from front import request


def png(width=16, height=8, interlace=0, extra=b"", data=None):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    raw = b"".join(b"\0" + b"\x40\x80\xc0" * width for _ in range(height)) if data is None else data
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace)) +
            extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def upload(front, body, kind="image/png"):
    return front.post("/v1/images", body, headers={"Content-Type": kind})


def test_tags_ranges_and_conditions(front):
    job = front.wait(front.submit(seed=3))
    url, sha256 = job["images"][0]["url"], job["images"][0]["sha256"]
    whole = front.get(url)
    assert whole.headers["ETag"] == f'"{sha256}"'
    assert "immutable" in whole.headers["Cache-Control"]
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert "inline" in whole.headers["Content-Disposition"]
    for value in (f'"{sha256}"', f'W/"{sha256}"', "*", f'"other", "{sha256}"'):
        same = front.get(url, headers={"If-None-Match": value})
        assert same.status == 304 and same.body == b"", value
    assert front.get(url, headers={"If-None-Match": '"other"'}).status == 200
    size = len(whole.body)
    for text, first, last in (("0-9", 0, 9), ("10-", 10, size - 1), ("-7", size - 7, size - 1),
                              (f"5-{size + 100}", 5, size - 1)):
        part = front.get(url, headers={"Range": f"bytes={text}"})
        assert part.status == 206 and part.body == whole.body[first:last + 1], text
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    assert front.get(url, headers={"Range": f"bytes={size}-"}).status == 416
    assert front.get(url, headers={"Range": "bytes=-0"}).status == 416
    for ignored in ("lines=0-1", "bytes=0-1,3-4", "bytes=a-b", "bytes="):
        assert front.get(url, headers={"Range": ignored}).status == 200, ignored
    assert front.get(job["images"][0]["url"][:-1] + "1").status == 404


def test_metadata_can_be_left_out(front):
    job = front.wait(front.submit(seed=3, prompt="a secret cat"))
    url = job["images"][0]["url"]
    assert b"a secret cat" in front.get(url).body
    bare = front.get(url + "?metadata=none")
    assert bare.status == 200 and b"secret" not in bare.body and b"iTXt" not in bare.body
    assert bare.headers["ETag"] == f'"{hashlib.sha256(bare.body).hexdigest()}"'
    assert front.get(url + "?metadata=none", headers={"If-None-Match": bare.headers["ETag"]}).status == 304
    assert front.get(url + "?metadata=some").status == 422


def test_uploads_are_stored_once_and_used(front):
    picture = png()
    first = upload(front, picture)
    assert first.status == 201, first
    assert first.json["sha256"] == hashlib.sha256(picture).hexdigest()
    assert (first.json["width"], first.json["height"]) == (16, 8)
    assert upload(front, picture).json["id"] == first.json["id"]
    listed = front.get("/v1/images").json["images"]
    assert first.json["id"] in [item["id"] for item in listed]
    form = (b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n--x--\r\n")
    assert upload(front, form, "multipart/form-data; boundary=x").json["id"] == first.json["id"]
    job = front.wait(front.submit(init={"image": {"id": first.json["id"]}}))
    assert job["status"] == "succeeded" and job["request"]["init"]["image"] == {"id": first.json["id"]}
    inline = front.wait(front.submit(init={"image": {"base64": base64.b64encode(picture).decode()}}))
    assert inline["request"]["init"]["image"] == {"id": first.json["id"]}
    missing = front.post("/v1/jobs", request(init={"image": {"id": "0" * 26}}))
    assert missing.status == 422 and missing.json["errors"][0]["pointer"] == "/init/image"


def test_pictures_that_are_not_taken(front):
    assert upload(front, b"GIF89a" + bytes(100)).status == 415
    assert upload(front, png()[:30]).status == 415
    assert upload(front, png(interlace=1)).status == 415
    assert upload(front, png(5000, 5000, data=b"")).status == 413
    assert upload(front, png(0, 5, data=b"")).status == 415
    assert upload(front, png(), "image/gif").status == 415
    assert upload(front, b"").status == 400
    assert upload(front, b"--x\r\n", "multipart/form-data; boundary=x").status == 400
    bad = front.post("/v1/jobs", request(init={"image": {"base64": "AAAA"}}))
    assert bad.status == 415 or bad.status == 422


def test_png_info_tells_the_recipe(front):
    job = front.wait(front.submit(seed=8, prompt="told again"))
    told = front.post("/v1/png-info", front.picture(job["id"]), headers={"Content-Type": "image/png"})
    assert told.status == 200, told
    assert told.json["source"] == "latentd" and told.json["request"]["prompt"] == "told again"
    assert "latentd" in told.json["texts"]
    none = front.post("/v1/png-info", png(), headers={"Content-Type": "image/png"})
    assert none.status == 200 and none.json["source"] == "none"


def test_replay_is_bit_identical_or_says_why_not(front):
    job = front.wait(front.submit(seed=21))
    picture = front.picture(job["id"])
    again = front.post("/v1/replay", picture, headers={"Content-Type": "image/png"})
    assert again.status == 200 and again.json["identical"] is True, again
    assert again.json["differences"] == [] and again.json["job"]["id"] != job["id"]
    text = struct.pack(">I", 12) + b"tEXtComment\0hey\0"[:16]
    text += struct.pack(">I", zlib.crc32(text[4:]))
    other = front.post("/v1/replay", picture[:33] + text + picture[33:],
                       headers={"Content-Type": "image/png"})
    assert other.json["identical"] is False
    assert other.json["differences"] == ["the pixels are the same, the metadata differs"]
    assert front.post("/v1/replay", png(), headers={"Content-Type": "image/png"}).status == 422
