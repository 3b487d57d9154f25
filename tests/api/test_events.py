"""Proves that event streams tell everything once and in order, resume by id, and survive a restart
of the front. Reads the raw event stream of running and ended jobs."""

import http.client
import threading
import time

from front import read_events, request


def test_a_stream_tells_the_whole_story_and_ends(front):
    job_id = front.submit(tag="step_ms=60", steps=4)
    events = read_events(front, f"/v1/jobs/{job_id}/events")
    names = [name for _, name, _ in events]
    assert names[0] == "status" and names[-1] == "done"
    assert names.count("progress") >= 3 and names.count("image") == 1
    ids = [number for number, _, _ in events]
    assert ids == sorted(set(ids))
    statuses = [data["status"] for _, name, data in events if name == "status"]
    assert statuses == ["queued", "running", "succeeded"]
    done = events[-1][2]
    assert done["id"] == job_id and done["status"] == "succeeded" and done["images"]
    assert read_events(front, f"/v1/jobs/{job_id}/events") == events  # also afterwards


def test_a_stream_resumes_behind_the_last_id(front):
    job_id = front.submit(tag="step_ms=40", steps=6)
    everything = read_events(front, f"/v1/jobs/{job_id}/events")
    for cut in (0, 2, len(everything) - 2):
        rest = read_events(front, f"/v1/jobs/{job_id}/events", last_id=everything[cut][0])
        assert rest == everything[cut + 1:]
    assert front.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "x"}).status == 400


def test_previews_are_on_the_stream(front):
    job_id = front.submit(tag="step_ms=60", steps=4, preview={"every": 1})
    events = read_events(front, f"/v1/jobs/{job_id}/events")
    previews = [data for _, name, data in events if name == "preview"]
    assert previews and all(data["base64"].startswith("iVBORw0KGgo") for data in previews)
    assert all(data["type"] == "image/png" for data in previews)


def test_the_common_stream_tells_of_all_own_jobs(front):
    collected = []

    def follow():
        collected.extend(read_events(front, "/v1/events", until="never", limit=24, timeout=3))

    def guarded():
        try:
            follow()
        except OSError:
            pass

    thread = threading.Thread(target=guarded)
    thread.start()
    time.sleep(0.3)
    ids = {front.submit(seed=seed) for seed in (1, 2, 3)}
    for job_id in ids:
        front.wait(job_id)
    start = read_events(front, "/v1/events", last_id=0, until="never", limit=5)
    assert len(start) == 5
    thread.join()
    assert not collected or {data.get("job") or data.get("id") for _, _, data in collected} <= ids


def test_events_survive_a_restart_of_the_front(serve):
    front = serve("step_ms=40")
    done = front.submit(steps=3)
    before = read_events(front, f"/v1/jobs/{done}/events")
    running = front.submit(steps=60, seed=3)
    head = read_events(front, f"/v1/jobs/{running}/events", until="progress")
    front.kill()
    front.start()
    assert read_events(front, f"/v1/jobs/{done}/events") == before
    tail = read_events(front, f"/v1/jobs/{running}/events", last_id=head[-1][0])
    assert tail[0][0] > head[-1][0]
    assert tail[-1][1] == "done" and tail[-1][2]["status"] == "succeeded"
    whole = read_events(front, f"/v1/jobs/{running}/events")
    ids = [number for number, _, _ in whole]
    assert ids == sorted(set(ids))


def test_streams_of_one_key_are_bounded(serve):
    front = serve("step_ms=100", "--limits-event-streams", "3")
    job_id = front.submit(steps=50)
    open_streams = []
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=5)
        connection.request("GET", f"/v1/jobs/{job_id}/events")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.readline() == b"retry: 2000\n"
        open_streams.append(connection)
    assert front.get(f"/v1/jobs/{job_id}/events").status == 429
    open_streams.pop().close()
    deadline = time.monotonic() + 5
    while front.call("HEAD", "/version") and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=5)
        connection.request("GET", f"/v1/jobs/{job_id}/events")
        if connection.getresponse().status == 200:
            open_streams.append(connection)
            break
        connection.close()
        time.sleep(0.1)
    assert len(open_streams) == 3  # the place of the one that left was given again
    for connection in open_streams:
        connection.close()
    front.post(f"/v1/jobs/{job_id}/cancel")


def test_a_slow_reader_loses_nothing(front):
    job_id = front.submit(steps=150, images=2, tag="step_ms=2")
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    connection.request("GET", f"/v1/jobs/{job_id}/events")
    answer = connection.getresponse()
    front.wait(job_id)
    text = answer.read().decode()
    connection.close()
    ids = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
    assert ids == sorted(set(ids))
    assert text.count("event: done") == 1 and text.count("event: image") == 2
    assert request()["prompt"] in text
