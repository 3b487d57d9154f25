"""Proves the fair queue as its users meet it: one key floods, the other paints, and its wait is
bounded; the flooder's own limits answer 429 with a time that is worth waiting; positions and
estimates say what a job waits for. Uses the scripted worker with steps of known length."""

import time

from front import request
from test_keys import add, bearer, keys

STEP_S = 0.02


def submit(front, key, status=202, **fields):
    answer = front.post("/v1/jobs", request(**fields), headers=bearer(key))
    assert answer.status == status, answer
    return answer


def job(front, key, job_id):
    answer = front.get(f"/v1/jobs/{job_id}", headers=bearer(key))
    assert answer.status == 200, answer
    return answer.json


def wait_for(front, key, job_id, statuses=("succeeded", "failed", "cancelled"), seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = job(front, key, job_id)
        if seen["status"] in statuses:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"{seen['status']}: {front.log_text()[-2000:]}")


def test_one_key_floods_and_the_other_paints(serve, latentd, tmp_path):
    """The story of a new user: 200 jobs of one key wait, 8 places; the other's jobs find the free
    place at once, one after the other, and pay only for themselves."""
    flood, paint = add(latentd, tmp_path, "flood"), add(latentd, tmp_path, "paint")
    admin = add(latentd, tmp_path, "root", "--scopes", "admin")
    front = serve("step_ms=20")
    began = time.monotonic()
    flooding = [submit(front, flood, steps=20).json["id"] for _ in range(190)]
    waits = []
    for seed in range(6):
        submitted = time.monotonic()
        answer = front.post("/v1/jobs?wait=20", request(steps=4, seed=seed), headers=bearer(paint), timeout=30)
        assert answer.status == 200 and answer.json["status"] == "succeeded"
        waits.append((answer.json["timings"]["queue_ms"] / 1000, time.monotonic() - submitted))
    left = front.get("/v1/me", headers=bearer(flood)).json["usage"]["queued"]
    queue_waits = [wait for wait, _ in waits]
    print(f"flood of 190 jobs, {left} still waiting after {time.monotonic() - began:.1f} s; the other's jobs "
          f"waited {max(queue_waits) * 1000:.0f} ms at most, whole call {max(w for _, w in waits):.2f} s at most")
    assert left > 100, "the flood was over before the other painted"
    job_s = 20 * STEP_S
    assert max(queue_waits) <= 3 * job_s  # (active users + 1) mean jobs; order of arrival: minutes
    for job_id in flooding[:3]:
        assert wait_for(front, flood, job_id)["status"] == "succeeded"
    keys(latentd, tmp_path, "revoke", "flood")  # and its flood goes with it
    deadline = time.monotonic() + 10
    while front.get("/v1/admin/queue", headers=bearer(admin)).json["queued"] > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert front.get(f"/v1/jobs/{flooding[0]}", headers=bearer(flood)).status == 401


def test_queue_bounds_and_retry_after(serve, latentd, tmp_path):
    small = add(latentd, tmp_path, "small", "--queued", "5", "--running", "2")
    other = add(latentd, tmp_path, "other")
    front = serve("step_ms=20", "--limits-queued-max", "12")
    first = submit(front, small, steps=10).json["id"]
    wait_for(front, small, first)  # a rate is known now
    held = [submit(front, small, steps=10).json["id"] for _ in range(2)]
    for job_id in held:
        wait_for(front, small, job_id, ("running",))
    queued = [submit(front, small, steps=10).json["id"] for _ in range(4)]
    waiting = job(front, small, queued[-1])
    assert waiting["waits_for"] == {"reason": "own_running", "own": 3, "others": 0}
    assert waiting["position"] == 3 and waiting["eta_ms"] > 0
    submit(front, small, steps=10)  # the fifth, at the bound
    began = time.monotonic()
    full = submit(front, small, status=429, steps=10)
    assert full.json["type"].endswith("queue_full") and int(full.headers["Retry-After"]) >= 1
    while True:
        answer = front.post("/v1/jobs", request(steps=10), headers=bearer(small))
        if answer.status == 202:
            break
        time.sleep(0.02)
    took = time.monotonic() - began
    assert took <= int(full.headers["Retry-After"]) + 0.5
    assert job(front, small, held[0])["status"] in ("running", "succeeded")
    while len(queued) < 60:
        answer = front.post("/v1/jobs", request(steps=100), headers=bearer(other))
        queued.append(answer.status)
        if answer.status != 202:
            break
    assert answer.status == 429 and "the queue is full (12 jobs)" in answer.json["detail"]
    assert front.get("/readyz").status == 503


def test_positions_count_by_virtual_time(serve, latentd, tmp_path):
    """One place only: while a long job runs, a's three and b's one wait; b's goes second at worst."""
    a, b = add(latentd, tmp_path, "a"), add(latentd, tmp_path, "b")
    front = serve("step_ms=20", "--worker-jobs", "1")
    long = submit(front, a, steps=60).json["id"]
    wait_for(front, a, long, ("running",))
    mine = [submit(front, a, steps=60).json["id"] for _ in range(3)]
    theirs = submit(front, b, steps=60).json["id"]
    seen = job(front, b, theirs)
    assert seen["position"] == 0 and seen["waits_for"] == {"reason": "place", "own": 0, "others": 0}
    assert [job(front, a, one)["position"] for one in mine] == [1, 2, 3]
    assert job(front, a, mine[2])["waits_for"] == {"reason": "jobs", "own": 2, "others": 1}
    urgent = submit(front, a, steps=60, priority=5).json["id"]
    lazy = submit(front, a, steps=60, priority=0).json["id"]
    assert job(front, a, lazy)["waits_for"]["own"] == 4
    assert front.post("/v1/jobs", request(priority=6), headers=bearer(a)).status == 403
    for one in (*mine, urgent, lazy, long):
        front.post(f"/v1/jobs/{one}/cancel", headers=bearer(a))
    wait_for(front, b, theirs)


def test_weights_share_the_machine(serve, latentd, tmp_path):
    """Two keys that always have something waiting, weights 10 and 30, one place: about 1 to 3."""
    light, heavy = add(latentd, tmp_path, "light"), add(latentd, tmp_path, "heavy", "--weight", "30")
    blocker = add(latentd, tmp_path, "blocker")
    front = serve("step_ms=4", "--worker-jobs", "1")
    mine = {light: [], heavy: []}
    submit(front, blocker, steps=150)  # until all of them wait
    for _ in range(40):
        for key in mine:
            mine[key].append(submit(front, key, steps=10).json["id"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done = {key: front.get("/v1/me", headers=bearer(key)).json["usage"] for key in mine}
        if done[heavy]["queued"] <= 10:
            break
        time.sleep(0.02)
    ran = {key: 40 - done[key]["queued"] for key in mine}
    print(f"weights 10 and 30: {ran[light]} and {ran[heavy]} jobs")
    assert 2.2 <= ran[heavy] / max(ran[light], 1) <= 4.0


def test_a_waiting_job_of_low_priority_gets_its_turn(serve, latentd, tmp_path):
    key = add(latentd, tmp_path, "anna")
    front = serve("step_ms=2", "--worker-jobs", "1")
    blocker = submit(front, key, steps=100).json["id"]
    low = submit(front, key, steps=1, priority=0).json["id"]
    high = [submit(front, key, steps=1, priority=5).json["id"] for _ in range(30)]
    wait_for(front, key, blocker)
    wait_for(front, key, low)
    began = job(front, key, low)["started_at"]
    after = sum(job(front, key, one).get("started_at", "z") > began for one in high)
    assert after >= 20  # every eighth turn is the oldest job's
