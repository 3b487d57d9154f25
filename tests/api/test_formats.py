"""Proves that pictures leave as PNG, WebP or JPEG wherever a request asks for it, over every
interface: the bytes are what the headers say, other programs' readers (Pillow, exiftool) find the
settings, and everything that takes or gives a picture goes on with it. Formats that the program was
built without are refused by name, which the same tests prove of such a build."""

import base64
import hashlib
import http.client
import io
import json
import shutil
import struct
import subprocess
import threading
import zipfile

import pytest
from PIL import Image

from front import read_events
from test_comfy import Socket, graph, over
from test_images import png, upload

ALL = {"png": ("image/png", ".png", b"\x89PNG", "PNG"), "webp": ("image/webp", ".webp", b"RIFF", "WEBP"),
       "jpeg": ("image/jpeg", ".jpg", b"\xff\xd8\xff", "JPEG")}
BODY = {"prompt": "caf\u00e9, \u732b \U0001f408", "width": 64, "height": 96, "steps": 2, "seed": 5}


@pytest.fixture(scope="module")
def built(front):
    return front.get("/version").json["formats"]


def painted(front, accept=None, headers=None, **output):
    return front.post("/v1/jobs", {**BODY, **({"output": output} if output else {})},
                      headers={"Accept": accept or "image/png", **(headers or {})})


def look(picture, name, size=(64, 96)):
    """Decoded by Pillow; the file is of the format it should be."""
    assert picture.startswith(ALL[name][2]), picture[:16]
    image = Image.open(io.BytesIO(picture))
    assert image.format == ALL[name][3] and image.size == size
    image.load()
    return image


def comment(picture):
    """UserComment as A1111 reads it: the code, then UTF-16 with the most significant byte first."""
    raw = Image.open(io.BytesIO(picture)).getexif().get_ifd(0x8769)[0x9286]
    assert raw[:8] == b"UNICODE\0"
    return raw[8:].decode("utf-16-be")


def need(built, *names):
    for name in names:
        if name not in built:
            pytest.skip(f"built without {name}")


def test_what_the_server_writes_is_listed(front, built):
    assert built[0] == "png" and set(built) <= set(ALL)


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_a_format_that_was_not_built_is_refused_by_name(front, built, name):
    if name in built:
        pytest.skip(f"built with {name}")
    answer = front.post("/v1/jobs", {**BODY, "output": {"format": name}})
    assert answer.status == 422, answer
    error = answer.json["errors"][0]
    assert error["pointer"] == "/output/format" and name in str(error) and "writes png" in str(error)
    assert painted(front, accept=f"image/{name}").status == 202  # told of the job, as for any other type
    answer = front.post("/v1/jobs", {**BODY, "preview": {"format": name}})
    assert answer.status == 422, answer
    error = answer.json["errors"][0]
    assert error["pointer"] == "/preview/format" and name in str(error) and "writes png" in str(error)


@pytest.mark.parametrize("name", ["png", "webp", "jpeg"])
def test_a_job_gives_the_format_it_names(front, built, name):
    need(built, name)
    job = front.wait(front.submit(**BODY, output={"format": name}))
    assert job["status"] == "succeeded" and job["request"]["output"]["format"] == name
    image = job["images"][0]
    assert image["type"] == ALL[name][0]
    answer = front.get(image["url"])
    assert answer.headers["Content-Type"] == ALL[name][0]
    assert answer.headers["Content-Disposition"] == f'inline; filename="{job["id"]}-0{ALL[name][1]}"'
    assert answer.headers["ETag"] == f'"{image["sha256"]}"' and len(answer.body) == image["bytes"]
    assert hashlib.sha256(answer.body).hexdigest() == image["sha256"]
    look(answer.body, name)
    part = front.get(image["url"], headers={"Range": "bytes=4-11"})
    assert part.status == 206 and part.body == answer.body[4:12]
    assert front.get(image["url"], headers={"If-None-Match": answer.headers["ETag"]}).status == 304


@pytest.mark.parametrize("name", ["png", "webp", "jpeg"])
def test_accept_names_the_format_where_the_body_does_not(front, built, name):
    need(built, name)
    answer = painted(front, accept=ALL[name][0])
    assert answer.status == 200 and answer.headers["Content-Type"] == ALL[name][0], answer
    look(answer.body, name)
    said = painted(front, accept=ALL[name][0], format="png")
    assert said.status == 200 and said.headers["Content-Type"] == "image/png"
    both = painted(front, accept=f"image/avif, {ALL[name][0]};q=0.9, image/png")
    assert both.headers["Content-Type"] == "image/png"


def test_quality_and_lossless_do_what_they_say(front, built):
    need(built, "webp", "jpeg")
    reference = look(painted(front).body, "png").convert("RGB")
    exact = look(painted(front, accept="image/webp", lossless=True).body, "webp").convert("RGB")
    assert exact.tobytes() == reference.tobytes()
    sizes = {}
    for name in ("webp", "jpeg"):
        for quality in (5, 100):
            picture = painted(front, accept=ALL[name][0], quality=quality, metadata="none").body
            pairs = zip(look(picture, name).convert("RGB").tobytes(), reference.tobytes())
            off = sum(abs(a - b) for a, b in pairs) / (3 * 64 * 96)
            assert quality < 100 or off < 2, (name, off)
            sizes[name, quality] = len(picture)
        assert sizes[name, 5] < sizes[name, 100]
        usual, ninety = painted(front, format=name, metadata="none"), painted(front, format=name, metadata="none", quality=90)
        assert usual.body == ninety.body
    for field, bad in (("quality", 0), ("quality", 101), ("quality", 1.5), ("lossless", "yes"), ("format", "gif")):
        refused = painted(front, **{field: bad})
        assert refused.status == 422 and refused.json["errors"][0]["pointer"] == f"/output/{field}", refused
    refused = painted(front, format="jpeg", lossless=True)
    assert refused.status == 422 and refused.json["errors"][0]["pointer"] == "/output/lossless"


def test_what_has_no_effect_is_told(front, built):
    need(built, "webp", "jpeg")
    for output, word in (({"quality": 50}, "output.quality"), ({"lossless": True}, "output.lossless"),
                         ({"format": "webp", "lossless": True, "quality": 50}, "output.quality"),
                         ({"format": "jpeg", "compression": 9}, "output.compression")):
        told = front.wait(front.submit(**BODY, output=output))["warnings"]
        assert any(word in warning for warning in told), (output, told)
    quiet = front.wait(front.submit(**BODY, output={"format": "webp", "quality": 50}))
    assert not any("output" in warning for warning in quiet["warnings"])


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_equal_requests_are_equal_bytes(front, built, name):
    need(built, name)
    assert painted(front, accept=ALL[name][0]).body == painted(front, accept=ALL[name][0]).body


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_other_programs_find_the_settings(front, built, name, tmp_path):
    need(built, name)
    picture = painted(front, accept=ALL[name][0]).body
    text = comment(picture)
    assert text.startswith(BODY["prompt"] + "\n") and "Seed: 5" in text and "Size: 64x96" in text
    if shutil.which("exiftool"):
        path = tmp_path / f"picture{ALL[name][1]}"
        path.write_bytes(picture)
        told = json.loads(subprocess.run(["exiftool", "-json", "-UserComment", "-Warning", str(path)],
                                         check=True, capture_output=True).stdout)[0]
        assert told["UserComment"].splitlines()[0] == BODY["prompt"]
        assert told.get("Warning", "") in ("", "[minor] Unrecognized MakerNotes"), told  # our own texts


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_metadata_none_leaves_nothing(front, built, name):
    need(built, name)
    bare = painted(front, accept=ALL[name][0], metadata="none").body
    assert not Image.open(io.BytesIO(bare)).getexif() and b"latentd" not in bare and b"Steps" not in bare
    job = front.wait(front.submit(**BODY, output={"format": name}))
    full = front.get(job["images"][0]["url"])
    stripped = front.get(job["images"][0]["url"] + "?metadata=none")
    assert stripped.status == 200 and stripped.headers["Content-Type"] == ALL[name][0]
    assert stripped.body == bare and len(full.body) > len(bare)


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_settings_are_read_back_and_replayed(front, built, name):
    need(built, name)
    job = front.wait(front.submit(**BODY, output={"format": name, "quality": 77}))
    picture = front.get(job["images"][0]["url"]).body
    told = front.post("/v1/png-info", picture, headers={"Content-Type": ALL[name][0]})
    assert told.status == 200, told
    assert told.json["source"] == "latentd" and told.json["request"]["prompt"] == BODY["prompt"]
    assert (told.json["request"]["output"]["format"], told.json["request"]["output"]["quality"]) == (name, 77)
    assert told.json["texts"]["parameters"].startswith(BODY["prompt"])
    again = front.post("/v1/replay", picture, headers={"Content-Type": ALL[name][0]})
    assert again.status == 200 and again.json["identical"] is True, again
    cut = front.post("/v1/png-info", picture[:200], headers={"Content-Type": ALL[name][0]})
    assert cut.status in (400, 422), cut
    # Other metadata, the same pixels.
    image = Image.open(io.BytesIO(picture))
    exif = image.getexif()
    exif[0x0131] = "another program"
    if name == "jpeg":
        other = io.BytesIO()
        image.save(other, "JPEG", quality="keep", exif=exif)
        told = front.post("/v1/png-info", other.getvalue(), headers={"Content-Type": "image/jpeg"})
        assert told.json["source"] == "latentd" and told.json["request"]["seed"] == 5


def test_pictures_of_a1111_are_read(front, built):
    """As its own saver writes them: piexif's UserComment in either format."""
    need(built, "webp", "jpeg")
    infotext = "a cat\nNegative prompt: dog\nSteps: 7, Sampler: Euler a, CFG scale: 6, Seed: 9, Size: 64x96"
    for name in ("webp", "jpeg"):
        value = b"UNICODE\0" + infotext.encode("utf-16-be")
        exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIII", 1, 0x8769, 4, 1, 26, 0)
        exif += struct.pack(">HHHIII", 1, 0x9286, 7, len(value), 44, 0) + value
        file = io.BytesIO()
        Image.new("RGB", (64, 96), "red").save(file, ALL[name][3], exif=exif)
        told = front.post("/v1/png-info", file.getvalue(), headers={"Content-Type": ALL[name][0]})
        assert told.status == 200 and told.json["source"] == "a1111", told
        assert told.json["request"]["prompt"] == "a cat" and told.json["request"]["seed"] == 9
        told = front.post("/sdapi/v1/png-info", {"image": base64.b64encode(file.getvalue()).decode()})
        assert told.status == 200 and told.json["info"] == infotext


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_a_finished_picture_is_a_beginning(front, built, name):
    need(built, name)
    picture = painted(front, accept=ALL[name][0]).body
    stored = upload(front, picture, ALL[name][0])
    assert stored.status == 201 and (stored.json["width"], stored.json["height"]) == (64, 96)
    job = front.wait(front.submit(**BODY, init={"image": {"id": stored.json["id"]}}))
    assert job["status"] == "succeeded"
    large = front.wait(front.post("/v1/jobs", {"upscale": {"image": {"id": stored.json["id"]}, "scale": 2},
                                               "output": {"format": name}}).json["id"])
    assert large["status"] == "succeeded" and large["images"][0]["type"] == ALL[name][0]
    file = front.get(large["images"][0]["url"]).body
    assert Image.open(io.BytesIO(file)).size == (128, 192)
    assert "Postprocess upscale to: 128x192" in comment(file)
    told = front.post("/v1/png-info", file, headers={"Content-Type": ALL[name][0]}).json
    assert json.loads(told["texts"]["latentd_source"])["prompt"] == BODY["prompt"]
    view = front.get(f'/view?filename={stored.json["id"]}.png&type=input')
    assert view.headers["Content-Type"] == ALL[name][0] and view.body == picture


def test_sides_beyond_the_format_are_refused_where_they_are_known(front, built):
    need(built, "webp")
    wide = upload(front, png(16400, 64, data=b"\0" * (1 + 3 * 16400) * 64))
    assert wide.status == 201, wide
    mask = upload(front, png(16400, 64, data=b"\0" * (1 + 3 * 16400) * 64)).json["id"]
    init = {"image": {"id": wide.json["id"]}, "mask": {"id": mask}, "area": "masked"}
    refused = front.post("/v1/jobs", {**BODY, "init": init, "output": {"format": "webp"}})
    assert refused.status == 422 and refused.json["errors"][0]["pointer"] == "/output/format", refused
    assert "16383" in str(refused.json["errors"][0])


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_a_sweep_and_its_sheet_have_the_format(front, built, name):
    need(built, name)
    answer = front.post("/v1/jobs", {**BODY, "output": {"format": name},
                                     "sweep": {"x": {"field": "steps", "values": [2, 3]}}})
    sweep = front.wait(answer.json["id"])
    assert sweep["status"] == "succeeded", sweep
    assert sweep["images"][0]["type"] == ALL[name][0]
    sheet = Image.open(io.BytesIO(front.get(sweep["images"][0]["url"]).body))
    assert sheet.format == ALL[name][3] and sheet.size[0] >= 128
    cell = front.get(f'/v1/jobs/{sweep["cells"][0]["id"]}').json
    assert cell["images"][0]["type"] == ALL[name][0]


# ---- Previews -------------------------------------------------------------------------------------


def previews(front, **fields):
    """The previews of a job: what their events say they are, and their bytes; and the job."""
    job = front.submit(tag="step_ms=60", **{**BODY, "steps": 4, **fields})
    shown = [(data["type"], base64.b64decode(data["base64"], validate=True))
             for _, name, data in read_events(front, f"/v1/jobs/{job}/events") if name == "preview"]
    assert shown
    return shown, front.wait(job)


@pytest.mark.parametrize("name", ["png", "webp", "jpeg"])
def test_previews_come_in_the_format_that_is_asked_for(front, built, name):
    need(built, name)
    plain = front.wait(front.submit(**{**BODY, "steps": 4}))
    shown, job = previews(front, preview={"every": 1, "format": name})
    assert {kind for kind, _ in shown} == {ALL[name][0]}
    for _, picture in shown:
        red, green, blue = look(picture, name).convert("RGB").getextrema()
        assert blue[1] < 30 and max(red[1], green[1]) > 60  # what the scripted worker shows meanwhile
    # A wish about delivery: the picture is the same, and the recipe in it too.
    assert job["images"][0]["sha256"] == plain["images"][0]["sha256"]
    assert job["images"][0]["type"] == "image/png"
    assert front.post("/v1/jobs", {**BODY, "preview": {"format": "gif"}}).status == 422


def test_a_preview_has_nothing_to_do_with_the_pictures_format(front, built):
    need(built, "jpeg", "webp")
    shown, job = previews(front, preview={"every": 1}, output={"format": "webp", "quality": 100})
    assert {kind for kind, _ in shown} == {"image/png"} and job["images"][0]["type"] == "image/webp"
    shown, job = previews(front, preview={"every": 1, "format": "jpeg"}, output={"format": "webp", "quality": 100})
    assert {kind for kind, _ in shown} == {"image/jpeg"} and job["images"][0]["type"] == "image/webp"


@pytest.mark.parametrize("name", ["png", "webp", "jpeg", "gif"])
def test_a1111_shows_previews_in_the_format_of_its_option(serve, built, name):
    """The caller's option; what is not written here is no reason to refuse a picture, and shown as PNG."""
    front = serve("step_ms=60")
    assert front.get("/sdapi/v1/options").json["live_previews_image_format"] == "png"
    assert front.post("/sdapi/v1/options", {"live_previews_image_format": name, "show_progress_every_n_steps": 1}).status == 200
    assert front.get("/sdapi/v1/options").json["live_previews_image_format"] == name
    real = name if name in built else "png"
    body = {"prompt": "a cat", "width": 64, "height": 96, "steps": 20, "force_task_id": "task(f)"}
    box = {}
    thread = threading.Thread(target=lambda: box.update(answer=front.post("/sdapi/v1/txt2img", body)))
    thread.start()
    current = url = None
    while thread.is_alive() and not (current and url):
        current = front.get("/sdapi/v1/progress").json["current_image"]
        url = front.post("/internal/progress", {"id_task": "task(f)", "id_live_preview": -1}).json["live_preview"]
    thread.join()
    look(base64.b64decode(current, validate=True), real)
    head, picture = url.split(",")
    assert head == f"data:{ALL[real][0]};base64"
    look(base64.b64decode(picture, validate=True), real)
    warned = [each for each in box["answer"].json["warnings"] if "live_previews_image_format" in each]
    assert bool(warned) == (real != name), warned
    override = {"live_previews_image_format": "png"}
    answer = front.post("/sdapi/v1/txt2img", {**body, "steps": 2, "override_settings": override}).json
    assert not any("live_previews" in each or "override_settings" in each for each in answer["warnings"])
    assert "format" not in front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["preview"]


def test_openai_says_what_a_preview_is(serve, built, tmp_path):
    """Nothing in its body asks for another format; a model's manifest may."""
    need(built, "jpeg")
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "mine.conf").write_text("[manifest]\ntitle = Mine\nmodels = scripted\n[defaults]\npreview.format = jpeg\n")
    front = serve("step_ms=20", "--manifest-dir", str(folder))
    answer = front.post("/v1/images/generations", {"prompt": "a cat", "size": "64x96", "steps": 6, "stream": True, "partial_images": 2})
    events = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    partial = [event for event in events if event["type"].endswith("partial_image")]
    assert partial and events[-1]["output_format"] == "png"
    for event in partial:
        assert event["output_format"] == "jpeg"
        look(base64.b64decode(event["b64_json"]), "jpeg")


def test_comfy_gets_jpeg_where_it_is_written(front, built):
    client = Socket(front, "shown")
    nodes = graph(n3_steps=9)
    nodes["5"]["inputs"].update(width=64, height=96)
    assert front.post("/prompt", {"prompt": nodes, "client_id": "shown"}).status == 200
    frames = [data for kind, data in client.until(over) if kind == "binary"]
    client.close()
    name, number = ("jpeg", 1) if "jpeg" in built else ("png", 2)
    assert frames
    for frame in frames:
        assert struct.unpack(">II", frame[:8]) == (1, number)
        look(frame[8:], name)


def test_stores_from_before_give_pngs(serve, tmp_path):
    """A database whose pictures have no format, as it was before: the column is added, and they are PNGs."""
    import sqlite3
    first = serve()
    job = first.wait(first.submit(**BODY))
    picture = first.get(job["images"][0]["url"]).body
    assert first.stop() == 0
    database = next((tmp_path / "state").glob("*.db*"), None) or next((tmp_path / "state").glob("*sqlite*"))
    with sqlite3.connect(database) as db:
        db.execute("ALTER TABLE images DROP COLUMN format")
        db.execute("DROP TABLE controls")
        db.execute("PRAGMA user_version = 7")
    db.close()
    second = serve()
    answer = second.get(job["images"][0]["url"])
    assert answer.status == 200 and answer.body == picture and answer.headers["Content-Type"] == "image/png"
    assert second.get(f'/v1/jobs/{job["id"]}').json["images"][0]["type"] == "image/png"


# ---- Other programs' interfaces -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["png", "webp", "jpeg"])
def test_openai(front, built, name):
    need(built, name)
    body = {"prompt": "a cat", "size": "64x96", "steps": 2, "seed": 3}
    answer = front.post("/v1/images/generations", {**body, "output_format": name})
    assert answer.status == 200 and answer.json["output_format"] == name, answer
    best = base64.b64decode(answer.json["data"][0]["b64_json"])
    look(best, name)
    small = front.post("/v1/images/generations", {**body, "output_format": name, "output_compression": 10})
    assert small.status == 200
    least = base64.b64decode(small.json["data"][0]["b64_json"])
    warned = any("output_compression" in warning for warning in small.json["warnings"])
    if name == "png":
        assert warned and least == best
    else:
        assert not warned and len(least) < len(best)
        newest = front.get("/v1/jobs?limit=2").json["jobs"]
        assert [job["request"]["output"]["quality"] for job in newest] == [10, 100]
    url = front.post("/v1/images/generations", {**body, "output_format": name, "response_format": "url"}).json["data"][0]["url"]
    assert front.get("/" + url.split("/", 3)[3]).headers["Content-Type"] == ALL[name][0]
    for bad in (-1, 101):
        refused = front.post("/v1/images/generations", {**body, "output_compression": bad})
        assert refused.status == 400 and refused.json["error"]["param"] == "output_compression", refused


def test_openai_streams_the_format(front, built):
    need(built, "webp")
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
    connection.request("POST", "/v1/images/generations", json.dumps(
        {"prompt": "a cat", "size": "64x96", "steps": 4, "stream": True, "partial_images": 1, "output_format": "webp"}),
        {"Content-Type": "application/json"})
    events = [json.loads(line[6:]) for line in connection.getresponse().read().decode().splitlines() if line.startswith("data: ")]
    connection.close()
    formats = {event["type"]: (event["output_format"], base64.b64decode(event["b64_json"])[:4]) for event in events}
    assert formats["image_generation.completed"] == ("webp", b"RIFF")
    assert formats["image_generation.partial_image"] == ("png", b"\x89PNG")


def test_novelai(front, built):
    need(built, "webp")
    parameters = {"width": 64, "height": 96, "steps": 4, "seed": 1, "n_samples": 1, "image_format": "webp"}
    body = {"input": "a \u732b", "model": "nai-diffusion-2", "action": "generate", "parameters": parameters}
    answer = front.post("/ai/generate-image", body)
    assert answer.status == 200, answer
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == ["image_0.webp"]
        picture = archive.read("image_0.webp")
    request = front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]
    assert request["output"]["format"] == "webp" and request["output"]["lossless"] is True
    plain = {**body, "parameters": {**parameters, "image_format": "png"}}
    with zipfile.ZipFile(io.BytesIO(front.post("/ai/generate-image", plain).body)) as archive:
        reference = look(archive.read("image_0.png"), "png").convert("RGB")
    assert look(picture, "webp").convert("RGB").tobytes() == reference.tobytes()
    exif = Image.open(io.BytesIO(picture)).getexif()
    raw = exif.get_ifd(0x8769)[0x9286]
    told = json.loads(raw[8:])
    assert raw[:8] == b"ASCII\0\0\0" and told["Software"] == "NovelAI" and told["Description"] == "a \u732b"
    assert json.loads(told["Comment"])["seed"] == 1 and "parameters" in told
    info = front.post("/v1/png-info", picture, headers={"Content-Type": "image/webp"}).json
    assert info["source"] == "latentd" and info["texts"]["Comment"] == told["Comment"]
    assert front.post("/ai/generate-image", {**body, "parameters": {**parameters, "image_format": "jpeg"}}).status == 400


def test_a1111(front, built):
    need(built, "webp", "jpeg")
    body = {"prompt": "a cat", "steps": 2, "width": 64, "height": 96, "seed": 3}

    def paint(**settings):
        answer = front.post("/sdapi/v1/txt2img", {**body, "override_settings": settings})
        assert answer.status == 200, answer
        return answer.json, base64.b64decode(answer.json["images"][0])

    for said, name in (("jpg", "jpeg"), ("jpeg", "jpeg"), ("webp", "webp"), ("png", "png")):
        result, picture = paint(samples_format=said)
        look(picture, name)
        assert "Seed: 3" in json.loads(result["info"])["infotexts"][0]
        assert not any("samples_format" in warning for warning in result["warnings"])
    assert len(paint(samples_format="jpg", jpeg_quality=10)[1]) < len(paint(samples_format="jpg")[1])
    exact = look(paint(samples_format="webp", webp_lossless=True)[1], "webp").convert("RGB")
    assert exact.tobytes() == look(paint()[1], "png").convert("RGB").tobytes()
    result, picture = paint(samples_format="avif")
    assert picture.startswith(b"\x89PNG") and any("samples_format" in warning for warning in result["warnings"])
    assert front.get("/sdapi/v1/options").json["samples_format"] == "png"
    assert front.post("/sdapi/v1/options", {"samples_format": "webp", "jpeg_quality": 60}).status == 200
    told = front.get("/sdapi/v1/options").json
    assert (told["samples_format"], told["jpeg_quality"], told["webp_lossless"]) == ("webp", 60, False)
    assert paint()[1].startswith(b"RIFF")
    enlarged = front.post("/sdapi/v1/extra-single-image", {"image": base64.b64encode(picture).decode(),
                                                           "upscaler_1": "Lanczos", "upscaling_resize": 2})
    look(base64.b64decode(enlarged.json["image"]), "webp", (128, 192))
    assert front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["output"]["quality"] == 60
    assert front.post("/sdapi/v1/options", {"samples_format": "png"}).status == 200
    assert paint()[1].startswith(b"\x89PNG")


def test_comfyui_names_pictures_of_others_by_their_ending(front, built):
    need(built, "webp")
    job = front.wait(front.submit(**BODY, output={"format": "webp"}))
    history = front.get("/history").json[job["id"]]["outputs"]
    name = next(iter(history.values()))["images"][0]["filename"]
    assert name == f'{job["id"]}_0.webp'
    view = front.get(f"/view?filename={name}&type=output&subfolder=")
    assert view.headers["Content-Type"] == "image/webp" and view.body.startswith(b"RIFF")
