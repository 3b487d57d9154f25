"""Proves that a server sees files that come, go and change while it runs, once somebody who may asks for
it: every kind is listed and used after a refresh and gone after the next, a checkpoint that is replaced
during jobs gives the bytes of the old file or of the new one and nothing between, and what was created
besides is found, too."""

import json
import os
import shutil
import signal
import struct
import subprocess
import threading
import time

import pytest

from conftest import Server, free_port
from test_residency import SMALL, adapter_dir, key_of, paint  # noqa: F401 (fixtures)


def read_tensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + size]), data[8 + size:]


def write_tensors(path, tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes). Under another name first: nobody sees half of it."""
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    beside = path.with_name(".next")
    beside.write_bytes(struct.pack("<Q", len(text)) + text + body)
    os.replace(beside, path)


def other_weights(source, path, seed):
    """Another checkpoint of the same shapes: one part of the weights is negated, which part says the seed."""
    data = bytearray(source.read_bytes())
    for i in range(len(data) - 8192 * (seed + 1) + 3, len(data) - 8192 * seed, 4):
        data[i] ^= 0x80
    beside = path.with_name(".next")
    beside.write_bytes(data)
    os.replace(beside, path)


def embedding(path, tiny_model, value):
    header, _ = read_tensors(tiny_model)
    (width,) = {tensor["shape"][1] for name, tensor in header.items() if name.endswith("token_embedding.weight")}
    signs = [value if i % 2 else -value for i in range(width)]  # a layer norm takes out what all channels share
    write_tensors(path, {"emb_params": ("F32", [1, width], struct.pack(f"<{width}f", *signs))})


def vae(path, tiny_model, sign):
    """The checkpoint's own VAE; with another sign it decodes the negative."""
    header, body = read_tensors(tiny_model)
    own = {}
    for name, tensor in header.items():
        if not name.startswith("first_stage_model."):
            continue
        begin, end = tensor["data_offsets"]
        raw = bytearray(body[begin:end])
        if name.startswith("first_stage_model.decoder.conv_out.") and sign < 0:
            step = {"F32": 4, "F16": 2}[tensor["dtype"]]
            for i in range(step - 1, len(raw), step):
                raw[i] ^= 0x80
        own[name] = (tensor["dtype"], tensor["shape"], bytes(raw))
    write_tensors(path, own, header["__metadata__"])


class House:
    """One folder that brings everything, and a server that has begun with a single checkpoint in it."""

    def __init__(self, serve, tiny_model, tmp_path, adapters, key=None, flags=()):
        self.tiny, self.folder, self.files = tiny_model, tmp_path / "house", adapters
        self.folder.mkdir()
        for name in ("adapters", "embeddings", "vae", "controlnets", "wildcards"):
            (self.folder / name).mkdir()
        shutil.copy(tiny_model, self.folder / "one.safetensors")
        self.key = {"Authorization": "Bearer " + key} if key else None
        self.server = serve("--model-dir", str(self.folder), *flags, model="one")

    def call(self, method, path, body=None):
        status, _, text = self.server.call(method, path, body, self.key)
        return status, json.loads(text) if text else None

    def refresh(self, what="checkpoints"):
        assert self.call("POST", f"/sdapi/v1/refresh-{what}", {}) == (200, None)

    def names(self, kind):
        told = self.call("GET", f"/v1/{kind}")[1]
        return {entry if isinstance(entry, str) else entry["name"] for entry in told["data" if kind == "models" else kind]}

    def paint(self, **fields):
        job, picture = paint(self.server, self.key, **fields)
        assert job["status"] == "succeeded", job
        return job, picture

    def refused(self, **fields):
        status, told = self.call("POST", "/v1/jobs", {**SMALL, **fields})
        assert status == 422, told
        return told["detail"]


@pytest.fixture
def house(serve, tiny_model, tmp_path, adapter_dir):  # noqa: F811
    return House(serve, tiny_model, tmp_path, adapter_dir)


def test_a_checkpoint_comes_is_replaced_and_goes(house, tiny_model):
    new = house.folder / "two.safetensors"
    first = house.paint()[1]
    other_weights(tiny_model, new, 0)
    assert "two" in house.refused(model="two")
    assert house.names("models") == {"one"}
    house.refresh()
    assert house.names("models") == {"one", "two"}
    titles = [model["model_name"] for model in house.call("GET", "/sdapi/v1/sd-models")[1]]
    nodes = house.call("GET", "/object_info/CheckpointLoaderSimple")[1]["CheckpointLoaderSimple"]
    assert sorted(titles) == ["one", "two"]
    assert any("two" in name for name in nodes["input"]["required"]["ckpt_name"][0])
    second = house.paint(model="two")[1]
    assert second != first
    other_weights(tiny_model, new, 3)
    assert house.paint(model="two")[1] == second, "what is loaded stays until somebody asks for a look"
    house.refresh()
    third = house.paint(model="two")[1]
    assert third not in (first, second)
    new.unlink()
    house.refresh()
    assert house.names("models") == {"one"}
    assert "two" in house.refused(model="two")
    assert house.paint()[1] == first, "the default is still what it was"


def test_the_default_stays_when_another_sorts_before_it(serve, tiny_model, tmp_path):
    folder = tmp_path / "house"
    folder.mkdir()
    shutil.copy(tiny_model, folder / "one.safetensors")
    server = serve("--model-dir", str(folder), model="")
    other_weights(tiny_model, folder / "a.safetensors", 0)
    assert server.post("/sdapi/v1/refresh-checkpoints", {})[0] == 200
    defaults = [model["name"] for model in json.loads(server.get("/v1/models")[2])["data"] if model["default"]]
    assert defaults == ["one"]
    (folder / "one.safetensors").unlink()
    assert server.post("/sdapi/v1/refresh-checkpoints", {})[0] == 200
    defaults = [model["name"] for model in json.loads(server.get("/v1/models")[2])["data"] if model["default"]]
    assert defaults == ["a"]
    assert paint(server)[0]["status"] == "succeeded"


def test_an_adapter_comes_is_replaced_and_goes(house):
    target = house.folder / "adapters" / "mine.safetensors"
    plain = house.paint()[1]
    assert "mine" in house.refused(loras=[{"name": "mine"}])
    shutil.copy(house.files / "plus.safetensors", target)
    house.refresh("loras")
    assert "mine" in house.names("adapters")
    assert "mine" in [lora["name"] for lora in house.call("GET", "/sdapi/v1/loras")[1]]
    job, plus = house.paint(loras=[{"name": "mine"}])
    before = job["adapters"][0]["sha256"]
    assert plus != plain
    shutil.copy(house.files / "minus.safetensors", house.folder / ".next")
    os.replace(house.folder / ".next", target)
    house.refresh("loras")
    job, minus = house.paint(loras=[{"name": "mine"}])
    assert minus not in (plain, plus) and job["adapters"][0]["sha256"] != before
    target.unlink()
    house.refresh("loras")
    assert "mine" not in house.names("adapters") and "mine" in house.refused(loras=[{"name": "mine"}])
    assert house.paint()[1] == plain


def test_a_replaced_adapter_is_never_taken_for_the_old_one(house):
    """Also without a look at the folder: what a variant is made of is named by its own digest."""
    target = house.folder / "adapters" / "mine.safetensors"
    plus, minus = ((house.files / f"{name}.safetensors").read_bytes() for name in ("plus", "minus"))
    target.write_bytes(plus)
    house.refresh("loras")
    digests, pictures = [], []
    for data in (plus, minus, plus):
        beside = target.with_name(".next")
        beside.write_bytes(data)
        os.replace(beside, target)
        for weight in (1.0, 0.5):
            job, picture = house.paint(loras=[{"name": "mine", "weight": weight}])
            digests.append(job["adapters"][0]["sha256"])
            pictures.append(picture)
    assert digests[0] == digests[1] == digests[4] == digests[5] != digests[2] == digests[3]
    assert pictures[0] == pictures[4] and pictures[1] == pictures[5]
    assert len(set(pictures)) == 4


def test_an_embedding_reaches_a_loaded_model(house, tiny_model):
    plain = house.paint(prompt="cat mood")[1]
    target = house.folder / "embeddings" / "mood.safetensors"
    embedding(target, tiny_model, 0.5)
    house.refresh("embeddings")
    assert "mood" in house.names("embeddings")
    assert "mood" in house.call("GET", "/sdapi/v1/embeddings")[1]["loaded"]
    first = house.paint(prompt="cat mood")[1]
    embedding(target, tiny_model, -0.5)
    house.refresh("embeddings")
    second = house.paint(prompt="cat mood")[1]
    assert len({plain, first, second}) == 3
    target.unlink()
    house.refresh("embeddings")
    assert "mood" not in house.names("embeddings")
    assert house.paint(prompt="cat mood")[1] == plain


def test_a_vae_comes_is_replaced_and_goes(house, tiny_model):
    target = house.folder / "vae" / "soft.safetensors"
    plain = house.paint()[1]
    vae(target, tiny_model, 1)
    house.refresh("vae")
    assert "soft" in [entry["model_name"] for entry in house.call("GET", "/sdapi/v1/sd-vae")[1]]
    assert house.paint(vae="soft")[0]
    vae(target, tiny_model, -1)
    house.refresh("vae")
    negative = house.paint(vae="soft")[1]
    assert negative != plain
    target.unlink()
    house.refresh("vae")
    assert "soft" in house.refused(vae="soft")


def test_a_wildcard_list_comes_and_goes(house):
    target = house.folder / "wildcards" / "animal.txt"
    request = {"prompt": "__animal__", "wildcards": True}
    target.write_text("dog\n")
    house.refresh()
    assert "animal" in house.names("wildcards")
    assert house.paint(**request)[0]["request"]["prompt"] == "dog"
    target.unlink()
    house.refresh()
    assert "animal" not in house.names("wildcards")


def test_a_folder_made_beside_the_checkpoints_is_found(serve, tiny_model, tmp_path):
    folder = tmp_path / "house"
    folder.mkdir()
    shutil.copy(tiny_model, folder / "one.safetensors")
    server = serve("--model-dir", str(folder), model="one")
    (folder / "wildcards").mkdir()
    (folder / "wildcards" / "animal.txt").write_text("dog\n")
    assert server.post("/sdapi/v1/refresh-checkpoints", {})[0] == 200
    assert "animal" in server.get("/v1/wildcards")[2].decode()
    shutil.rmtree(folder / "wildcards")
    assert server.post("/sdapi/v1/refresh-checkpoints", {})[0] == 200
    assert "animal" not in server.get("/v1/wildcards")[2].decode()


CONTROLNET = {"input_blocks.0.0.weight": ("F16", [8, 4, 3, 3], bytes(576)),
              "zero_convs.0.0.weight": ("F16", [8, 8, 1, 1], bytes(128))}


def test_controlnets_come_and_go(house):
    """Told apart by what is in them, here as in the folders of other kinds."""
    folder = house.folder / "controlnets"
    assert house.names("controlnets") == set()
    write_tensors(folder / "canny.safetensors", CONTROLNET)
    write_tensors(folder / "lora.safetensors", {**CONTROLNET, "lora_controlnet": ("F16", [0], b"")})
    write_tensors(house.folder / "astray.safetensors", CONTROLNET)
    house.refresh()
    assert house.names("controlnets") == {"canny"} and house.names("models") == {"one"}
    told = house.refused(model="astray")
    assert "model astray is here but cannot be used" in told and "controlnet" in told, told
    (folder / "canny.safetensors").unlink()
    house.refresh()
    assert house.names("controlnets") == set()


def test_a_folder_of_controlnets_made_beside_the_checkpoints_is_found(serve, tiny_model, tmp_path):
    folder = tmp_path / "house"
    folder.mkdir()
    shutil.copy(tiny_model, folder / "one.safetensors")
    server = serve("--model-dir", str(folder), model="one")
    (folder / "controlnets").mkdir()
    write_tensors(folder / "controlnets" / "canny.safetensors", CONTROLNET)
    for expected in ("canny", None):
        assert server.post("/sdapi/v1/refresh-checkpoints", {})[0] == 200
        assert [entry["name"] for entry in json.loads(server.get("/v1/controlnets")[2])["controlnets"]] == (
            [expected] if expected else [])
        shutil.rmtree(folder / "controlnets", ignore_errors=True)


def test_a_checkpoint_replaced_during_jobs_mixes_nothing(house, tiny_model):
    """Jobs come without a pause while the file changes under them, three times: each picture is that of
    one of the files, all pictures of a job are of the same one, and after the last look only of the last."""
    target = house.folder / "two.safetensors"
    request = {"model": "two", "steps": 8, "images": 2, "size": "64x64", "loras": [{"name": "mine"}]}
    shutil.copy(house.files / "plus.safetensors", house.folder / "adapters" / "mine.safetensors")
    alone = []
    for seed in (0, 3):
        other_weights(tiny_model, target, seed)
        house.refresh()
        job, _ = house.paint(**request)
        alone.append([image["sha256"] for image in job["images"]])
    assert alone[0] != alone[1]
    ended, stop = [], threading.Event()

    def press():
        while not stop.is_set():
            ended.append(house.paint(**request)[0])

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for seed in (0, 3, 0):
            enough = len(ended) + 6
            other_weights(tiny_model, target, seed)
            status, told = house.call("POST", "/sdapi/v1/refresh-checkpoints", {})
            assert (status, told) == (200, None)
            deadline = time.monotonic() + 120
            while len(ended) < enough:
                assert time.monotonic() < deadline and all(thread.is_alive() for thread in threads)
                time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
    seen = [[image["sha256"] for image in job["images"]] for job in ended]
    mixed = [pictures for pictures in seen if pictures not in alone]
    assert not mixed and len(seen) >= 18, f"{len(mixed)} of {len(seen)}"
    assert alone[0] in seen and alone[1] in seen
    job, _ = house.paint(**request)
    assert [image["sha256"] for image in job["images"]] == alone[0]


def test_a_running_job_keeps_a_checkpoint_that_is_taken_away(house, tiny_model):
    target = house.folder / "two.safetensors"
    other_weights(tiny_model, target, 0)
    house.refresh()
    request = {**SMALL, "model": "two", "steps": 60, "size": "128x128"}
    alone = house.paint(**request)[0]["images"][0]["sha256"]
    running = house.call("POST", "/v1/jobs", {**request, "tag": "while"})[1]["id"]
    deadline = time.monotonic() + 60
    while house.call("GET", f"/v1/jobs/{running}")[1].get("progress", {}).get("step", 0) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    target.unlink()
    house.refresh()
    assert house.call("GET", f"/v1/jobs/{running}")[1]["status"] == "running"
    assert "two" in house.refused(model="two")
    job = house.call("GET", f"/v1/jobs/{running}")[1]
    while job["status"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        job = house.call("GET", f"/v1/jobs/{running}")[1]
    assert job["status"] == "succeeded" and job["images"][0]["sha256"] == alone


def test_a_job_after_a_look_joins_none_from_before(house, tiny_model):
    """Equal jobs that run at once are computed once, but not by files of two times."""
    target = house.folder / "two.safetensors"
    request = {**SMALL, "model": "two", "steps": 60, "size": "128x128"}
    alone = []
    for seed in (3, 0):
        other_weights(tiny_model, target, seed)
        house.refresh()
        alone.append(house.paint(**request)[0]["images"][0]["sha256"])
    running = house.call("POST", "/v1/jobs", {**request, "tag": "before"})[1]["id"]
    deadline = time.monotonic() + 60
    while house.call("GET", f"/v1/jobs/{running}")[1].get("progress", {}).get("step", 0) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other_weights(tiny_model, target, 3)
    house.refresh()
    assert house.call("GET", f"/v1/jobs/{running}")[1]["status"] == "running"
    after = house.paint(**request)[0]["images"][0]["sha256"]
    before = house.call("GET", f"/v1/jobs/{running}")[1]
    assert after == alone[0] != alone[1]
    while before["status"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        before = house.call("GET", f"/v1/jobs/{running}")[1]
    assert before["images"][0]["sha256"] == alone[1]


def test_an_administrator_hears_what_was_found(serve, tiny_model, tmp_path, adapter_dir, latentd):  # noqa: F811
    house = House(serve, tiny_model, tmp_path, adapter_dir, key=key_of(latentd, tmp_path))
    none = {"added": 0, "removed": 0, "changed": 0, "unusable": 0}
    assert house.call("POST", "/v1/admin/rescan") == (200, {**{kind: none for kind in (
        "models", "adapters", "embeddings", "vaes", "controlnets", "wildcards")}, "refused": []})
    for name in ("plus", "minus", "cut"):
        shutil.copy(house.files / f"{name}.safetensors", house.folder / "adapters")
    (house.folder / "wildcards" / "animal.txt").write_text("dog\n")
    told = house.call("POST", "/v1/admin/rescan")[1]
    (refused,) = told["refused"]
    assert (refused["kind"], refused["name"]) == ("adapter", "cut") and "the file is cut" in refused["reason"], refused
    assert told["adapters"] == {**none, "added": 2, "unusable": 1} and told["wildcards"] == {**none, "added": 1}
    shutil.copy(house.files / "minus.safetensors", house.folder / ".next")
    os.replace(house.folder / ".next", house.folder / "adapters" / "plus.safetensors")
    (house.folder / "adapters" / "minus.safetensors").unlink()
    told = house.call("POST", "/v1/admin/rescan")[1]
    assert told["adapters"] == {**none, "changed": 1, "removed": 1, "unusable": 1}
    # A model that nobody has listed is looked for once.
    other_weights(tiny_model, house.folder / "two.safetensors", 0)
    status, told = house.call("POST", "/v1/admin/models/two/load")
    assert status == 200 and {model["name"] for model in told["resident"]} == {"one", "two"}, told
    assert house.call("POST", "/v1/admin/models/three/load")[0] == 404
    assert house.call("POST", "/v1/admin/models/three/unload")[0] == 404
    # A folder that cannot be read changes nothing, and says which.
    shutil.rmtree(house.folder / "adapters")
    shutil.move(house.folder, house.folder.with_name("away"))
    status, told = house.call("POST", "/v1/admin/rescan")
    assert status == 409 and "the folder of models" in told["detail"] and str(tmp_path) not in json.dumps(told)
    assert house.names("models") == {"one", "two"}


def test_only_who_may_is_looked_for(serve, tiny_model, tmp_path, adapter_dir, latentd):  # noqa: F811
    house = House(serve, tiny_model, tmp_path, adapter_dir, key=key_of(latentd, tmp_path))
    boss = house.key
    done = subprocess.run([latentd, "keys", "add", "guest", "--scopes", "read,generate", "--state-dir",
                           str(tmp_path / "state")], capture_output=True, text=True, check=True, timeout=60)
    reader = {"Authorization": "Bearer " + done.stdout.split()[-1]}
    shutil.copy(house.files / "plus.safetensors", house.folder / "adapters" / "mine.safetensors")
    house.key = reader
    house.refresh("loras")
    assert "mine" not in house.names("adapters"), "a web interface gets its null, and nothing is read"
    assert house.call("POST", "/v1/admin/rescan")[0] == 403
    house.key = boss
    for what in ("unload-checkpoint", "reload-checkpoint"):
        assert house.call("POST", f"/sdapi/v1/{what}", {}) == (200, None)
    assert "mine" not in house.names("adapters")
    house.refresh("loras")
    assert "mine" in house.names("adapters")


def test_a_hangup_signal_looks_again(serve, tiny_model, tmp_path, latentd, adapter_dir):  # noqa: F811
    """Also for a folder that was made since; the front, which gives its files to a merge, knows it then."""
    folder = tmp_path / "house"
    folder.mkdir()
    shutil.copy(tiny_model, folder / "one.safetensors")
    key = {"Authorization": "Bearer " + key_of(latentd, tmp_path)}
    server = serve("--model-dir", str(folder), model="one")
    (folder / "adapters").mkdir()
    shutil.copy(adapter_dir / "plus.safetensors", folder / "adapters" / "mine.safetensors")
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while b"mine" not in server.call("GET", "/v1/adapters", None, key)[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "needs a restart" not in (tmp_path / "server.log").read_text()
    status, _, body = server.call("POST", "/v1/admin/models", {
        "name": "baked", "merge": {"models": ["one"], "adapters": [{"name": "mine"}]}}, key)
    assert status == 202, body
    while json.loads(server.call("GET", "/v1/admin/models/baked/build", None, key)[2])["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert paint(server, key, model="baked")[0]["status"] == "succeeded"


def restarts(server):
    for line in server.get("/metrics")[2].decode().splitlines():
        if line.startswith("latentd_worker_restarts_total"):
            return float(line.split()[-1])
    return 0


def test_an_empty_folder_gets_its_first_model(latentd, tiny_model, tmp_path):
    """It is no fault, and the look that finds a model does not wait until the workers try again, by then
    more than six seconds away."""
    folder = tmp_path / "models"
    folder.mkdir()
    server = Server.__new__(Server)  # its own start waits until it is ready
    server.port = free_port()
    server.url = f"http://127.0.0.1:{server.port}"
    server.log = open(tmp_path / "server.log", "ab")
    server.process = subprocess.Popen([latentd, "serve", "--model-dir", str(folder), "--port", str(server.port),
                                       "--state-dir", str(tmp_path / "state")], stderr=server.log, stdout=server.log)

    def wait(seconds, reached):
        deadline = time.monotonic() + seconds
        while True:
            try:
                if reached():
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline and server.process.poll() is None
            time.sleep(0.05)

    try:
        wait(60, lambda: restarts(server) >= 4)
        assert "no model is configured" in server.get("/readyz")[2].decode()
        shutil.copy(tiny_model, folder / "one.safetensors")
        assert server.post("/sdapi/v1/refresh-checkpoints", {})[0] == 200
        wait(4, lambda: server.get("/readyz")[0] == 200)
        assert paint(server)[0]["status"] == "succeeded"
    finally:
        server.stop()


def test_a_damaged_or_foreign_file_says_why(serve, tiny_model, tmp_path, adapter_dir):  # noqa: F811
    """Not that it is not there: the reason, in one sentence without a path, for whoever names the file."""
    house = House(serve, tiny_model, tmp_path, adapter_dir)
    whole = (house.files / "plus.safetensors").read_bytes()
    (house.folder / "adapters" / "cut.safetensors").write_bytes(whole[:len(whole) // 2])
    (house.folder / "adapters" / "page.safetensors").write_text("<html>not found</html>")
    shutil.copy(tiny_model, house.folder / "adapters" / "checkpoint.safetensors")
    (house.folder / "torn.safetensors").write_bytes(tiny_model.read_bytes()[:100000])
    shutil.copy(house.files / "plus.safetensors", house.folder / "lora.safetensors")
    (house.folder / "vae" / "gone.safetensors").write_bytes(whole[:20])
    (house.folder / "embeddings" / "mood.safetensors").write_text("nothing")
    write_tensors(house.folder / "embeddings" / "wide.safetensors", {"emb_params": ("F32", [1, 1280], bytes(5120))})
    assert "no adapter cut" in house.refused(loras=[{"name": "cut"}])
    house.refresh()
    for fields, words in (
            ({"loras": [{"name": "cut"}]}, "adapter cut is here but cannot be used: "),
            ({"loras": [{"name": "page"}]}, "adapter page is here but cannot be used: "),
            ({"loras": [{"name": "checkpoint"}]}, "no adapter of a supported family"),
            ({"model": "torn"}, "model torn is here but cannot be used: "),
            ({"model": "lora"}, "model lora is here but cannot be used: "),
            ({"vae": "gone"}, "VAE gone is here but cannot be used: "),
            ({"hires": {"scale": 2, "loras": [{"name": "cut"}]}}, "adapter cut is here")):
        told = house.refused(**fields)
        assert words in told and "/" not in told and "\n" not in told and len(told) < 400, (fields, told)
    assert "no adapter nobody" in house.refused(loras=[{"name": "nobody"}])
    # Named in the prompt, where only the worker reads names.
    job, _ = paint(house.server, prompt="cat <lora:cut:1>")
    assert job["status"] == "failed" and "adapter 'cut' is here but cannot be used" in job["error"]["detail"], job
    for name, words in (("mood", "plain text"), ("wide", "width")):
        job, _ = house.paint(prompt=f"cat embedding:{name}")
        assert any(f'"{name}" cannot be used and was left out' in note and words in note
                   for note in job["warnings"]), job["warnings"]
    status, told = house.call("POST", "/sdapi/v1/options", {"sd_model_checkpoint": "torn.safetensors"})
    assert status == 422 and "is here but cannot be used" in json.dumps(told), told
    # A whole file in its place, and all is well.
    shutil.copy(house.files / "plus.safetensors", house.folder / "adapters" / "cut.safetensors")
    house.refresh("loras")
    house.paint(loras=[{"name": "cut"}])
