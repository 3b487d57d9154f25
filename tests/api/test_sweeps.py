"""Proves that a sweep is one job: its cells are jobs on the same queue, each what it would be alone;
it counts, waits, cancels, deletes and survives with them, ends as the worst of them, and its picture
is the labelled sheet."""

import json
import sqlite3

import pytest

from front import read_events, request

GRID = {"x": {"field": "steps", "values": [2, 3]}, "y": {"field": "seed", "values": [5, 6, "7"]}}


def size_of(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def states(front, parent):
    return [cell["status"] for cell in front.job(parent)["cells"]]


def test_cells_are_the_single_jobs_and_the_sheet_is_the_sweeps_picture(serve):
    front = serve("step_ms=1")
    parent = front.submit(sweep=GRID)
    done = front.wait(parent)
    assert done["status"] == "succeeded" and done["progress"]["fraction"] == 1, done
    assert [cell["index"] for cell in done["cells"]] == list(range(6))
    assert done["unet_rows"] == sum(front.job(cell["id"])["unet_rows"] for cell in done["cells"])
    assert done["request"]["sweep"] == GRID
    for index, cell in enumerate(done["cells"]):
        job = front.job(cell["id"])
        assert job["parent"] == parent and job["status"] == cell["status"] == "succeeded"
        assert "sweep" not in job["request"] and "cells" not in job
        steps, seed = (2, 3)[index % 2], (5, 6, 7)[index // 2]
        assert (job["request"]["steps"], job["request"]["seed"]) == (steps, seed)
        alone = front.wait(front.submit(steps=steps, seed=seed))
        assert front.picture(alone["id"]) == front.picture(cell["id"])
    (image,) = done["images"]
    sheet = front.picture(parent)
    assert size_of(sheet) == (image["width"], image["height"])
    assert image["width"] > 2 * 64 and image["height"] > 3 * 64
    # The sheet says how it was made, so it can be made again, byte for byte.
    again = front.post("/v1/replay", sheet, headers={"Content-Type": "image/png"})
    assert again.status == 200 and again.json["identical"] is True, again
    assert len(again.json["job"]["cells"]) == 6


def test_the_list_has_the_sweep_and_not_its_cells(serve):
    front = serve()
    parent = front.submit(sweep=GRID)
    front.wait(parent)
    assert [job["id"] for job in front.get("/v1/jobs").json["jobs"]] == [parent]
    assert [job["id"] for job in front.get("/v1/jobs?status=succeeded").json["jobs"]] == [parent]


def test_a_seed_left_to_chance_is_one_seed(serve):
    front = serve()
    body = request(sweep={"x": {"field": "cfg_scale", "values": [3, 4.5]}}, seed=-1)
    parent = front.post("/v1/jobs?wait=20", body).json
    seeds = {front.job(cell["id"])["request"]["seed"] for cell in parent["cells"]}
    assert seeds == {parent["request"]["seed"]}


def test_png_is_asked_for_and_the_sheet_comes(serve):
    front = serve()
    answer = front.post("/v1/jobs", request(sweep=GRID), headers={"Accept": "image/png"})
    assert answer.status == 200 and size_of(answer.body)[0] > 128


def test_progress_and_events_tell_of_the_cells(serve):
    front = serve("step_ms=60", "--workers", "1")
    parent = front.submit(sweep={"x": {"field": "seed", "values": [1, 2, 3]}})
    running = front.wait(parent, ("running",))
    assert running["progress"]["images"] == 3
    events = read_events(front, f"/v1/jobs/{parent}/events", last_id=0)
    names = [name for _, name, _ in events]
    told = [data["progress"]["image"] for _, name, data in events if name == "progress"]
    assert names[-1] == "done" and "image" in names
    assert told == sorted(told) and told[-1] == 3, told
    statuses = [data["status"] for _, name, data in events if name == "status"]
    assert statuses[0] == "queued" and statuses[-1] == "succeeded" and "running" in statuses


def test_cancelling_the_sweep_cancels_every_cell(serve):
    front = serve("step_ms=200", "--worker-jobs", "2")
    parent = front.submit(sweep=GRID, steps=40)
    front.wait(parent, ("running",))
    answer = front.post(f"/v1/jobs/{parent}/cancel")
    assert answer.status in (200, 202)
    assert front.wait(parent)["status"] == "cancelled"
    assert states(front, parent) == ["cancelled"] * 6
    assert front.post(f"/v1/jobs/{parent}/cancel").json["status"] == "cancelled"
    assert front.wait(front.submit())["status"] == "succeeded"


def test_one_failed_cell_fails_the_sweep_and_leaves_the_others(serve, tmp_path):
    mark = tmp_path / "once"
    front = serve(f"fail@1=device once={mark}")
    done = front.wait(front.submit(sweep=GRID))
    assert done["status"] == "failed" and done["error"]["code"] == "device"
    assert "cell" in done["error"]["detail"] and "the script says so" in done["error"]["detail"]
    assert sorted(cell["status"] for cell in done["cells"]) == ["failed"] + ["succeeded"] * 5
    assert len(done["images"]) == 1, "the sheet of what there is"


def test_no_cell_no_sheet(serve):
    front = serve("fail@1=device")
    done = front.wait(front.submit(sweep=GRID))
    assert done["status"] == "failed" and done["images"] == []


def test_one_cancelled_cell_ends_it_as_cancelled_with_its_sheet(serve):
    front = serve("step_ms=50", "--worker-jobs", "1")
    parent = front.submit(sweep=GRID)
    last = front.job(parent)["cells"][5]["id"]
    assert front.post(f"/v1/jobs/{last}/cancel").status == 200
    done = front.wait(parent)
    assert done["status"] == "cancelled" and len(done["images"]) == 1
    assert states(front, parent) == ["succeeded"] * 5 + ["cancelled"]


def test_deleting_takes_all_along(serve):
    front = serve("step_ms=100", "--worker-jobs", "2")
    parent = front.submit(sweep=GRID)
    cells = [cell["id"] for cell in front.job(parent)["cells"]]
    front.wait(parent, ("running",))
    assert front.call("DELETE", f"/v1/jobs/{parent}").status == 204
    for job in (parent, *cells):
        assert front.get(f"/v1/jobs/{job}").status == 404
    assert front.wait(front.submit())["status"] == "succeeded"
    # A cell that is deleted alone leaves its place empty.
    parent = front.submit(sweep=GRID)
    cell = front.job(parent)["cells"][4]["id"]
    assert front.call("DELETE", f"/v1/jobs/{cell}").status == 204
    done = front.wait(parent)
    assert done["status"] == "cancelled" and len(done["images"]) == 1
    assert done["cells"][4] == {"index": 4, "status": "deleted"}


def test_it_survives_the_worker_and_the_front(serve, tmp_path):
    mark = tmp_path / "once"
    front = serve(f"step_ms=30 kill@2 once={mark}", "--worker-jobs", "2")
    parent = front.submit(sweep=GRID)
    front.wait(parent, ("running",))
    front.kill()
    front.start()
    done = front.wait(parent)
    assert done["status"] == "succeeded" and len(done["images"]) == 1, done
    sheet = front.picture(parent)
    again = front.wait(front.submit(sweep=GRID))
    assert front.picture(again["id"]) == sheet
    # Ended jobs are as they were after another restart.
    assert front.stop() == 0
    front.start()
    assert front.job(parent)["status"] == "succeeded" and front.picture(parent) == sheet


def test_a_cancelled_sweep_ends_over_a_restart(serve):
    front = serve("step_ms=300", "--worker-jobs", "1")
    parent = front.submit(sweep=GRID, steps=100)
    front.wait(parent, ("running",))
    front.post(f"/v1/jobs/{parent}/cancel")
    front.kill()
    front.start()
    assert front.wait(parent)["status"] == "cancelled"
    assert states(front, parent) == ["cancelled"] * 6


def test_it_counts_against_the_queue_as_a_whole(serve):
    front = serve("step_ms=500", "--limits-queued-per-key", "6")
    refused = front.post("/v1/jobs", request(sweep=GRID))
    assert refused.status == 429 and "6 cells" in refused.json["detail"], refused
    assert front.get("/v1/jobs").json["jobs"] == []


def test_one_key_one_sweep(serve):
    front = serve()
    headers = {"Idempotency-Key": "grid"}
    first = front.post("/v1/jobs", request(sweep=GRID), headers=headers).json["id"]
    again = front.post("/v1/jobs", request(sweep=GRID), headers=headers)
    assert again.json["id"] == first and again.headers["Idempotent-Replayed"] == "true"
    assert len(front.get("/v1/jobs").json["jobs"]) == 1


def test_a_store_from_before_sweeps_is_brought_up_to_date(serve):
    front = serve()
    old = front.submit()
    front.wait(old)
    picture = front.picture(old)
    assert front.stop() == 0
    with sqlite3.connect(front.folder / "state" / "jobs.db") as store:
        store.executescript(
            "DROP TABLE cells; DROP TABLE shares; DROP TABLE usage; DROP TABLE controls; DROP INDEX jobs_turn; DROP INDEX jobs_age;"
            "DROP INDEX jobs_oldest;"
            "ALTER TABLE jobs DROP COLUMN cost; ALTER TABLE jobs DROP COLUMN numerics;"
            "ALTER TABLE jobs DROP COLUMN repainted; ALTER TABLE images DROP COLUMN format;"
            "CREATE INDEX jobs_ready ON jobs (priority DESC, seq) WHERE status = 0;"
            "CREATE INDEX jobs_queued_tenant ON jobs (tenant) WHERE status = 0;"
            "PRAGMA user_version = 1")
    store.close()
    front.start()
    assert front.picture(old) == picture
    assert front.wait(front.submit(sweep=GRID))["status"] == "succeeded"


@pytest.mark.parametrize("sweep, words, pointer", [
    ({}, "x, or x and y", "/sweep"),
    ([], "an object", "/sweep"),
    ({"x": {"field": "steps"}}, "a field and values", "/sweep/x"),
    ({"x": {"field": "steps", "values": []}}, "a field and values", "/sweep/x"),
    ({"x": {"field": "steps", "values": [[1]]}}, "a field and values", "/sweep/x"),
    ({"y": {"field": "steps", "values": [1]}}, "x, or x and y", "/sweep"),
    ({"x": {"field": "steps", "values": [1, 2]}, "w": {}}, "x, or x and y", "/sweep"),
    ({"x": {"field": "steps", "values": list(range(1, 66))}}, "64 cells", "/sweep/x/values"),
    ({"x": {"field": "seed", "values": list(range(9))},
      "y": {"field": "steps", "values": list(range(1, 9))}}, "64 cells, not 72", "/sweep"),
    ({"x": {"field": "steps", "values": [1, 0]}}, "cell 1 of the sweep: steps must be between",
     "/sweep/x/values/1"),
    ({"x": {"field": "sampler", "values": ["euler", "eular"]}}, "eular", None),
    ({"x": {"field": "nonsense", "values": [1]}}, "nonsense", "/sweep/x/values/0"),
    ({"x": {"field": "priority", "values": [1, 2]}}, "the same for all cells", "/sweep/x/field"),
    ({"x": {"field": "images", "values": [1, 2]}}, "the same for all cells", "/sweep/x/field"),
    ({"x": {"field": "steps", "values": [1]}, "y": {"field": "steps", "values": [2]}},
     "on two axes", "/sweep/y/field"),
])
def test_what_is_no_sweep_is_refused_by_name(front, sweep, words, pointer):
    before = len(front.get("/v1/jobs").json["jobs"])
    answer = front.post("/v1/jobs", request(sweep=sweep))
    assert answer.status == 422, answer
    assert words in json.dumps(answer.json["errors"]), answer.json
    if pointer:
        assert answer.json["errors"][0]["pointer"] == pointer
    assert len(front.get("/v1/jobs").json["jobs"]) == before


def test_a_sheet_of_many_large_pictures_shrinks_until_it_may_be_written(front):
    """64 cells of 512x512 and their labels are more pixels than a picture may have."""
    axes = {"x": {"field": "steps", "values": list(range(1, 9))}, "y": {"field": "cfg_scale", "values": list(range(1, 9))}}
    answer = front.post("/v1/jobs", request(width=512, height=512, sweep=axes))
    sweep = front.wait(answer.json["id"], seconds=120)
    assert sweep["status"] == "succeeded", sweep["error"]
    width, height = size_of(front.picture(sweep["id"]))
    assert 12_000_000 < width * height <= 16_777_216
