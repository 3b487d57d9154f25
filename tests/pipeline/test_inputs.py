"""Proves that input pictures of every kind are read alike, that each option of image to image,
inpainting and outpainting does what it says, and that what cannot be used is refused in one
sentence. One server on the tiny checkpoint; each test would fail if its option did nothing."""

import base64
import io
import json
import random

import pytest
from PIL import Image, ImageDraw

from conftest import Server

SIDE = 64
REQUEST = {"prompt": "cat, blue sky", "width": SIDE, "height": SIDE, "steps": 3, "seed": 5}


@pytest.fixture(scope="module")
def server(latentd, tiny_model, tmp_path_factory):
    running = Server(latentd, tiny_model, tmp_path_factory.mktemp("inputs"))
    yield running
    running.stop()


def picture(width=SIDE, height=SIDE, seed=1):
    """Coloured squares: nothing in it is the same when turned, mirrored or cut elsewhere."""
    rng = random.Random(seed)
    small = Image.new("RGB", (width // 8, height // 8))
    small.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(small.width * small.height)])
    return small.resize((width, height), Image.NEAREST)


def mask(box, width=SIDE, height=SIDE):
    image = Image.new("L", (width, height), 0)
    ImageDraw.Draw(image).rectangle(box, fill=255)
    return image


def coded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return {"base64": base64.b64encode(out.getvalue()).decode()}


def submit(server, init, **more):
    return server.post("/v1/jobs?wait=100", {**REQUEST, "init": init, **more}, timeout=150)


def paint(server, init, **more):
    status, _, body = submit(server, init, **more)
    job = json.loads(body)
    assert status == 200 and job["status"] == "succeeded", job
    return Image.open(io.BytesIO(server.get(job["images"][0]["url"])[2])).convert("RGB")


def refused(server, init, **more):
    """The sentence, whether the front or the worker had it."""
    _, _, body = submit(server, init, **more)
    answer = json.loads(body)
    if "status" in answer and answer["status"] == "failed":
        return answer["error"]["detail"]
    assert answer.get("errors") or answer.get("detail"), answer
    return json.dumps(answer)


def pixels(image):
    return list(image.getdata())


# ---- Files -----------------------------------------------------------------------------------------

def test_kinds_of_png_are_read(server):
    plain = paint(server, {"image": coded(picture()), "strength": 0.5})
    assert pixels(paint(server, {"image": coded(picture().convert("RGBA")), "strength": 0.5})) == pixels(plain)
    grey = picture().convert("L")
    as_rgb = paint(server, {"image": coded(grey.convert("RGB")), "strength": 0.5})
    wide = Image.new("I;16", grey.size)
    wide.putdata([value * 257 for value in grey.getdata()])
    palette = picture().quantize(16)
    assert pixels(paint(server, {"image": coded(grey), "strength": 0.5})) == pixels(as_rgb)
    assert pixels(paint(server, {"image": coded(wide), "strength": 0.5})) == pixels(as_rgb)
    assert pixels(paint(server, {"image": coded(palette), "strength": 0.5})) == \
        pixels(paint(server, {"image": coded(palette.convert("RGB")), "strength": 0.5}))
    assert pixels(as_rgb) != pixels(plain)


def test_webp_is_read_as_the_same_png(server):
    for options in ({"lossless": True}, {"quality": 80}):
        webp = coded(picture(), "WEBP", **options)
        decoded = Image.open(io.BytesIO(base64.b64decode(webp["base64"]))).convert("RGB")
        assert pixels(paint(server, {"image": webp, "strength": 0.5})) == \
            pixels(paint(server, {"image": coded(decoded), "strength": 0.5}))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_as_its_exif_block_says(server, orientation):
    turns = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
             6: Image.ROTATE_270, 7: Image.TRANSVERSE, 8: Image.ROTATE_90}
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = coded(picture(96, 64), "JPEG", quality=95, exif=exif, subsampling=0)
    decoded = Image.open(io.BytesIO(base64.b64decode(jpeg["base64"]))).convert("RGB")
    upright = decoded.transpose(turns[orientation]) if orientation in turns else decoded
    got = paint(server, {"image": jpeg, "strength": 0.34})
    wanted = paint(server, {"image": coded(upright), "strength": 0.34})
    # Decoders of another version may round a colour otherwise; a wrong turn is off by far more.
    apart = [abs(a - b) for p, q in zip(pixels(got), pixels(wanted)) for a, b in zip(p, q)]
    assert sum(apart) / len(apart) < 1, orientation


def test_an_upload_tells_the_size_that_people_see(server):
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, options, size in (("JPEG", {"exif": exif}, (64, 96)), ("WEBP", {}, (96, 64)),
                                ("PNG", {}, (96, 64))):
        data = base64.b64decode(coded(picture(96, 64), kind, **options)["base64"])
        status, _, body = server.post("/v1/images", data,
                                      headers={"Content-Type": f"image/{kind.lower()}"})
        told = json.loads(body)
        assert status in (200, 201) and (told["width"], told["height"]) == size, told


def test_unreadable_pictures_are_refused_in_a_sentence(server):
    frames = [picture(seed=1), picture(seed=2)]
    whole = base64.b64decode(coded(picture(), "JPEG", quality=90)["base64"])
    noise = {"base64": base64.b64encode(b"GIF89a" + bytes(100)).decode()}
    cut = {"base64": base64.b64encode(whole[: len(whole) // 2]).decode()}
    cut_webp = base64.b64decode(coded(picture(), "WEBP", quality=90)["base64"])
    cut_webp = {"base64": base64.b64encode(cut_webp[: len(cut_webp) // 2]).decode()}
    for image, sentence in (
            (coded(picture().convert("CMYK"), "JPEG"), "convert it from CMYK to RGB"),
            (coded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
             "animated WebP; save one of its frames"),
            (noise, "not a PNG, JPEG or WebP"), (cut, "damaged JPEG"), (cut_webp, "damaged WebP")):
        assert sentence in refused(server, {"image": image}), sentence
    assert server.get("/healthz")[0] == 200


def test_an_interlaced_png_is_refused_with_what_to_do(server):
    import struct
    import zlib
    raw = b"".join(b"\0" + bytes(8 * 3) for _ in range(8))
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + \
        struct.pack(">I", zlib.crc32(kind + body))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1)) + \
        chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    sentence = refused(server, {"image": {"base64": base64.b64encode(data).decode()}})
    assert "save it again without interlacing" in sentence


# ---- Fitting ---------------------------------------------------------------------------------------

def test_resize_modes_differ(server):
    wide = coded(picture(128, 64))
    results = [paint(server, {"image": wide, "strength": 0, "resize": mode})
               for mode in ("stretch", "crop", "pad")]
    assert len({tuple(pixels(result)) for result in results}) == 3


def test_extra_noise_and_variation_change_the_picture(server):
    image = coded(picture())
    plain = paint(server, {"image": image, "strength": 0.6})
    assert pixels(paint(server, {"image": image, "strength": 0.6, "noise": 0.5})) != pixels(plain)
    other = [paint(server, {"image": image, "strength": 0.6}, variation={"seed": 9, "strength": s})
             for s in (0, 0.3, 1)]
    assert pixels(other[0]) == pixels(plain)
    assert len({tuple(pixels(result)) for result in other}) == 3


def test_color_correction_brings_the_colours_back(server):
    def means(image):
        return [sum(p[c] for p in pixels(image)) / (SIDE * SIDE) for c in range(3)]
    source = picture()
    init = {"image": coded(source), "strength": 1}
    off = max(abs(a - b) for a, b in zip(means(paint(server, init)), means(source)))
    on = max(abs(a - b) for a, b in zip(
        means(paint(server, {**init, "color_correction": True})), means(source)))
    assert off > 5 and on < off / 2, (off, on)


# ---- Masks -----------------------------------------------------------------------------------------

def test_a_mask_of_another_size_is_refused(server):
    sentence = refused(server, {"image": coded(picture()), "mask": coded(mask((0, 0, 9, 9), 32, 32))})
    assert "init.mask must have the picture's size, 64x64, not 32x32" in sentence


def test_paste_back_keeps_what_the_mask_keeps(server):
    source = picture()
    init = {"image": coded(source), "mask": coded(mask((16, 16, 39, 39))), "strength": 1}
    kept, free = paint(server, init), paint(server, {**init, "paste_back": False})
    inside = [(x, y) for x in range(SIDE) for y in range(SIDE) if 16 <= x < 40 and 16 <= y < 40]
    outside = [(x, y) for x in range(SIDE) for y in range(SIDE) if not (16 <= x < 40 and 16 <= y < 40)]
    assert all(kept.getpixel(p) == source.getpixel(p) for p in outside)
    assert any(kept.getpixel(p) != source.getpixel(p) for p in inside)
    assert any(free.getpixel(p) != source.getpixel(p) for p in outside)


def test_mask_blur_lets_the_edge_pass_gradually(server):
    source = picture()
    init = {"image": coded(source), "mask": coded(mask((16, 16, 47, 47))), "strength": 1}
    hard, soft = paint(server, init), paint(server, {**init, "mask_blur": 4})
    edge = [(x, 32) for x in range(8, 16)]
    assert all(hard.getpixel(p) == source.getpixel(p) for p in edge)
    assert any(soft.getpixel(p) != source.getpixel(p) for p in edge)


def test_paste_back_holds_after_a_second_pass(server):
    source = picture()
    init = {"image": coded(source), "mask": coded(mask((0, 0, 23, 63))), "strength": 1}
    large = paint(server, init, hires={"scale": 2, "steps": 2, "strength": 0.6})
    wanted = source.resize((128, 128), Image.LANCZOS)
    apart = [abs(a - b) for x in range(64, 128) for y in range(128)
             for a, b in zip(large.getpixel((x, y)), wanted.getpixel((x, y)))]
    assert large.size == (128, 128) and sum(apart) / len(apart) < 2


def test_only_masked_paints_a_part_at_full_resolution(server):
    source = picture(160, 96)
    box = (100, 30, 119, 49)
    init = {"image": coded(source), "mask": coded(mask(box, 160, 96)), "strength": 1,
            "area": "masked", "mask_padding": 8}
    result = paint(server, init)
    assert result.size == source.size
    changed = [(x, y) for x in range(160) for y in range(96)
               if result.getpixel((x, y)) != source.getpixel((x, y))]
    assert len(changed) > 100 and all(100 <= x <= 119 and 30 <= y <= 49 for x, y in changed)
    wider = paint(server, {**init, "mask_padding": 24})
    assert pixels(wider) != pixels(result)
    whole = paint(server, {**init, "area": "whole"})
    assert whole.size == (SIDE, SIDE)
    free = paint(server, {**init, "paste_back": False})
    moved = [(x, y) for x in range(160) for y in range(96)
             if free.getpixel((x, y)) != source.getpixel((x, y))]
    assert all(92 <= x <= 127 and 22 <= y <= 57 for x, y in moved) and len(moved) > len(changed)


def test_only_masked_needs_something_to_paint(server):
    assert "needs init.mask" in refused(server, {"image": coded(picture()), "area": "masked"})
    black = coded(Image.new("L", (SIDE, SIDE), 0))
    assert "has no white" in refused(server, {"image": coded(picture()), "mask": black, "area": "masked"})


def test_outpainting_adds_to_the_picture(server):
    source = picture()
    init = {"image": coded(source), "strength": 1, "outpaint": {"left": 32, "bottom": 64}}
    result = paint(server, init, width=96, height=128)
    assert result.size == (96, 128)
    assert pixels(result.crop((32, 0, 96, 64))) == pixels(source)
    added = result.crop((0, 0, 32, 64))
    edge = [source.getpixel((0, y)) for y in range(64) for _ in range(32)]
    assert pixels(added) != edge, "the repeated edge itself came out"
    soft = paint(server, {**init, "mask_blur": 6}, width=96, height=128)
    assert soft.getpixel((34, 32)) != source.getpixel((2, 32))
    assert "must leave 64 pixels" in refused(server, {**init, "outpaint": {"left": 32}})
    assert "exclude each other" in refused(
        server, {**init, "mask": coded(mask((0, 0, 9, 9))), "area": "masked"}, width=96, height=128)


def test_requests_with_inputs_replay_alike(server):
    init = {"image": coded(picture(160, 96)), "mask": coded(mask((100, 30, 119, 49), 160, 96)),
            "area": "masked", "mask_blur": 2, "color_correction": True, "strength": 0.8}
    _, _, body = submit(server, init)
    made = server.get(json.loads(body)["images"][0]["url"])[2]
    answer = json.loads(server.post("/v1/replay?wait=60", made, headers={"Content-Type": "image/png"})[2])
    assert answer["identical"] is True, answer
