"""Proves that a scan of the folders, which a worker does between two steps, keeps nobody waiting for
ever: scans that are asked for at once are few, a worker that dies in one is replaced and the caller told,
one that does not answer holds up a web interface for ten seconds at most."""

import concurrent.futures
import os
import signal
import subprocess
import time

from front import request


def administrator(front):
    done = subprocess.run([front.latentd, "keys", "add", "root", "--scopes", "read,generate,admin", "--state-dir",
                           str(front.folder / "state")], capture_output=True, text=True, check=True, timeout=30)
    return {"Authorization": "Bearer " + done.stdout.split()[-1]}


def found(front, key=None):
    """How many scans the listing shows: the scripted worker finds one adapter more in each."""
    names = [adapter["name"] for adapter in front.get("/v1/adapters", headers=key).json["adapters"]]
    return len([name for name in names if name.startswith("scan")])


def test_who_asks_at_once_shares_a_scan(serve):
    front = serve("scan_ms=500", "--workers", "2")
    key = administrator(front)
    first = front.post("/v1/admin/rescan", None, headers=key)
    assert first.status == 200 and first.json["adapters"] == {"added": 1, "removed": 0, "changed": 0, "unusable": 0}
    assert found(front, key) == 1, "the listing is new when the answer comes"
    for kind in ("models", "adapters", "embeddings", "controlnets", "wildcards"):
        assert front.get(f"/v1/{kind}", headers=key).headers["Cache-Control"] == "private, no-cache", "also in a browser"
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda _: front.post("/v1/admin/rescan", None, headers=key), range(12)))
        spent = time.monotonic() - began
    assert [answer.status for answer in answers] == [200] * 12
    assert found(front, key) in (2, 3) and spent < 4, (found(front, key), spent)


def test_a_model_that_is_not_listed_is_looked_for_once(serve):
    front = serve("scan_ms=1")
    key = administrator(front)
    assert front.post("/v1/admin/models/nobody/load", None, headers=key).status == 404
    assert found(front, key) == 1
    assert front.post("/v1/admin/models/scripted/load", None, headers=key).status == 200
    assert front.post("/v1/admin/models/nobody/unload", None, headers=key).status == 404
    assert found(front, key) == 1


def test_a_worker_that_dies_in_a_scan_is_replaced_and_the_caller_told(serve):
    front = serve("scan_dies")
    key = administrator(front)
    for _ in range(2):
        old = front.worker_pids()
        answer = front.post("/v1/admin/rescan", None, headers=key)
        assert answer.status == 503 and "ended before it answered" in answer.json["detail"], answer
        deadline = time.monotonic() + 10
        while front.worker_pids() in ([], old):  # until then /readyz may not know of the death
            assert time.monotonic() < deadline
            time.sleep(0.01)
        front.wait_ready()
    answer = front.post("/sdapi/v1/refresh-loras", {}, headers=key)
    assert (answer.status, answer.body) == (200, b"null")
    front.wait_ready()
    job = front.post("/v1/jobs?wait=20", request(), headers=key).json
    assert job["status"] == "succeeded", job


def test_a_worker_that_does_not_answer_holds_nobody_for_long(serve):
    front = serve("scan_ms=1")
    pid = front.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = front.post("/sdapi/v1/refresh-checkpoints", {}, timeout=30)
        spent = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (answer.status, answer.body) == (200, b"null") and 9 < spent < 15, spent
    deadline = time.monotonic() + 10
    while found(front) < 1:  # the scan itself was not given up
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_refresh_is_for_who_may_ask_for_it(serve, tmp_path):
    front = serve("scan_ms=1")
    assert front.post("/sdapi/v1/refresh-loras", {}).status == 200
    assert found(front) == 1, "anonymous, on this machine alone"
    for call in ("unload-checkpoint", "reload-checkpoint"):
        assert front.post(f"/sdapi/v1/{call}", {}).body == b"null"
    assert found(front) == 1
    elsewhere = tmp_path / "proxied"
    elsewhere.mkdir()
    proxied = serve("scan_ms=1", "--behind-proxy", "--allow-anonymous", folder=elsewhere)
    answer = proxied.post("/sdapi/v1/refresh-loras", {})
    assert (answer.status, answer.body) == (200, b"null") and found(proxied) == 0
    assert front.post("/v1/admin/rescan", None).status in (401, 403)


def test_a_scan_runs_between_the_steps_of_a_job(serve):
    front = serve("scan_ms=100 step_ms=20")
    alone = front.wait(front.submit(**request(seed=5, steps=30)))["images"][0]["sha256"]
    job_id = front.submit(**request(seed=5, steps=30))
    front.wait(job_id, ("running",))
    for _ in range(3):
        assert front.post("/sdapi/v1/refresh-checkpoints", {}).status == 200
    assert front.wait(job_id)["images"][0]["sha256"] == alone
    assert found(front) == 3


def test_manifests_and_tags_are_read_again(serve, tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    front = serve("", "--manifest-dir", str(folder))
    key = administrator(front)

    def look(expected=200):
        answer = front.post("/v1/admin/rescan", None, headers=key)
        assert answer.status == expected, answer
        return answer.json

    def manifest():
        (model,) = front.get("/v1/models", headers=key).json["data"]
        return model["manifest"]

    def tags():
        return [tag["name"] for tag in front.get("/v1/tags?q=zzz", headers=key).json["tags"]]

    before = manifest()
    (folder / "mine.conf").write_text("[manifest]\ntitle = Mine\nmodels = scripted\n")
    (folder / "mine.tags.csv").write_text("zzzebra,0,10,\n")
    assert manifest() == before and tags() == []
    look()
    assert manifest() == "mine" and tags() == ["zzzebra"]
    (folder / "mine.tags.csv").write_text("zzzebra,0,ten,\n")
    assert "mine.tags.csv" in look(409)["detail"] and str(tmp_path) not in look(409)["detail"]
    assert front.post("/sdapi/v1/refresh-loras", {}, headers=key).body == b"null"
    assert tags() == ["zzzebra"], "what cannot be read leaves the old one"
    (folder / "mine.tags.csv").unlink()
    (folder / "mine.conf").unlink()
    os.kill(front.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 10
    while manifest() == "mine" or tags():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for i in range(40):
        (folder / "mine.tags.csv").write_text(f"zzz{i},0,10,\n")
        answer = front.post("/v1/admin/rescan", None, headers=key)
        if answer.status != 200:
            break
    assert answer.status == 409 and "changed 32 times" in answer.json["detail"] and 25 < i < 32
    assert front.get("/healthz").status == 200
