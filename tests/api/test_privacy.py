"""Proves that what users write stays out of logs, file names and other answers. Sends canaries in
every text field and header, through good, bad and failing calls, at the most talkative log level."""

from front import request

CANARY = "canary7f3a"


def test_canaries_appear_nowhere_but_in_their_own_job(serve):
    front = serve("step_ms=1", "--log-level", "debug")
    headers = {"Authorization": f"Bearer {CANARY}", "X-API-Key": CANARY, "Cookie": CANARY,
               "User-Agent": CANARY, "Idempotency-Key": CANARY, "Referer": CANARY}
    texts = {"prompt": CANARY, "negative_prompt": CANARY, "tag": f"{CANARY} fail@1=device",
             "user_data": {CANARY: CANARY}}
    failed = front.post("/v1/jobs?wait=20", request(**texts), headers=headers)
    assert failed.json["status"] == "failed" and failed.json["request"]["prompt"] == CANARY
    good = front.post("/v1/jobs?wait=20", request(prompt=CANARY, steps=2))
    assert good.json["status"] == "succeeded"
    answers = [front.post("/v1/jobs", {CANARY: 1}), front.post("/v1/jobs", request(model=CANARY)),
               front.get(f"/{CANARY}"), front.get(f"/v1/jobs?status={CANARY}"),
               front.post("/v1/jobs", CANARY.encode()), front.get("/v1/models"), front.get("/"),
               front.post("/v1/plan", request(prompt=CANARY + "x" * 20000))]
    assert all(answer.status < 500 for answer in answers)
    for answer in (front.get("/v1/models"), front.get("/"), front.get("/readyz"), front.get("/version")):
        assert CANARY.encode() not in answer.body
    front.stop()
    log = front.log_text()
    assert '"level":"debug"' in log and CANARY not in log
    names = [path.name for path in (front.folder / "state").rglob("*")]
    assert names and not [name for name in names if CANARY in name]


def test_log_lines_are_whole_json_without_control_characters(serve):
    import json

    front = serve("", "--log-level", "debug", "--log-format", "json")
    front.raw(b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n", timeout=1)
    front.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x07\r\n\r\n", timeout=1)
    front.post("/v1/jobs", request(prompt="line\nbreak", tag="fail@0=device"))
    front.stop()
    lines = front.log_path.read_bytes().splitlines()
    assert lines
    for line in lines:
        assert json.loads(line) and not [byte for byte in line if byte < 32 or byte == 127]
