"""Proves that prompts are extended by a TIPO model over HTTP (docs/prompt-tools.md): as an answer, and as
the first part of a job, whose picture is then that of the prompt it tells; that a job waits for its own
prompt alone, that cancelling and stopping do not wait for one, and that a server without a usable model
says so."""

import json
import pathlib
import socket
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy/demo_model/files"
TIPO = DEMO / "demo-tipo.gguf"
sys.path.insert(0, str(ROOT / "tests/pipeline"))
import gguf  # noqa: E402

SMALL = {"steps": 2, "width": 64, "height": 64, "seed": 7}


def painter(serve, tipo=TIPO, **options):
    """A server with the real pipeline."""
    return serve(None, "--model", str(DEMO / "demo.safetensors"), "--tipo-model", str(tipo), **options)


def extend(front, **fields):
    return front.post("/v1/prompt/extend", fields, timeout=120)


# ---- The call ----------------------------------------------------------------------------------------


def test_an_extended_prompt_is_answered_with_its_seed(serve):
    front = serve("", "--tipo-model", "any.gguf")
    answer = extend(front, prompt="red cat", seed=5)
    assert answer.status == 200, answer
    told = answer.json
    assert told["prompt"] == "red cat, scripted"
    assert told["seed"] == 5 and told["warnings"] == [] and told["seconds"] >= 0
    assert front.get("/version").json["tipo"] is True


def test_a_seed_left_to_chance_is_drawn(serve):
    front = serve("", "--tipo-model", "any.gguf")
    seeds = {extend(front, prompt="red cat").json["seed"] for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize("fields, pointer", [
    ({"tipo": {"temperature": 2.5}}, "/tipo/temperature"),
    ({"tipo": {"top_p": -0.1}}, "/tipo/top_p"),
    ({"tipo": {"min_p": 1.5}}, "/tipo/min_p"),
    ({"tipo": {"top_k": 1001}}, "/tipo/top_k"),
    ({"tipo": {"length": "huge"}}, "/tipo/length"),
    ({"tipo": {"write": "poem"}}, "/tipo/write"),
    ({"tipo": {"model": "/etc/passwd"}}, "/tipo/model"),
    ({"tipo": 5}, "/tipo"),
])
def test_bad_options_are_named(serve, fields, pointer):
    front = serve("", "--tipo-model", "any.gguf")
    for path in ("/v1/prompt/extend", "/v1/jobs"):
        answer = front.post(path, {"prompt": "red cat", **fields})
        assert answer.status == 422, answer
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize("field", ["text", "avoid"])
def test_texts_beside_have_their_bound(serve, field):
    front = serve("", "--tipo-model", "any.gguf")
    answers = [extend(front, prompt="red cat", tipo={field: "x" * size}) for size in (4095, 4096, 4097)]
    assert [answer.status for answer in answers] == [200, 200, 422]
    [error] = answers[2].json["errors"]
    assert error["pointer"] == f"/tipo/{field}" and "4096" in error["message"]


def test_a_server_without_a_model_says_what_is_missing(serve):
    front = serve("")
    answer = extend(front, prompt="red cat")
    assert answer.status == 409 and "models.tipo_model" in answer.json["detail"]
    for asked in (True, {"length": "short"}):
        job = front.post("/v1/jobs", {"prompt": "red cat", "tipo": asked})
        assert job.status == 422
        [error] = job.json["errors"]
        assert error["pointer"] == "/tipo" and "--tipo-model" in error["message"]
    assert front.post("/v1/jobs", {"prompt": "red cat", "tipo": False}).status == 202
    assert front.get("/version").json["tipo"] is False


# ---- The model ---------------------------------------------------------------------------------------


def test_a_job_paints_the_prompt_that_the_call_tells(serve):
    front = painter(serve)
    asked = {"prompt": "red cat", **SMALL}
    options = {"length": "very_short"}
    told = extend(front, **asked, tipo=options).json["prompt"]
    assert told.startswith("red cat, ")
    assert extend(front, **asked, tipo=options).json["prompt"] == told
    assert len({extend(front, prompt="red cat", seed=s, tipo=options).json["prompt"] for s in range(6)}) > 1
    job = front.wait(front.submit(**asked, tipo=options), seconds=120)
    assert job["status"] == "succeeded"
    assert job["request"]["prompt"] == told and "tipo" not in job["request"]
    plain = front.wait(front.submit(**{**asked, "prompt": told}), seconds=120)
    assert front.picture(job["id"]) == front.picture(plain["id"])


def test_a_plan_says_that_its_tokens_are_those_before(serve):
    front = painter(serve)
    plan = front.post("/v1/plan", {"prompt": "red cat", **SMALL, "tipo": True}).json
    plain = front.post("/v1/plan", {"prompt": "red cat", **SMALL}).json
    assert plan["tokens"] == plain["tokens"]
    assert [each for each in plan["warnings"] if each not in plain["warnings"]] == [
        "tipo: tokens and seconds are those of the prompt as it was given"]


def test_wildcards_come_before_and_weights_stay(serve):
    front = painter(serve)
    told = extend(front, prompt="({red|blue} cat:1.2), night sky", seed=3, wildcards=True,
                  tipo={"length": "very_short"}).json["prompt"]
    assert told.startswith(("(red cat:1.2), night sky", "(blue cat:1.2), night sky"))


def test_what_is_avoided_is_not_added(serve):
    front = painter(serve)
    free = [extend(front, prompt="red cat", seed=s, tipo={"length": "very_short"}).json["prompt"] for s in range(8)]
    added = [tag for prompt in free for tag in prompt.split(", ")[1:]]
    common = max(set(added), key=added.count)
    for seed in range(8):
        told = extend(front, prompt="red cat", seed=seed, tipo={"length": "very_short", "avoid": common}).json["prompt"]
        assert common not in told.split(", ")[1:]


@pytest.mark.parametrize("damage", ["missing", "text", "cut"])
def test_a_model_that_cannot_be_read_fails_what_needs_it_alone(serve, tmp_path, damage):
    file = tmp_path / "tipo.gguf"
    if damage == "text":
        file.write_text("this is no model")
    elif damage == "cut":
        file.write_bytes(TIPO.read_bytes()[:5000])
    front = painter(serve, tipo=file)
    answer = extend(front, prompt="red cat")
    assert answer.status == 409, answer
    assert str(tmp_path) not in answer.json["detail"]  # a server's paths are not for its callers
    job = front.wait(front.submit(prompt="red cat", **SMALL, tipo=True), seconds=120)
    assert job["status"] == "failed" and job["error"]["detail"]
    plain = front.wait(front.submit(prompt="red cat", **SMALL), seconds=120)
    assert plain["status"] == "succeeded"


# ---- Time --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow_tipo(tmp_path_factory):
    """The demo's words with random weights, many of them: it never ends by itself and takes its time."""
    width, mlp, layers = 512, 1536, 10
    fields, tensors = gguf.read(TIPO)
    for key, value in {"embedding_length": width, "feed_forward_length": mlp, "block_count": layers,
                       "attention.head_count": 8, "attention.head_count_kv": 8, "rope.dimension_count": 64}.items():
        fields[f"llama.{key}"] = (gguf.UINT32, value)
    rng = np.random.default_rng(3)

    def matrix(rows, columns):
        return rng.normal(scale=columns ** -0.5, size=(rows, columns)).astype(np.float32)

    words = tensors["token_embd.weight"].shape[0]
    made = {"token_embd.weight": matrix(words, width), "output.weight": matrix(words, width),
            "output_norm.weight": np.ones(width, np.float32)}
    shapes = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width), "attn_output": (width, width),
              "ffn_gate": (mlp, width), "ffn_up": (mlp, width), "ffn_down": (width, mlp)}
    for layer in range(layers):
        made.update({f"blk.{layer}.{name}.weight": matrix(*shape) for name, shape in shapes.items()})
        made.update({f"blk.{layer}.{name}.weight": np.ones(width, np.float32) for name in ("attn_norm", "ffn_norm")})
    return gguf.write(tmp_path_factory.mktemp("slow") / "slow.gguf", fields, made)


def test_a_job_waits_for_its_own_prompt_alone(serve, slow_tipo):
    front = painter(serve, tipo=slow_tipo)
    slow = front.submit(prompt="red cat", **SMALL, tipo={"length": "very_long", "temperature": 2})
    plain = front.wait(front.submit(prompt="blue fish", **SMALL), seconds=60)
    assert plain["status"] == "succeeded"
    assert front.job(slow)["status"] == "running"
    start = time.monotonic()
    front.post(f"/v1/jobs/{slow}/cancel", {})
    assert front.wait(slow, seconds=30)["status"] == "cancelled"
    assert time.monotonic() - start < 10
    assert extend(front, prompt="red cat", tipo={"length": "very_short", "temperature": 0}).status == 200


def test_one_key_cannot_fill_the_writer(serve, slow_tipo):
    front = painter(serve, tipo=slow_tipo)
    body = json.dumps({"prompt": "red cat", "tipo": {"length": "very_long", "temperature": 2}}).encode()
    head = b"POST /v1/prompt/extend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for _ in range(4):  # who leaves before the answer is still being written for
        with socket.create_connection(("127.0.0.1", front.port), timeout=10) as gone:
            gone.sendall(head % len(body) + body)
            time.sleep(0.3)
    refused = extend(front, prompt="red cat")
    assert refused.status == 429 and "try again" in refused.json["detail"]
    plain = front.wait(front.submit(prompt="blue fish", **SMALL), seconds=60)
    assert plain["status"] == "succeeded"


def test_stopping_does_not_wait_for_a_prompt(serve, slow_tipo):
    front = serve(None, "--model", str(DEMO / "demo.safetensors"), "--tipo-model", str(slow_tipo), "--server-drain-s", "2")
    front.submit(prompt="red cat", **SMALL, tipo={"length": "very_long", "temperature": 2})
    time.sleep(1)
    start = time.monotonic()
    assert front.stop(60) == 0
    assert time.monotonic() - start < 20  # the drain's patience for a running job, not the prompt's
