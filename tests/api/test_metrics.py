"""Proves that /metrics counts what happened, in Prometheus' text format, and says nothing that a user
wrote. Drives a server through successes, refusals and deaths, and reads the numbers afterwards."""

import json
import pathlib
import re
import time

LINE = re.compile(r'^([a-zA-Z_][a-zA-Z0-9_]*)(\{(?:[a-z_]+="[^"]*",?)*\})? (-?[0-9.e+-]+|\+Inf|NaN)$')


def scrape(front):
    answer = front.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    values = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("#"):
            continue
        found = LINE.match(line)
        assert found, line
        key = found[1] + (found[2] or "")
        assert key not in values, key
        values[key] = float(found[3])
    return values


def test_it_counts_what_happened(serve):
    front = serve("step_ms=5", "--limits-queued-per-key", "20")
    before = scrape(front)
    ids = [front.submit(seed=n) for n in range(4)]
    for job in ids:
        assert front.wait(job)["status"] == "succeeded"
    failed = front.submit(tag="fail@1=numerical")
    assert front.wait(failed)["status"] == "failed"
    long = front.submit(tag="step_ms=200", steps=50)
    front.wait(long, ("running",))
    front.post(f"/v1/jobs/{long}/cancel")
    front.wait(long)
    assert front.post("/v1/jobs", {"steps": 999}).status == 422
    assert front.get("/nothing-here").status == 404
    after = scrape(front)

    def grew(key):
        return after.get(key, 0) - before.get(key, 0)

    assert grew('latentd_jobs_submitted_total{kind="txt2img"}') == 6
    assert grew('latentd_jobs_finished_total{outcome="ok"}') == 4
    assert grew('latentd_jobs_finished_total{outcome="failed"}') == 1
    assert grew('latentd_jobs_finished_total{outcome="cancelled"}') == 1
    assert grew('latentd_gpu_errors_total{kind="numerical"}') == 1
    assert grew("latentd_images_total") == 4 and grew("latentd_image_bytes_total") > 200
    assert grew("latentd_queue_wait_seconds_count") == 6
    assert grew('latentd_job_stage_seconds_count{stage="denoise"}') == 4
    posts = 'latentd_http_requests_total{route="/v1/jobs",method="POST",dialect="native",code="%d"}'
    assert grew(posts % 202) == 6 and grew(posts % 422) == 1
    assert grew('latentd_http_requests_total{route="none",method="any",dialect="none",code="404"}') == 1
    steps = sum(grew(key) for key in after if key.startswith("latentd_denoise_step_seconds_count"))
    assert steps > 0 and grew("latentd_batch_size_count") == steps
    assert after['latentd_workers{state="ready"}'] == 1 and after["latentd_store_up"] == 1
    assert after['latentd_worker_resident_bytes{worker="0"}'] > 1 << 20
    assert after["process_open_fds"] > 5


def test_a_death_is_counted_and_takes_nothing_back(serve):
    front = serve()
    first = front.submit()
    front.wait(first)
    before = scrape(front)
    job = front.submit(tag=f"crash@2 once={front.folder}/crashed")
    assert front.wait(job)["status"] == "succeeded"
    after = scrape(front)
    assert after['latentd_worker_deaths_total{how="signal"}'] == 1
    assert after["latentd_worker_restarts_total"] == 1
    assert after["latentd_jobs_requeued_total"] == 1
    for key, value in before.items():
        if "_total" in key or key.endswith("_count"):
            assert after[key] >= value, key


def test_queue_and_streams_are_seen_as_they_are(serve):
    front = serve("step_ms=100", "--worker-jobs", "1")
    ids = [front.submit(seed=n, steps=100) for n in range(3)]
    front.wait(ids[0], ("running",))
    time.sleep(0.3)
    values = scrape(front)
    assert values['latentd_queue_jobs{state="queued"}'] == 2
    assert values['latentd_queue_jobs{state="running"}'] == 1
    assert 0.2 < values["latentd_queue_oldest_age_seconds"] < 20
    for job in ids:
        front.post(f"/v1/jobs/{job}/cancel")


def test_dashboard_and_alarms_ask_for_what_there_is(front):
    deploy = pathlib.Path(__file__).resolve().parents[2] / "deploy"
    text = front.get("/metrics").body.decode()
    known = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    known |= {name + end for name in known for end in ("_bucket", "_sum", "_count")}
    dashboard = json.loads((deploy / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(asked) > 30
    asked.append((deploy / "prometheus.rules.yml").read_text())
    for expression in asked:
        for name in re.findall(r"\b(?:latentd|process)_[a-z_]+", expression):
            assert name in known, name


def test_nothing_that_a_user_wrote_is_in_it(serve):
    front = serve()
    canary = "canary7731"
    job = front.submit(prompt=canary, negative_prompt=canary, tag=canary, user_data={canary: canary})
    front.wait(job)
    front.get(f"/{canary}?{canary}={canary}", headers={"X-API-Key": canary, "User-Agent": canary})
    front.get(f"/v1/jobs/{'0' * 26}?cursor={canary}")
    text = front.get("/metrics").body.decode()
    assert canary not in text and job not in text
