"""Proves that the pictures which ControlNet units follow travel with a job: sent in the body, uploaded
before or those of init, each reaches the worker at its unit's place and stays as long as a job or an
upload names it. The scripted worker tells what it was given (`tell_inputs`)."""

import base64
import hashlib
import sqlite3
import subprocess

import pytest
from front import request
from test_images import png, upload

MODEL = "edges"  # the scripted worker's


def inline(picture):
    return {"base64": base64.b64encode(picture).decode()}


def unit(image=None, **fields):
    return {"model": MODEL, **({"image": image} if image else {}), **fields}


def told(job):
    """What the worker was given: {place: digest}."""
    return dict(text.split(": ") for text in job["warnings"] if text.split(" ")[0] in ("init", "mask", "control"))


def digest(picture):
    return hashlib.sha256(picture).hexdigest()


def test_each_reaches_the_worker_at_its_units_place(front):
    first, second, start = png(16, 8), png(24, 8), png(32, 8)
    uploaded = upload(front, second).json["id"]
    job = front.wait(front.submit(tag="tell_inputs", init={"image": inline(start)},
                                  control=[unit(inline(first)), unit(), unit({"id": uploaded})]))
    assert job["status"] == "succeeded"
    assert told(job) == {"init 0": digest(start), "control 0": digest(first), "control 2": digest(second)}
    units = job["request"]["control"]
    assert units[0]["image"] == {"id": digest(first)[:26]}
    assert "image" not in units[1]
    assert units[2]["image"] == {"id": uploaded}


def test_units_need_no_init(front):
    picture = png(40, 8)
    job = front.wait(front.submit(tag="tell_inputs", control=[unit(inline(picture)), unit(inline(picture))]))
    assert told(job) == {"control 0": digest(picture), "control 1": digest(picture)}


def test_a_finished_jobs_request_runs_again(front):
    """Its canonical request names every picture by an id."""
    pictures = [png(48 + 8 * i, 8) for i in range(3)]
    first = front.wait(front.submit(tag="tell_inputs", control=[unit(inline(picture)) for picture in pictures]))
    again = front.wait(front.post("/v1/jobs", first["request"]).json["id"])
    assert told(again) == told(first) and len(told(again)) == 3


@pytest.mark.parametrize("image, words", [
    ({"id": "0" * 26}, "no such uploaded image"),
    (inline(b"GIF89a" + bytes(100)), "not a PNG, JPEG or WebP file"),
    (inline(png(5000, 5000, data=b"")), "pixels"),
])
def test_a_picture_that_is_none_is_refused_by_its_place(front, image, words):
    """As that of init is."""
    answer = front.post("/v1/jobs", request(control=[unit(inline(png())), unit(image)]))
    assert answer.status == front.post("/v1/jobs", request(init={"image": image})).status, answer
    assert answer.json["errors"][0]["pointer"] == "/control/1/image"
    assert words in answer.json["errors"][0]["message"]


def test_a_body_carries_four_pictures(front):
    """LD_JSON_IMAGES_MAX. What was uploaded before does not count."""
    pictures = [png(8 * i, 16) for i in range(1, 6)]
    both = {"image": inline(pictures[0]), "mask": inline(pictures[1])}
    units = [unit(inline(picture)) for picture in pictures[2:]]
    assert front.post("/v1/plan", request(init=both, control=units[:1])).status == 200
    assert front.post("/v1/plan", request(init=both, control=units[:2])).status == 200
    refused = front.post("/v1/plan", request(init=both, control=units))
    assert refused.status == 413 and refused.json["errors"][0]["pointer"] == "/control/2/image"
    units[2] = unit({"id": upload(front, pictures[4]).json["id"]})
    job = front.wait(front.submit(tag="tell_inputs", init=both, control=units))
    assert sorted(told(job).values()) == sorted(digest(picture) for picture in pictures)


def test_cells_of_a_sweep_share_them(front):
    picture = png(56, 16)
    sweep = front.wait(front.submit(tag="tell_inputs", control=[unit(inline(picture))],
                                    sweep={"x": {"field": "cfg_scale", "values": [5, 7]}}))
    assert sweep["status"] == "succeeded"
    for cell in sweep["cells"]:
        assert told(front.job(cell["id"])) == {"control 0": digest(picture)}


def test_a_second_try_has_the_same_pictures(front):
    """An Idempotency-Key is bound to the body, pictures and all."""
    headers = {"Idempotency-Key": "units"}
    body = request(control=[unit(inline(png(16, 24)))])
    first = front.post("/v1/jobs", body, headers=headers)
    again = front.post("/v1/jobs", body, headers=headers)
    assert again.json["id"] == first.json["id"] and again.headers["Idempotent-Replayed"] == "true"
    other = front.post("/v1/jobs", request(control=[unit(inline(png(16, 32)))]), headers=headers)
    assert other.status == 422


def test_they_stay_as_long_as_something_names_them(serve):
    """Without its upload a picture lies there for its jobs alone: the last one takes it along, also
    where the server was started anew between."""
    front = serve()
    picture = png(72, 8)
    blob = front.folder / "state" / "blobs" / digest(picture)[:2] / f"{digest(picture)}.png"
    ids = [front.submit(tag="tell_inputs", seed=seed, control=[unit(), unit(inline(picture))],
                        init={"image": inline(png(80, 8))}) for seed in (1, 2)]
    for name in ids:
        front.wait(name)
    assert front.stop() == 0
    with sqlite3.connect(front.folder / "state" / "jobs.db") as store:
        assert store.execute("SELECT number, sha256 FROM controls").fetchall() == [(1, digest(picture))] * 2
        store.execute("DELETE FROM uploads")
    store.close()
    front.start()
    assert blob.exists()
    assert front.call("DELETE", f"/v1/jobs/{ids[0]}").status == 204
    assert blob.exists()
    assert front.call("DELETE", f"/v1/jobs/{ids[1]}").status == 204
    assert not blob.exists()


# ---- The command line -----------------------------------------------------------------------------


def generate(latentd, folder, *flags):
    return subprocess.run([latentd, "generate", "a cat", "-o", str(folder / "out.png"), "--size", "64x64",
                           "--steps", "2", *map(str, flags)], capture_output=True, text=True, timeout=60)


@pytest.fixture
def files(tmp_path):
    """Four pictures: their paths and digests."""
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        path.write_bytes(png(88 + 8 * i, 8))
    return paths, [digest(path.read_bytes()) for path in paths]


def test_the_command_line_sends_them_first(front, latentd, tmp_path, files):
    paths, digests = files
    done = generate(latentd, tmp_path, "--server", f"http://127.0.0.1:{front.port}", "--tag", "tell_inputs",
                    "--control", f"{MODEL}:0.5", "--control", MODEL, "--control", MODEL, "--init", paths[0],
                    "--control-image", paths[1], "--control-image", paths[2])
    assert done.returncode == 0, done.stderr
    job = front.get("/v1/jobs?limit=1").json["jobs"][0]
    assert told(job) == {"init 0": digests[0], "control 0": digests[1], "control 1": digests[2]}
    assert [one.get("image") for one in job["request"]["control"]] == [{"id": digests[1][:26]},
                                                                     {"id": digests[2][:26]}, None]


@pytest.mark.parametrize("units, images, sentence", [
    (0, 1, "--control-image was given 1 times; 0 of"),
    (1, 2, "--control-image was given 2 times; 1 of"),
    (3, 4, "--control-image may be given at most 3 times"),
])
def test_too_many_files_are_refused(latentd, tmp_path, files, units, images, sentence):
    done = generate(latentd, tmp_path, "--model", "none.safetensors", *["--control", MODEL] * units,
                    *[word for path in files[0][:images] for word in ("--control-image", path)])
    assert done.returncode != 0 and sentence in done.stderr


def test_a_replay_asks_for_the_pictures_that_units_had(front, latentd, tmp_path, files):
    """Units that followed init's take no file, so those behind them do not get a wrong one."""
    paths, digests = files
    job = front.wait(front.submit(control=[unit(), unit(inline(paths[1].read_bytes()))],
                                  init={"image": inline(paths[0].read_bytes())}))
    made = tmp_path / "made.png"
    made.write_bytes(front.picture(job["id"]))

    def replay(*flags):
        done = subprocess.run([latentd, "generate", "--model", "none.safetensors", "--replay", made, "-o",
                               tmp_path / "again.png", *flags], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        return done.stderr

    assert "init fields need a picture" in replay()
    assert "unit 1 of control follows a picture of its own" in replay("--init", paths[0])
    assert "given 2 times; 1 of" in replay("--init", paths[0], "--control-image", paths[1], "--control-image", paths[2])
    assert "none.safetensors" in replay("--init", paths[0], "--control-image", paths[1])  # goes on to the model
