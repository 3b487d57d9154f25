"""Proves that equal jobs in flight are computed once, that each of them is still a job of its own, and
that nothing is shared between keys unless the operator says so."""

import os
import re
import signal
import subprocess
import time

from front import request


def metric(front, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", front.get("/metrics").body.decode(), re.M)
    return float(found[1]) if found else 0.0


def test_equal_jobs_are_computed_once_and_told_apart(serve):
    front = serve("step_ms=40")
    jobs = [front.submit(seed=5, steps=20, prompt="the same", user_data={"n": n}) for n in range(4)]
    other = front.submit(seed=6, steps=20, prompt="the same")
    ended = [front.wait(job) for job in jobs]
    assert [job["status"] for job in ended] == ["succeeded"] * 4
    assert len({job["images"][0]["sha256"] for job in ended}) == 1
    assert [job["request"]["user_data"] for job in ended] == [{"n": n} for n in range(4)]
    assert len({front.picture(job) for job in jobs}) == 1
    rows = sorted((job["unet_rows"], job["unet_rows_saved"]) for job in ended)
    assert rows == [(0, 40)] * 3 + [(40, 0)], rows
    assert front.wait(other)["unet_rows"] == 40
    assert metric(front, "latentd_jobs_joined_total") == 3
    # The first job is over: the next equal one is a computation of its own.
    later = front.wait(front.submit(seed=5, steps=20, prompt="the same"))
    assert later["unet_rows"] == 40 and later["images"][0]["sha256"] == ended[0]["images"][0]["sha256"]
    assert metric(front, "latentd_jobs_joined_total") == 3


def test_one_that_leaves_takes_nothing_from_the_others(serve):
    front = serve("step_ms=60")
    first, second, third = (front.submit(seed=9, steps=30) for _ in range(3))
    for job in (first, second, third):
        front.wait(job, ("running",))
    time.sleep(0.3)
    begun = time.monotonic()
    assert front.post(f"/v1/jobs/{first}/cancel").status in (200, 202)
    assert front.wait(first)["status"] == "cancelled"
    assert time.monotonic() - begun < 1.5, "it does not wait for the others"
    assert front.call("DELETE", f"/v1/jobs/{second}").status == 204
    assert front.wait(third)["status"] == "succeeded"
    # The last one to leave ends the computation.
    last = [front.submit(seed=10, steps=150) for _ in range(2)]
    for job in last:
        front.wait(job, ("running",))
    for job in last:
        front.post(f"/v1/jobs/{job}/cancel")
    for job in last:
        assert front.wait(job)["status"] == "cancelled"
    quick = time.monotonic()
    front.wait(front.submit(seed=11, steps=1))
    assert time.monotonic() - quick < 3, "nothing computes for nobody"


def test_different_wishes_are_different_jobs(serve):
    front = serve("step_ms=40", )
    before = metric(front, "latentd_jobs_joined_total")
    base = {"seed": 3, "steps": 15}
    others = front.get("/version").json["formats"][1:]
    for change in ({}, {"cfg_scale": 5}, {"negative_prompt": "x"}, {"preview": {"every": 5}},
                   {"preview": {"every": 5, "decoder": "latent"}}, *({"preview": {"every": 5, "format": name}} for name in others),
                   {"output": {"metadata": "none"}}, {"images": 2}):
        front.submit(**{**base, **change})
    time.sleep(1.0)
    assert metric(front, "latentd_jobs_joined_total") == before


def test_equal_jobs_meet_across_workers(serve):
    """Each worker has one place: what is equal goes to the worker that computes it already, beyond its
    number; what is not goes to the other one."""
    front = serve("step_ms=40", "--workers", "3", "--worker-jobs", "1")
    jobs = [front.submit(seed=5, steps=25, prompt="the same", user_data={"n": n}) for n in range(6)]
    others = [front.submit(seed=seed, steps=5) for seed in (6, 7)]
    ended = [front.wait(job) for job in jobs]
    assert [job["status"] for job in ended] == ["succeeded"] * 6
    assert len({job["images"][0]["sha256"] for job in ended}) == 1
    rows = sorted(job["unet_rows"] for job in ended)
    assert rows == [0] * 5 + [50], rows
    assert [front.wait(job)["unet_rows"] for job in others] == [10, 10]
    assert metric(front, "latentd_jobs_joined_total") == 5
    # A suspect runs alone: what was placed with others when their worker died is queued with them.
    crowd = [front.submit(seed=8, steps=30) for _ in range(4)]
    for job in crowd:
        front.wait(job, ("running",))
    for pid in front.worker_pids():
        os.kill(pid, signal.SIGKILL)
    assert len({front.picture(job) for job in crowd if front.wait(job)["status"] == "succeeded"}) == 1
    assert {front.wait(job)["status"] for job in crowd} == {"succeeded"}


def keyed_jobs(latentd, serve, folder, *flags):
    state = folder / "state"
    keys = [subprocess.run([latentd, "keys", "add", name, "--state-dir", str(state)], check=True,
                           capture_output=True, text=True).stdout.strip().splitlines()[-1] for name in ("ada", "bob")]
    front = serve("step_ms=40", *flags, folder=folder)
    jobs = []
    for key in keys * 2:
        answer = front.post("/v1/jobs", request(seed=4, steps=25), headers={"Authorization": f"Bearer {key}"})
        assert answer.status == 202, answer
        jobs.append((key, answer.json["id"]))
    deadline = time.monotonic() + 30
    ended = []
    for key, job in jobs:
        while time.monotonic() < deadline:
            view = front.get(f"/v1/jobs/{job}", headers={"Authorization": f"Bearer {key}"}).json
            if view["status"] == "succeeded":
                ended.append(view)
                break
            time.sleep(0.05)
    assert len(ended) == 4
    return metric(front, "latentd_jobs_joined_total"), sorted(view["unet_rows"] for view in ended)


def test_keys_share_among_themselves_only(latentd, serve, tmp_path):
    (tmp_path / "apart").mkdir()
    joined, rows = keyed_jobs(latentd, serve, tmp_path / "apart")
    assert joined == 2 and rows == [0, 0, 50, 50]


def test_keys_stay_apart_across_workers(latentd, serve, tmp_path):
    (tmp_path / "apart").mkdir()
    joined, rows = keyed_jobs(latentd, serve, tmp_path / "apart", "--workers", "3", "--worker-jobs", "1")
    assert joined == 2 and rows == [0, 0, 50, 50]


def test_keys_share_with_each_other_where_the_operator_says_so(latentd, serve, tmp_path):
    (tmp_path / "together").mkdir()
    joined, rows = keyed_jobs(latentd, serve, tmp_path / "together", "--worker-share-across-keys")
    assert joined == 3 and rows == [0, 0, 0, 50]
