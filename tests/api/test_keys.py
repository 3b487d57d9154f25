"""Proves who is let in: keys are made, changed and revoked beside a running server, which follows at
once; without a key there is one anonymous caller and only until the first key; what a key may not do
is refused with its own status; nobody sees what belongs to another."""

import base64
import http.client
import json
import os
import stat
import subprocess
import threading
import time

import pytest

from front import request


def keys(latentd, folder, *words, check=True):
    done = subprocess.run([latentd, "keys", *words, "--state-dir", str(folder / "state")],
                          capture_output=True, text=True, timeout=20)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def add(latentd, folder, name, *words):
    return keys(latentd, folder, "add", name, *words).stdout.strip()


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def basic(key, user="me"):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def test_the_first_key_closes_the_door_and_revoking_it_does_not_open_it(serve, latentd, tmp_path):
    front = serve()
    assert front.get("/v1/jobs").status == 200
    key = add(latentd, tmp_path, "anna")
    answer = front.get("/v1/jobs")
    assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json["type"].endswith("unauthorized")
    assert front.get("/v1/jobs", headers=bearer(key)).status == 200
    assert front.get("/v1/jobs", headers={"X-API-Key": key}).status == 200
    assert front.get("/v1/jobs", headers=basic(key)).status == 401  # Basic is for A1111's routes only
    for path in ("/healthz", "/readyz", "/version", "/openapi.json", "/"):
        assert front.get(path).status == 200, path
    keys(latentd, tmp_path, "revoke", "anna")
    assert front.get("/v1/jobs", headers=bearer(key)).status == 401
    assert front.get("/v1/jobs").status == 401
    front.stop()
    assert serve(ready=False).get("/v1/jobs").status == 401


def test_wrong_keys_are_told_apart_from_none_and_slowed(serve, latentd, tmp_path):
    key = add(latentd, tmp_path, "anna")
    front = serve(ready=False)
    wrong = [key[:-1] + ("A" if key[-1] != "A" else "B"), "ldk_00000000_" + key[13:], key[:-1],
             key + "A", "", "ldk_", key.upper()]
    statuses = [front.get("/v1/jobs", headers=bearer(text)).status for text in wrong]
    assert statuses == [401] * len(wrong)
    late = [front.get("/v1/jobs", headers=bearer(wrong[0])) for _ in range(6)]
    assert [answer.status for answer in late] == [401, 401, 401, 429, 429, 429]
    assert int(late[-1].headers["Retry-After"]) >= 1
    assert front.get("/v1/jobs", headers=bearer(key)).status == 200  # a right key is always served
    assert key not in front.log_text() and key[13:] not in front.log_text()


def test_what_is_kept_is_no_key(latentd, tmp_path):
    key = add(latentd, tmp_path, "anna")
    path = tmp_path / "state" / "keys.jsonl"
    text = path.read_text()
    assert key[13:] not in text and key not in text
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    listed = json.loads(keys(latentd, tmp_path, "list", "--json").stdout)
    assert [entry["name"] for entry in listed] == ["anna"]
    assert "sha256" not in listed[0] and key[13:] not in json.dumps(listed)


@pytest.mark.parametrize("words, sentence", [
    (("add", "a b"), "name must"), (("add", ""), "name must"), (("add", "n" * 65), "name must"),
    (("add", "anna", "--weight", "0"), "weight must be between 1 and 1000"),
    (("add", "anna", "--weight", "1001"), "weight must be between 1 and 1000"),
    (("add", "anna", "--weight", "x"), "weight must be an integer"),
    (("add", "anna", "--queued", "201"), "queued must be between 1 and 200"),
    (("add", "anna", "--area-max", "16777217"), "area_max must be between 4096 and 16777216"),
    (("add", "anna", "--scopes", "paint"), "scopes must be of"), (("add", "anna", "--scopes", ","), "scopes must"),
    (("add", "anna", "--rating", "nice"), "rating must be"), (("add", "anna", "--wieght", "3"), "no option"),
    (("add",), "say which key"), (("revoke", "nobody"), "no valid key"), (("paint",), "say add, set"),
])
def test_bad_words_get_one_sentence(latentd, tmp_path, words, sentence):
    done = keys(latentd, tmp_path, *words, check=False)
    assert done.returncode in (1, 2) and sentence in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "state" / "keys.jsonl").exists()


def test_names_are_one_key_each_until_revoked(latentd, tmp_path):
    first = add(latentd, tmp_path, "anna")
    assert keys(latentd, tmp_path, "add", "anna", check=False).returncode == 1
    keys(latentd, tmp_path, "revoke", first[4:12])
    second = add(latentd, tmp_path, "anna")
    assert first != second
    rows = keys(latentd, tmp_path, "list", "--all").stdout.splitlines()
    assert len(rows) == 3 and "revoked" in rows[1] and "revoked" not in rows[2]
    assert len(keys(latentd, tmp_path, "list").stdout.splitlines()) == 2


def test_a_damaged_file_changes_nothing(serve, latentd, tmp_path):
    key = add(latentd, tmp_path, "anna")
    front = serve(ready=False)
    path = tmp_path / "state" / "keys.jsonl"
    good = path.read_text()
    for bad in ("", "{", "nonsense\n", good.replace("sha256", "sha"), good.replace('"name":"anna"', '"name":""')):
        path.write_text(bad)
        assert front.get("/v1/jobs", headers=bearer(key)).status == 200
        assert front.get("/v1/jobs").status == 401
    path.unlink()
    assert front.get("/v1/jobs").status == 401
    path.write_text(good)
    assert front.get("/v1/jobs", headers=bearer(key)).status == 200


def test_callers_of_a_proxy_are_not_this_machine(serve, latentd, tmp_path):
    front = serve("", "--behind-proxy")
    assert front.get("/v1/jobs").status == 401
    assert front.get("/v1/jobs", headers={"X-Forwarded-For": "127.0.0.1"}).status == 401
    key = add(latentd, tmp_path, "anna")
    assert front.get("/v1/jobs", headers=bearer(key)).status == 200

    def wrong(address):
        return front.get("/v1/jobs", headers={**bearer(key[:-1] + "!"), "X-Forwarded-For": address}).status

    assert [wrong("203.0.113.7") for _ in range(11)] == [401] * 10 + [429]
    assert wrong("198.51.100.1, 203.0.113.8") == 401  # the last one is what the proxy saw
    assert wrong("203.0.113.9, 203.0.113.7") == 429
    assert [wrong(f"2001:db8:1:2::{i}") for i in range(11)] == [401] * 10 + [429]  # one /64, one caller
    assert wrong("2001:db8:1:3::1") == 401


def test_anonymous_callers_from_elsewhere_are_counted_by_address(serve):
    front = serve("", "--behind-proxy", "--allow-anonymous", "--limits-requests-per-minute", "5")

    def call(address):
        return front.get("/v1/samplers", headers={"X-Forwarded-For": address} if address else {})

    answers = [call("203.0.113.7") for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert answers[0].headers["RateLimit-Policy"] == '"calls";q=5;w=60'
    assert call("203.0.113.8").status == 200
    assert [call("").status for _ in range(8)] == [200] * 8
    assert front.get("/v1/admin/keys").status == 403
