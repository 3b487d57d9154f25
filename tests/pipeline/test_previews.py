"""Proves that previews of a running job go through the server's TAESD decoder where it has one and
the job does not say otherwise, down to the colours of the pixels; and that a decoder that is missing
or cannot be used is told in the job, whose previews then show the latent's own colours. The numbers
of the decoder itself: tests/unit/test_taesd.c."""

import base64
import io
import json
import struct
import urllib.request

import pytest
from PIL import Image

WIDTH = 8
COLOUR = (0.25, 0.5, 1.5)  # what the file below always paints; beyond 1 is white


def layers():
    """The convolutions of the layout: name, rows, columns, bias."""
    yield "1", WIDTH, 4, True
    number = 3
    for _ in range(3):
        for _ in range(3):
            for part in (0, 2, 4):
                yield f"{number}.conv.{part}", WIDTH, WIDTH, True
            number += 1
        yield str(number + 1), WIDTH, WIDTH, False
        number += 2
    for part in (0, 2, 4):
        yield f"{number}.conv.{part}", WIDTH, WIDTH, True
    yield str(number + 1), 3, WIDTH, True


@pytest.fixture
def decoder(tmp_path):
    """A file whose last bias alone is not zero: every picture is of one known colour."""
    header, data = {}, b""
    for name, rows, columns, bias in layers():
        parts = [("weight", [rows, columns, 3, 3], [0.0] * (rows * columns * 9))]
        if bias:
            parts.append(("bias", [rows], list(COLOUR) if rows == 3 else [0.0] * rows))
        for part, shape, values in parts:
            packed = struct.pack(f"<{len(values)}f", *values)
            header[f"{name}.{part}"] = {"dtype": "F32", "shape": shape,
                                        "data_offsets": [len(data), len(data) + len(packed)]}
            data += packed
    text = json.dumps(header).encode()
    path = tmp_path / "taesd_decoder.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def previews(server, **preview):
    """The previews of one job, and what it was warned about them."""
    body = {"prompt": "a cat", "width": 64, "height": 128, "steps": 3, "seed": 1, "preview": {"every": 1, **preview}}
    status, _, answer = server.post("/v1/jobs", body)
    assert status == 202, answer
    job = json.loads(answer)["id"]
    found = []
    with urllib.request.urlopen(f"{server.url}/v1/jobs/{job}/events", timeout=60) as stream:
        name = ""
        for line in stream:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: ") and name == "preview":
                found.append(base64.b64decode(json.loads(line[6:])["base64"]))
            elif line.startswith(b"data: ") and name == "done":
                break
    told = json.loads(server.get(f"/v1/jobs/{job}")[2])
    assert told["status"] == "succeeded", told
    return found, [warning for warning in told["warnings"] if "preview" in warning]


def pixels(picture):
    """Every pixel; rows are unfiltered only where the writer chose so, so all filters are undone."""
    stride, before, rows = picture.width * 3, bytes(picture.width * 3), []
    for y in range(picture.height):
        line = bytearray(picture.raw[y * (stride + 1):(y + 1) * (stride + 1)])
        kind, line = line[0], line[1:]
        for i in range(stride):
            left, above = (line[i - 3] if i >= 3 else 0), before[i]
            corner = before[i - 3] if i >= 3 else 0
            p = left + above - corner
            nearest = min((left, above, corner), key=lambda v: abs(p - v))
            line[i] = (line[i] + (0, left, above, (left + above) // 2, nearest)[kind]) & 255
        before = bytes(line)
        rows.append(before)
    return {tuple(row[i:i + 3]) for row in rows for i in range(0, stride, 3)}


def test_previews_are_decoded_where_the_server_can(serve, decoder, png):
    server = serve("--preview-decoder", str(decoder))
    for wish in ({}, {"decoder": "taesd"}, {"decoder": "auto", "size": 96}):
        found, warnings = previews(server, **wish)
        assert found and not warnings, warnings
        for data in found:
            picture = png(data)
            assert (picture.width, picture.height) == (wish.get("size", 256) // 2, wish.get("size", 256))
            assert pixels(picture) == {(63, 127, 255)}
    found, warnings = previews(server, decoder="latent")
    assert found and not warnings
    assert all(len(pixels(png(data))) > 1 for data in found)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_previews_are_made_in_the_format_that_is_asked_for(serve, decoder, kind):
    server = serve("--preview-decoder", str(decoder))
    name = kind.lower()
    if name not in json.loads(server.get("/version")[2])["formats"]:
        pytest.skip(f"built without {name}")
    found, warnings = previews(server, format=name, size=96)
    assert found and not warnings, warnings
    for data in found:
        picture = Image.open(io.BytesIO(data))
        assert picture.format == kind and picture.size == (48, 96)
        for channel, wanted in zip(picture.convert("RGB").getextrema(), (63, 127, 255)):
            assert wanted - 4 <= channel[0] <= channel[1] <= wanted + 4, picture.getextrema()


def test_a_missing_decoder_is_told_in_the_job(serve, png):
    server = serve()
    found, warnings = previews(server, decoder="taesd")
    assert found and all(len(pixels(png(data))) > 1 for data in found)
    assert warnings == ["previews show the latent's own colours: the server has no TAESD decoder"]
    assert not previews(server)[1]
    status, _, answer = server.post("/v1/jobs", {"prompt": "x", "preview": {"decoder": "vae"}})
    assert status == 422 and "/preview/decoder" in answer.decode()


@pytest.mark.parametrize("harm", ["truncated", "foreign"])
def test_a_file_that_is_no_decoder_harms_no_job(serve, decoder, tiny_model, harm):
    if harm == "truncated":
        decoder.write_bytes(decoder.read_bytes()[:-8])
    server = serve("--preview-decoder", str(decoder if harm == "truncated" else tiny_model))
    found, warnings = previews(server)
    assert found and len(warnings) == 1, warnings
    assert warnings[0].startswith("previews show the latent's own colours: ")
    assert str(decoder) not in warnings[0] and "\n" not in warnings[0]
