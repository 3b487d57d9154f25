"""Proves that models are made over HTTP as the command line makes them: the next job paints with the new
one, to the byte as with the file of `latentd merge`; what is wrong is refused or fails with one sentence;
one at a time, cancelled or ended with the server without leaving anything behind."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import time

import pytest

from test_residency import SMALL, adapter_dir, key_of, paint, states, two_models  # noqa: F401 (fixtures)


class Boss:
    """An administrator at a server."""

    def __init__(self, server, key):
        self.server, self.key = server, {"Authorization": "Bearer " + key}

    def call(self, method, path, body=None):
        status, _, text = self.server.call(method, path, body, self.key)
        return status, json.loads(text)

    def start(self, name, **what):
        return self.call("POST", "/v1/admin/models", {"name": name, **what})

    def end_of(self, name):
        deadline = time.monotonic() + 120  # ends a hang only
        while time.monotonic() < deadline:
            status, told = self.call("GET", f"/v1/admin/models/{name}/build")
            assert status == 200, told
            if told["status"] != "running":
                return told
            time.sleep(0.05)
        raise AssertionError("the build never ended")


@pytest.fixture
def boss(serve, two_models, adapter_dir, tmp_path, latentd):  # noqa: F811
    key = key_of(latentd, tmp_path)
    return Boss(serve("--model-dir", str(two_models), "--adapter-dir", str(adapter_dir), model="one"), key)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_merged_model_paints_as_that_of_the_command_line(boss, serve, two_models, tmp_path, latentd):  # noqa: F811
    adapters = tmp_path / "adapters"
    status, told = boss.start("mine", merge={"models": ["one", "two"], "alpha": 0.25, "dtype": "fp32",
                                             "adapters": [{"name": "plus", "weight": 0.5, "text_weight": 0}]})
    assert status == 202 and (told["name"], told["status"]) == ("mine", "running"), told
    told = boss.end_of("mine")
    assert told["status"] == "done" and told["report"]["op"] == "weighted_sum", told
    assert told["report"]["tensors"] > 10 and told["report"]["adapters"] == [{"tensors_applied": 1, "tensors_unmatched": 0}]
    assert told["bytes"] == (two_models / "mine.safetensors").stat().st_size
    # Whoever saw the end sees the model, and the next job paints with it.
    assert states(boss.server, boss.key) == {"one": True, "two": False, "mine": False}
    job, picture = paint(boss.server, boss.key, model="mine")
    assert job["status"] == "succeeded", job
    assert picture != paint(boss.server, boss.key, model="one")[1]

    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(two_models / "one.safetensors", other)
    subprocess.run([latentd, "merge", two_models / "one.safetensors", two_models / "two.safetensors", "--alpha", "0.25", "--dtype", "fp32",
                    "--adapter", f"{adapters}/plus.safetensors:0.5:0", "-o", other / "mine.safetensors"],
                   check=True, capture_output=True, timeout=120)
    folder = tmp_path / "beside"
    folder.mkdir()
    beside = serve("--model-dir", str(other), model="one", folder=folder)
    assert paint(beside, model="mine")[1] == picture

    assert boss.start("small", convert={"model": "mine", "dtype": "fp8"})[0] == 202
    told = boss.end_of("small")
    assert told["status"] == "done" and told["report"]["dtype"] == "fp8", told
    assert told["bytes"] < 0.75 * (two_models / "mine.safetensors").stat().st_size
    assert paint(boss.server, boss.key, model="small")[0]["status"] == "succeeded"
    assert boss.call("GET", "/v1/admin/models/mine/build")[0] == 404, "only the last one is remembered"


def test_what_is_wrong_is_refused_by_name(boss, serve, two_models, latentd):  # noqa: F811
    pair = {"models": ["one", "two"]}
    before = names(two_models)
    for body, status, pointer, words in (
            ({"merge": pair}, 422, "", "needs a name"),
            ({"name": "a/b", "merge": pair}, 422, "/name", "plain file name"),
            ({"name": "..", "merge": pair}, 422, "/name", "plain file name"),
            ({"name": ".hidden", "merge": pair}, 422, "/name", "plain file name"),
            ({"name": "x\u0000y", "merge": pair}, 422, "/name", "U+0000"),
            ({"name": "x" * 129, "merge": pair}, 422, "/name", "128 bytes"),
            ({"name": "two", "merge": pair}, 409, "/name", "already"),
            ({"name": "x"}, 422, "", "either merge or convert"),
            ({"name": "x", "merge": pair, "convert": {"model": "one"}}, 422, "", "either merge or convert"),
            ({"name": "x", "merge": pair, "output": "/tmp/x"}, 422, "/output", "unknown field output"),
            ({"name": "x", "merge": {"models": ["one", "/etc/passwd"]}}, 422, "/merge/models/1", "no model '/etc/passwd'"),
            ({"name": "x", "merge": {"models": ["one", "../models/two"]}}, 422, "/merge/models/1", "no model"),
            ({"name": "x", "merge": {"models": []}}, 422, "/merge/models", "1 to 3 names"),
            ({"name": "x", "merge": {**pair, "op": "ties"}}, 422, "/merge/op", "ties takes 3 models, not 2"),
            ({"name": "x", "merge": {**pair, "op": "--force"}}, 422, "/merge/op", "op must be weighted_sum"),
            ({"name": "x", "merge": {**pair, "alpha": 5}}, 422, "/merge/alpha", "between -4 and 4"),
            ({"name": "x", "merge": {**pair, "blocks": {"IN12": 1}}}, 422, "/merge/blocks/IN12", "is no block"),
            ({"name": "x", "merge": {**pair, "vae": "none"}}, 422, "/merge/vae", "no model 'none'"),
            ({"name": "x", "merge": {**pair, "adapters": [{"name": "no"}]}}, 422, "/merge/adapters/0/name", "no adapter 'no'"),
            ({"name": "x", "merge": {**pair, "adapters": [{"name": "plus", "weight": 9}]}}, 422, "/merge/adapters/0/weight", "between"),
            ({"name": "x", "merge": {"models": ["one"]}}, 422, "/merge", "one model alone"),
            ({"name": "x", "convert": {"model": "one", "dtype": "int4"}}, 422, "/convert/dtype", "dtype must be keep"),
            ({"name": "x", "convert": {"model": "one", "ema": 1}}, 422, "/convert/ema", "true or false"),
            ({"name": "x", "convert": {}}, 422, "/convert", "needs a model"),
            ([], 422, "", "must be an object")):
        got, told = boss.call("POST", "/v1/admin/models", body)
        assert got == status and words in told["detail"], (body, got, told)
        assert told["errors"][0]["pointer"] == pointer, (body, told)
    assert boss.call("GET", "/v1/admin/models/x/build")[0] == 404
    assert boss.call("DELETE", "/v1/admin/models/x/build")[0] == 404
    assert names(two_models) == before
    # Without a folder there is no place for it.
    folder = two_models.parent / "bare"
    folder.mkdir()
    bare = Boss(serve(folder=folder, model=two_models / "one.safetensors"), key_of(latentd, folder))
    status, told = bare.start("x", convert={"model": "one"})
    assert status == 409 and "models.dir" in told["detail"], told
    # Only an administrator.
    boss.key = {}
    assert boss.start("x", merge=pair)[0] in (401, 403)
    assert boss.call("GET", "/v1/admin/models/x/build")[0] in (401, 403)


def test_a_failure_is_one_sentence_without_a_path(boss, two_models):  # noqa: F811
    with open(two_models / "two.safetensors", "r+b") as file:
        file.truncate(100000)
    assert boss.start("x", merge={"models": ["one", "two"]})[0] == 202
    told = boss.end_of("x")
    assert told["status"] == "failed" and told["error"].startswith("'two.safetensors': "), told
    assert str(two_models) not in json.dumps(told) and "\n" not in told["error"]
    assert names(two_models) == ["one.safetensors", "two.safetensors"]
    assert boss.call("DELETE", "/v1/admin/models/x/build") == (200, told), "it has ended: nothing to cancel"
    # A failed one is in nobody's way, and a full disk is seen before anything is written.
    os.truncate(two_models / "two.safetensors", 1 << 42)
    status, told = boss.start("x", merge={"models": ["one", "two"]})
    assert status == 507 and "MiB left" in told["detail"], told
    assert boss.start("x", convert={"model": "one", "dtype": "fp16"})[0] == 202
    assert boss.end_of("x")["status"] == "done"
    assert paint(boss.server, boss.key, model="one")[0]["status"] == "succeeded"


def hold_long_build(boss, folder):
    """A build whose second parent takes a while to hash, stopped in the middle; its process."""
    path = folder / "two.safetensors"
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header, weights = json.loads(data[8:8 + size]), data[8 + size:]
    header["left.over"] = {"dtype": "U8", "shape": [2 << 30], "data_offsets": [len(weights), len(weights) + (2 << 30)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / ".next", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + weights)
        file.truncate(file.tell() + (2 << 30))
    os.replace(folder / ".next", path)  # the worker keeps the one it knows
    status, told = boss.start("long", merge={"models": ["one", "two"]})
    assert status == 202, told
    for _ in range(1000):
        for tasks in pathlib.Path(f"/proc/{boss.server.process.pid}/task").glob("*/children"):
            for child in tasks.read_text().split():
                if b"merge" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    os.kill(int(child), signal.SIGSTOP)
                    return int(child)
        time.sleep(0.002)
    raise AssertionError("no child was seen")


def gone(pid):
    for _ in range(600):
        try:
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_one_at_a_time_and_cancelled(boss, two_models):  # noqa: F811
    child = hold_long_build(boss, two_models)
    try:
        assert os.getpriority(os.PRIO_PROCESS, child) >= 10
        status, told = boss.start("other", convert={"model": "one"})
        assert status == 409 and "'long' is being built" in told["detail"], told
        assert boss.call("GET", "/v1/admin/models/long/build")[1]["status"] == "running"
        assert boss.call("DELETE", "/v1/admin/models/other/build")[0] == 404
        assert paint(boss.server, boss.key, model="one")[0]["status"] == "succeeded"
        status, told = boss.call("DELETE", "/v1/admin/models/long/build")
        assert status == 202 and told["status"] == "running", told
    finally:
        os.kill(child, signal.SIGCONT)
    told = boss.end_of("long")
    assert (told["status"], told["error"]) == ("cancelled", "the build was cancelled"), told
    assert gone(child) and names(two_models) == ["one.safetensors", "two.safetensors"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_ends_with_the_server(boss, two_models, number):  # noqa: F811
    child = hold_long_build(boss, two_models)
    try:
        boss.server.process.send_signal(number)
        boss.server.process.wait(60)
        assert number == signal.SIGKILL or gone(child), "also where it does not listen"
    finally:
        if pathlib.Path(f"/proc/{child}").exists():
            os.kill(child, signal.SIGCONT)
    assert gone(child) and names(two_models) == ["one.safetensors", "two.safetensors"]
