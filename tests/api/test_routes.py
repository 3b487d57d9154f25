"""Proves that every documented call exists and answers in the documented way, and that everything
else is refused politely. Compares the server with its own OpenAPI document."""

import json
import re

import pytest

NO_ID = "0" * 26


def test_every_documented_call_exists(front):
    document = front.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        concrete = path.replace("{id}", NO_ID).replace("{n}", "0")
        for method in operations:
            if method not in ("get", "post", "delete", "put"):
                continue
            if path.endswith("/events"):
                continue  # streams without end have a file of their own
            answer = front.call(method.upper(), concrete,
                                None if method in ("get", "delete") else b"{")
            assert answer.status not in (405, 501, 500), (method, path, answer)
            if "{" not in path:
                assert answer.status != 404, (method, path, answer)


def resolved(document, node):
    while "$ref" in node:
        _, _, kind, name = node["$ref"].split("/")
        node = document["components"][kind][name]
    return node


def test_every_documented_bound_of_a_query_holds(front):
    """At the bound it is taken, one beyond it is refused."""
    document = front.get("/openapi.json").json
    tried = 0
    for path, operations in document["paths"].items():
        if "{" in path or "get" not in operations:
            continue
        listed = [resolved(document, node) for node in operations["get"].get("parameters", [])]
        needed = {"q": "a"} if path == "/v1/tags" else {}
        for parameter in listed:
            schema, name = resolved(document, parameter.get("schema", {})), parameter["name"]
            if parameter["in"] != "query":
                continue
            cases = [(str(schema[b]), str(schema[b] + d)) for b, d in (("minimum", -1), ("maximum", 1)) if b in schema]
            if "maxLength" in schema:
                cases.append(("a" * schema["maxLength"], "a" * (schema["maxLength"] + 1)))
            for good, bad in cases:
                others = "".join(f"&{n}={v}" for n, v in needed.items() if name not in ("q", "prefix"))
                assert front.get(f"{path}?{name}={good}{others}").status == 200, (path, name, good)
                assert front.get(f"{path}?{name}={bad}{others}").status in (400, 422), (path, name, bad)
                tried += 1
    assert tried >= 5
    for length, status in ((255, 202), (256, 400)):
        answer = front.post("/v1/jobs", {"prompt": "a", "width": 64, "height": 64, "steps": 1},
                            headers={"Idempotency-Key": "k" * length})
        assert answer.status == status, answer


def test_other_methods_get_405_with_allow(front):
    for method, path, allow in (("POST", "/healthz", "GET, HEAD"), ("PUT", "/v1/jobs", "POST, GET, HEAD"),
                                ("DELETE", "/v1/models", "GET, HEAD")):
        answer = front.call(method, path)
        assert answer.status == 405 and answer.headers["Allow"] == allow, answer


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/jobs/", "/v1/jobs/short", "/V1/jobs",
                                  f"/v1/jobs/{NO_ID}/images/01", f"/v1/jobs/{NO_ID}/images/x",
                                  f"/v1/jobs/{NO_ID.upper()}A", f"/v1/jobs/{NO_ID}/events/more"])
def test_unknown_paths_get_a_problem_document(front, path):
    answer = front.get(path)
    assert answer.status == 404, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == 404 and answer.json["title"] and answer.json["type"]


def test_unknown_jobs_are_not_found(front):
    for method, path, body in (("GET", f"/v1/jobs/{NO_ID}", None), ("DELETE", f"/v1/jobs/{NO_ID}", None),
                               ("POST", f"/v1/jobs/{NO_ID}/cancel", None),
                               ("GET", f"/v1/jobs/{NO_ID}/events", None),
                               ("GET", f"/v1/jobs/{NO_ID}/images/0", None)):
        assert front.call(method, path, body).status == 404, path


def test_health_readiness_version_and_page(front):
    assert front.get("/healthz").status == 200
    assert front.get("/readyz").status == 200
    version = front.get("/version")
    assert version.json["name"] == "latentd"
    assert version.headers["Server"] == "latentd/" + version.json["version"]
    page = front.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    head = front.call("HEAD", "/version")
    assert head.status == 200 and head.body == b""
    assert int(head.headers["Content-Length"]) == len(version.body)


def test_listings(front):
    models = front.get("/v1/models").json
    assert models["object"] == "list" and models["data"][0]["id"] == "scripted"
    adapters = front.get("/v1/adapters").json["adapters"]
    assert adapters[0]["name"] == "ink" and adapters[0]["kind"] == "lora"
    embeddings = front.get("/v1/embeddings").json["embeddings"]
    assert embeddings[0]["name"] == "bad" and embeddings[0]["vectors"] == 2
    assert front.get("/v1/controlnets").json == {"controlnets": [{"name": "edges", "sha256": "22", "bytes": 8}]}
    samplers = {s["name"] for s in front.get("/v1/samplers").json["samplers"]}
    assert {"euler", "euler_ancestral", "dpmpp_2m", "gradient_estimation"} <= samplers
    schedulers = {s["name"] for s in front.get("/v1/schedulers").json["schedulers"]}
    assert {"simple", "karras", "gits"} <= schedulers
    sizes = front.get("/v1/resolutions").json["resolutions"]
    assert all(size["width"] % 8 == 0 for size in sizes)
    assert front.get("/v1/resolutions?model=none").status == 404


def test_tags_complete_by_prefix_and_alias(front):
    found = front.get("/v1/tags?q=blue%20e").json["tags"]
    assert [tag["name"] for tag in found] == ["blue_eyes"]
    assert found[0] == {"name": "blue_eyes", "text": "blue eyes", "category": "general",
                        "count": None}
    found = front.get("/v1/tags?prefix=grays").json["tags"]
    assert found[0]["name"] == "greyscale" and found[0]["alias"] == "grayscale"
    assert len(front.get("/v1/tags?q=b&limit=3").json["tags"]) == 3
    assert front.get("/v1/tags?q=zzz").json == {"tags": []}
    for query, words in (("", "q must have"), ("?q=", "q must have"), ("?q=a&limit=0", "limit"),
                         ("?q=a&limit=101", "limit"), ("?q=a&limit=x", "limit"),
                         ("?q=a&syntax=latex", "syntax"), ("?q=" + "a" * 256, "q must have")):
        refused = front.get("/v1/tags" + query)
        assert refused.status == 422 and words in refused.json["detail"], query


def test_hyper_without_an_adapter_is_one_sentence(front):
    refused = front.post("/v1/plan", {"prompt": "a", "hyper": True})
    assert refused.status == 422
    assert refused.json["errors"] == [{"pointer": "/hyper", "message":
                                       "hyper: no adapter with a recipe is here; put one such as "
                                       "Hyper-SD15-8steps-CFG-lora into the folder of adapters, or "
                                       "name an adapter in loras"}]


def test_the_plan_runs_nothing(front):
    before = len(front.get("/v1/jobs").json["jobs"])
    plan = front.post("/v1/plan", {"prompt": "a, b", "steps": 10})
    assert plan.status == 200, plan
    assert plan.json["request"]["steps"] == 10 and plan.json["unet_rows"] == 20
    assert plan.json["work_units"] > 0
    assert json.loads(plan.body, object_pairs_hook=no_repeats)
    assert len(front.get("/v1/jobs").json["jobs"]) == before
    assert front.post("/v1/plan", {"prompt": "a", "steps": 0}).status == 422


def no_repeats(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), keys
    return dict(pairs)


def test_a_prompt_is_parsed(front):
    parsed = front.post("/v1/prompt/parse", {"prompt": "one, two"})
    assert parsed.status == 200 and parsed.json["tokens"][0]["total"] > 0
    assert front.post("/v1/prompt/parse", {"prompt": "x", "width": 64}).status == 422


def test_errors_never_show_paths_addresses_or_sql(front):
    texts = [front.get("/v1/jobs?cursor=x").body, front.post("/v1/jobs", b"{").body,
             front.post("/v1/jobs", {"prompt": "a", "model": "../../etc/passwd"}).body,
             front.post("/v1/images", b"GIF89a", headers={"Content-Type": "image/png"}).body,
             front.get("/v1/jobs?limit=0").body, front.get("/v1/jobs?status=odd").body]
    for text in texts:
        assert json.loads(text)["status"] >= 400
        assert not re.search(rb"0x[0-9a-f]{6}|/tmp/|/home/|\.c:\d+|SELECT|sqlite", text), text
