"""Proves that a web page of somebody else cannot use the server through a visitor's browser: form
posts, foreign origins and rebound host names are refused."""

import json

from front import request

BODY = json.dumps(request()).encode()


def test_only_json_is_taken_as_json(front):
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x",
                 "text/json", "application/json5"):
        answer = front.post("/v1/jobs", BODY, headers={"Content-Type": kind})
        assert answer.status == 415, (kind, answer)
    raw = front.raw(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: " +
                    str(len(BODY)).encode() + b"\r\n\r\n" + BODY)
    assert raw.startswith(b"HTTP/1.1 415")
    assert front.post("/v1/plan", BODY, headers={"Content-Type": "Application/JSON; charset=utf-8"}).status == 200


def test_foreign_origins_are_refused_without_cors_headers(front):
    for origin in ("https://example.org", "null", "http://127.0.0.1:1", "http://localhost",
                   f"http://127.0.0.1:{front.port}.example.org"):
        for method, path, body in (("POST", "/v1/jobs", BODY), ("GET", "/v1/jobs", None),
                                   ("OPTIONS", "/v1/jobs", None)):
            answer = front.call(method, path, body, headers={"Origin": origin})
            assert answer.status == 403, (origin, method, answer)
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    own = front.get("/v1/jobs", headers={"Origin": f"http://127.0.0.1:{front.port}"})
    assert own.status == 200
    assert "Access-Control-Allow-Credentials" not in own.headers


def test_listed_origins_may_call(serve):
    front = serve("", "--cors-origins", "https://paint.example, https://other.example")
    answer = front.get("/v1/models", headers={"Origin": "https://paint.example"})
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://paint.example"
    preflight = front.call("OPTIONS", "/v1/jobs", headers={"Origin": "https://other.example"})
    assert preflight.status == 204 and "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert front.get("/v1/models", headers={"Origin": "https://third.example"}).status == 403


def test_host_must_name_this_machine(front):
    for host in ("example.org", "127.0.0.1.example.org", "localhost.example.org", "10.0.0.1", "[::2]"):
        assert front.get("/v1/jobs", headers={"Host": host}).status == 403, host
    for host in ("localhost", f"127.0.0.1:{front.port}", "LOCALHOST:1", "[::1]", "127.8.9.1"):
        assert front.get("/v1/jobs", headers={"Host": host}).status == 200, host


def test_no_cookies_and_nosniff_everywhere(front):
    for path in ("/", "/v1/jobs", "/openapi.json", "/nothing"):
        answer = front.get(path)
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_scripts_in_prompts_stay_text(front):
    evil = "<script>alert(1)</script>"
    job_id = front.submit(prompt=evil, tag=evil)
    front.wait(job_id)
    assert evil.encode() not in front.get("/").body
    assert front.get(f"/v1/jobs/{job_id}").headers["Content-Type"] == "application/json"
