"""Proves that clients of A1111's interface work unmodified: every point of api.md section 3 that is
about them, numbered as there, and what their calls mean in native terms."""

import base64
import json
import socket
import struct
import threading
import time
import zlib

import pytest

from test_images import png
from test_keys import add, basic, bearer

SMALL = {"prompt": "a cat", "width": 64, "height": 64, "steps": 4, "seed": 1}


def txt2img(front, **fields):
    return front.post("/sdapi/v1/txt2img", {**SMALL, **fields})


def img2img(front, **fields):
    picture = base64.b64encode(png(64, 64)).decode()
    return front.post("/sdapi/v1/img2img", {**SMALL, "init_images": [picture], **fields})


def painted(front, **fields):
    answer = txt2img(front, **fields)
    assert answer.status == 200, answer
    return answer.json, json.loads(answer.json["info"])


def newest(front):
    return front.get("/v1/jobs?limit=1").json["jobs"][0]


def native(front, **fields):
    """The native request that a body became."""
    painted(front, **fields)
    return newest(front)["request"]


def in_background(call):
    box = {}
    thread = threading.Thread(target=lambda: box.update(answer=call()))
    thread.start()
    return thread, box


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("never came true")


def test_point_1_images_are_bare_base64_and_inputs_come_both_ways(front):
    answer, _ = painted(front)
    assert base64.b64decode(answer["images"][0], validate=True).startswith(b"\x89PNG")
    raw = base64.b64encode(png(64, 64)).decode()
    for picture in (raw, "data:image/png;base64," + raw):
        assert img2img(front, init_images=[picture]).status == 200
    for url in ("http://127.0.0.1/a.png", "https://example.org/a.png", "file:///etc/passwd"):
        refused = img2img(front, init_images=[url])
        assert refused.status == 422 and "no URL is fetched" in refused.json["detail"], refused


def test_point_2_info_is_a_document_in_a_string(front):
    answer, info = painted(front, prompt="one", negative_prompt="two", batch_size=2, seed=7)
    assert isinstance(answer["info"], str)
    assert info["prompt"] == "one" and info["all_prompts"] == ["one", "one"]
    assert info["negative_prompt"] == "two" and info["all_negative_prompts"] == ["two", "two"]
    assert info["seed"] == 7 and info["all_seeds"] == [7, 8]
    assert info["all_subseeds"] == [7, 8] and info["subseed_strength"] == 0
    assert (info["width"], info["height"], info["steps"], info["cfg_scale"]) == (64, 64, 4, 7)
    assert info["sampler_name"] == "Euler" and info["batch_size"] == 2
    assert info["sd_model_name"] == "scripted" and "sd_model_hash" in info
    assert info["index_of_first_image"] == 0 and len(info["job_timestamp"]) == 14
    assert len(info["infotexts"]) == 2 and info["infotexts"][1].startswith("one\nNegative prompt: two\n")
    assert "Seed: 8" in info["infotexts"][1] and info["clip_skip"] == 2


def test_point_3_the_echo_leaves_out_pictures_and_secrets(front):
    answer = img2img(front, url="http://user:pw@host", auth="user:secret", tag_of_mine=1)
    assert answer.status == 200, answer
    echo = answer.json["parameters"]
    assert echo["prompt"] == "a cat" and echo["tag_of_mine"] == 1
    assert not {"url", "auth", "init_images", "mask"} & set(echo)
    assert b"secret" not in answer.body and "secret" not in front.log_text()
    kept = img2img(front, include_init_images=True)
    assert len(kept.json["parameters"]["init_images"]) == 1


def test_point_4_unknown_keys_null_and_odd_numbers(front):
    answer, info = painted(front, steps=4.0, width="64", seed=-1, cfg_scale=None, nonsense={"a": 1},
                           styles=None)
    assert info["steps"] == 4 and info["width"] == 64 and info["cfg_scale"] == 7
    assert 0 <= info["seed"] < 2**32
    assert any("nonsense" in warning for warning in answer["warnings"])
    for seed in (2**53 + 5, 2**64 - 1, str(2**63 + 5)):
        _, info = painted(front, seed=seed)
        assert info["seed"] == int(seed)
    for field, value in (("steps", 4.5), ("seed", "x"), ("cfg_scale", []), ("prompt", 3)):
        refused = txt2img(front, **{field: value})
        assert refused.status == 422 and field in refused.json["detail"], refused


def test_point_5_samplers_by_any_name(front):
    for fields, sampler, scheduler in (
            ({"sampler_name": "DPM++ 2M Karras"}, "dpmpp_2m", "karras"),
            ({"sampler_index": "Euler a"}, "euler_ancestral", None),
            ({"sampler_name": "k_euler_a"}, "euler_ancestral", None),
            ({"sampler_name": "EULER_ANCESTRAL", "scheduler": "Karras"}, "euler_ancestral", "karras"),
            ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Exponential"}, "dpmpp_2m", "exponential"),
            ({}, "euler", None)):
        request = native(front, **fields)
        assert request["sampler"] == sampler, fields
        assert scheduler is None or request["scheduler"] == scheduler, (fields, request)
    refused = txt2img(front, sampler_name="Nothing Like It")
    assert refused.status == 404 and refused.json["detail"] == "Sampler not found"
    assert set(refused.json) == {"error", "detail", "body", "errors"}


def test_point_6_automatic_is_the_usual_schedule(front):
    for word in ("automatic", "Automatic", None):
        assert native(front, sampler_name="DPM++ 2M", scheduler=word)["scheduler"] == "karras"
        assert native(front, sampler_name="DPM++ 3M SDE", scheduler=word)["scheduler"] == "exponential"
    assert native(front, scheduler="Simple")["scheduler"] == "simple"
    assert native(front, scheduler="SGM Uniform")["scheduler"] == "sgm_uniform"


def test_point_7_clip_skip_of_both_places(front):
    assert native(front)["clip_skip"] == 2
    assert native(front, clip_skip=1)["clip_skip"] == 1
    assert native(front, override_settings={"CLIP_stop_at_last_layers": 3})["clip_skip"] == 3
    assert native(front, override_settings={"CLIP_stop_at_last_layers": 3}, clip_skip=1)["clip_skip"] == 1


def test_point_8_as_many_pictures_as_asked_for_and_no_grid(front):
    answer, info = painted(front, batch_size=2, n_iter=3, do_not_save_grid=False)
    assert len(answer["images"]) == 6 and info["all_seeds"] == [1, 2, 3, 4, 5, 6]
    assert len(set(answer["images"])) == 6
    assert txt2img(front, batch_size=9, n_iter=9).status == 422


def test_point_9_the_checkpoint_is_a_title_of_the_list(front):
    title = front.get("/sdapi/v1/options").json["sd_model_checkpoint"]
    assert title in [model["title"] for model in front.get("/sdapi/v1/sd-models").json]


def test_point_10_options_are_the_callers_own(serve):
    front = serve()
    whole = front.get("/sdapi/v1/options").json
    for key in ("sd_model_checkpoint", "samples_format", "CLIP_stop_at_last_layers", "sd_vae"):
        assert key in whole
    assert whole["CLIP_stop_at_last_layers"] == 2 and whole["sd_model_checkpoint"].startswith("scripted.safetensors")
    answer = front.post("/sdapi/v1/options", {**whole, "CLIP_stop_at_last_layers": 1, "unknown": 5})
    assert answer.status == 200 and answer.body == b"null"
    assert front.get("/sdapi/v1/options").json["CLIP_stop_at_last_layers"] == 1
    assert native(front)["clip_skip"] == 1
    assert native(front, clip_skip=4)["clip_skip"] == 4
    refused = front.post("/sdapi/v1/options", {"sd_model_checkpoint": "nothing.safetensors [00]"})
    assert refused.status == 422 and "sd_model_checkpoint" in refused.json["detail"]
    # The native API has nothing to do with it.
    job = front.wait(front.submit())
    assert job["request"]["clip_skip"] == 2


def test_point_11_progress_falls_to_idle(serve):
    front = serve("step_ms=40")
    idle = front.get("/sdapi/v1/progress?skip_current_image=true").json
    assert idle["progress"] == 0 and idle["state"]["job_count"] == 0
    thread, box = in_background(lambda: txt2img(front, steps=40, force_task_id="task(abc)"))
    running = until(lambda: (lambda p: p if p["progress"] > 0.1 else None)(
        front.get("/sdapi/v1/progress?skipCurrentImage=true").json))
    assert running["state"]["job_count"] == 1 and running["state"]["sampling_steps"] == 40
    assert 0 < running["progress"] <= 1 and running["current_image"] is None
    shown = until(lambda: front.get("/sdapi/v1/progress?skip_current_image=false").json["current_image"])
    assert base64.b64decode(shown, validate=True).startswith(b"\x89PNG")
    assert front.get("/sdapi/v1/progress?skip_current_image=True").json["current_image"] is None
    task = front.post("/internal/progress", {"id_task": "task(abc)", "id_live_preview": -1}).json
    assert task["active"] and not task["completed"]
    assert task["live_preview"].startswith("data:image/png;base64,iVBOR") and task["id_live_preview"] >= 1
    quiet = front.post("/internal/progress", {"id_task": "task(abc)", "live_preview": False}).json
    assert quiet["live_preview"] is None
    thread.join()
    assert box["answer"].status == 200
    assert front.get("/sdapi/v1/progress").json["state"]["job_count"] == 0
    assert front.post("/internal/progress", {"id_task": "task(abc)"}).json["completed"]
    assert front.get("/internal/pending-tasks").json == {"size": 0, "tasks": []}
    assert front.get("/internal/ping").json == {}


def test_live_previews_are_the_callers_own_and_can_be_turned_off(latentd, tmp_path, serve):
    key, other = add(latentd, tmp_path, "one"), add(latentd, tmp_path, "two")
    front = serve("step_ms=60")
    options = front.get("/sdapi/v1/options", headers=bearer(key)).json
    assert options["live_previews_enable"] is True and options["show_progress_every_n_steps"] == 10
    for wanted, every in (({"show_progress_every_n_steps": 2}, 2), ({"live_previews_enable": False}, None),
                          ({"live_previews_enable": True, "show_progress_every_n_steps": -1}, None),
                          ({"show_progress_every_n_steps": 3}, 3)):
        assert front.post("/sdapi/v1/options", wanted, headers=bearer(key)).status == 200
        thread, box = in_background(lambda: front.post("/sdapi/v1/txt2img", {**SMALL, "steps": 24}, headers=bearer(key)))
        seen = []

        def watch():
            progress = front.get("/sdapi/v1/progress", headers=bearer(key)).json
            seen.append(progress["current_image"])
            theirs = front.get("/sdapi/v1/progress", headers=bearer(other)).json
            assert theirs["current_image"] is None and theirs["state"]["job_count"] == 0
            return "answer" in box
        until(watch)
        thread.join()
        assert box["answer"].status == 200
        assert any(seen) == (every is not None), wanted
        job = front.get("/v1/jobs?limit=1", headers=bearer(key)).json["jobs"][0]
        assert job["request"].get("preview", {}).get("every") == every
    override = {"override_settings": {"live_previews_enable": False}}
    answer = front.post("/sdapi/v1/txt2img", {**SMALL, **override}, headers=bearer(key)).json
    assert not any("override_settings" in warning for warning in answer["warnings"])


@pytest.mark.parametrize("path", ["interrupt", "skip"])
def test_point_12_interrupt_answers_with_what_there_is(serve, path):
    front = serve("step_ms=40")
    thread, box = in_background(lambda: txt2img(front, steps=150))
    until(lambda: front.get("/sdapi/v1/progress").json["progress"] > 0)
    answer = front.post("/sdapi/v1/" + path)
    assert answer.status == 200 and answer.json in ({}, None)
    thread.join()
    assert box["answer"].status == 200 and len(box["answer"].json["images"]) == 1
    assert newest(front)["status"] == "cancelled"


def test_point_12_a_client_that_leaves_takes_its_job_along(serve):
    front = serve("step_ms=40")
    body = json.dumps({**SMALL, "steps": 150}).encode()
    head = b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    front.raw(head + body, timeout=0.7)
    until(lambda: newest(front)["status"] == "cancelled")


def leave_at_once(front, path, bodies):
    """Calls whose clients are gone before they could be told, most of them before their job is on disk."""
    for body in bodies:
        text = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", front.port), timeout=5) as client:
            client.sendall(b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (
                path.encode(), len(text), text))


def test_point_12_clients_that_leave_at_once_leave_no_job_behind(serve):
    front = serve("step_ms=200")
    leave_at_once(front, "/sdapi/v1/txt2img", [{**SMALL, "steps": 150, "seed": number} for number in range(40)])
    until(lambda: {job["status"] for job in front.get("/v1/jobs?limit=100").json["jobs"]} == {"cancelled"})
    assert txt2img(front, steps=1).status == 200


def test_point_13_answers_are_200(front):
    assert txt2img(front).status == 200 and img2img(front).status == 200


def test_point_14_the_first_upscaler_is_none(front):
    assert front.get("/sdapi/v1/upscalers").json[0]["name"] == "None"
    modes = [mode["name"] for mode in front.get("/sdapi/v1/latent-upscale-modes").json]
    assert modes[0] == "Latent"
    for mode in modes + ["None", "Lanczos", "Nearest"]:
        request = native(front, enable_hr=True, hr_upscaler=mode, hr_scale=1.5)
        assert request["hires"]["upscaler"].startswith(("latent-", "pixel-")), mode


def test_point_15_what_is_not_there_is_404_in_this_shape(front):
    missing = front.get("/sdapi/v1/sd-modules")
    assert missing.status == 404 and set(missing.json) == {"error", "detail", "body", "errors"}
    assert "forge_preset" not in front.get("/sdapi/v1/options").json


def test_point_16_scripts(front):
    assert front.get("/sdapi/v1/scripts").json == {"txt2img": [], "img2img": []}
    for quiet in ({}, {"controlnet": {"args": []}}, {"adetailer": {"args": [False]}},
                  {"controlnet": {"args": [{"enabled": False}]}}, {"x": {}}):
        assert txt2img(front, alwayson_scripts=quiet).status == 200, quiet
    for loud in ({"adetailer": {"args": [True, {}]}}, {"controlnet": {"args": [{"enabled": True}]}},
                 {"controlnet": {"args": [{"image": "AAAA", "module": "canny"}]}}):
        refused = txt2img(front, alwayson_scripts=loud)
        assert refused.status == 422 and next(iter(loud)) in refused.json["detail"], refused
    shrink = native(front, alwayson_scripts={"Kohya HRFix Integrated": {"args": [
        True, 4, 2.5, 0, 0.4, True, "bicubic", "bilinear"]}})["deep_shrink"]
    assert shrink["block"] == 4 and shrink["factor"] == 2.5 and shrink["end"] == 0.4
    assert txt2img(front, script_name="X/Y/Z plot").status == 422
    refused = txt2img(front, alwayson_scripts={"TIPO": {"args": [True]}})
    assert refused.status == 422 and "--tipo-model" in refused.json["detail"]


def tipo_args(**changed):
    """What the extension sends, in its order."""
    args = {"enabled": True, "timing": "After applying other prompt processings", "seed": 11, "tag_length": "very short",
            "nl_length": "very short", "ban_tags": "", "format": "tag only (DTG mode)", "own_format": "", "temperature": 0.7,
            "top_p": 0.9, "top_k": 60, "model": "any", "gguf_cpu": True, "no_formatting": False, "nl_prompt": ""}
    assert not set(changed) - set(args)
    return {"TIPO": {"args": list({**args, **changed}.values())}}


def test_point_16_the_tipo_extension(serve):
    front = serve("", "--tipo-model", "any.gguf")
    said = native(front, alwayson_scripts=tipo_args())["tipo"]
    assert said == {**said, "length": "very_short", "write": "tags", "temperature": 0.7, "top_p": 0.9, "top_k": 60, "seed": 11}
    assert "tipo" not in native(front, alwayson_scripts=tipo_args(enabled=False))
    assert "seed" not in native(front, alwayson_scripts=tipo_args(seed=-1))["tipo"]
    for name, own, kind in (("NL only (Tag to NL)", "", "text"), ("Both, tag first (recommend)", "", "both"),
                            ("custom", "<|general|>", "tags"), ("custom", "<|extended|>.", "text"),
                            ("custom", "<|special|>, <|generated|>", "both")):
        assert native(front, alwayson_scripts=tipo_args(format=name, own_format=own))["tipo"].get("write", "tags") == kind
    said = native(front, alwayson_scripts=tipo_args(nl_prompt="A cat.", ban_tags="umbrella, official.*,\n.*text, "))["tipo"]
    assert said["text"] == "A cat." and said["avoid"] == "*umbrella*,official*,*text*"
    assert native(front, alwayson_scripts={"tipo": {"args": [True]}})["tipo"]["write"] == "both"  # the extension's default
    warned = txt2img(front, alwayson_scripts=tipo_args(ban_tags="(hat|cap), scarf", nl_length="long"))
    assert warned.status == 200 and sum("TIPO" in each for each in warned.json["warnings"]) == 2
    assert front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["tipo"]["avoid"] == "*scarf*"
    for bad, word in (({"tag_length": "endless"}, "length"), ({"temperature": 9}, "temperature"), ({"top_k": -1}, "top_k"),
                      ({"tag_length": "much, much too long"}, "length")):
        refused = txt2img(front, alwayson_scripts=tipo_args(**bad))
        assert refused.status == 422 and word in refused.json["detail"], refused


def test_point_17_the_root_answers_pings(front):
    assert front.get("/").status == 200 and front.call("HEAD", "/").status == 200


def test_point_18_options_calls(serve):
    front = serve("", "--cors-origins", "https://app.example")
    bare = front.call("OPTIONS", "/sdapi/v1/txt2img")
    assert bare.status == 204 and "POST" in bare.headers["Allow"]
    asked = front.call("OPTIONS", "/sdapi/v1/txt2img", headers={
        "Origin": "https://app.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-stainless-os"})
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Headers"] == "content-type, x-stainless-os"
    assert asked.headers["Access-Control-Allow-Origin"] == "https://app.example"


@pytest.mark.parametrize("value", ["", "Basic dW5kZWZpbmVk", "Basic dTpw", "Bearer x", "odd"])
def test_point_19_without_keys_authorization_is_not_looked_at(front, value):
    assert front.get("/sdapi/v1/samplers", headers={"Authorization": value}).status == 200


def test_point_20_json_under_any_name_but_not_from_another_page(front):
    body = json.dumps(SMALL)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        answer = front.post("/sdapi/v1/txt2img", body, headers={"Content-Type": kind})
        assert answer.status == 200, (kind, answer)
    assert front.raw(b"POST /sdapi/v1/interrupt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n"
                     b"Connection: close\r\n\r\n{}").startswith(b"HTTP/1.1 200")
    own = f"http://127.0.0.1:{front.port}"
    refused = front.post("/sdapi/v1/txt2img", body, headers={"Content-Type": "text/plain", "Origin": own})
    assert refused.status == 415 and refused.json["error"] == "HTTPException"
    other = front.post("/sdapi/v1/txt2img", body, headers={"Origin": "https://evil.example"})
    assert other.status == 403


def test_point_21_large_bodies(front):
    picture = png(1024, 1024, extra=padding(9 << 20))
    assert img2img(front, init_images=[base64.b64encode(picture).decode()]).status == 200
    refused = front.one_reply(b"POST /sdapi/v1/img2img HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                              b"Content-Length: %d\r\n\r\n{" % (33 << 20))
    assert refused.status == 413 and set(refused.json) == {"error", "detail", "body", "errors"}
    body = json.dumps(SMALL).encode()
    patient = front.raw(b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
                        b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert patient.startswith(b"HTTP/1.1 100") and b"HTTP/1.1 200" in patient


def padding(size):
    body = b"private\0" + bytes(size)
    chunk = struct.pack(">I", len(body)) + b"prVt" + body
    return chunk + struct.pack(">I", zlib.crc32(chunk[4:]))


def test_point_36_prompts_in_any_script(front):
    _, info = painted(front, prompt="猫、é", negative_prompt="犬")
    assert info["prompt"] == "猫、é" and info["infotexts"][0].startswith("猫、é\nNegative prompt: 犬")
    for prompt, kind in (("猫", b"iTXtparameters"), ("café", b"tEXtparameters")):
        answer, _ = painted(front, prompt=prompt)
        assert kind in base64.b64decode(answer["images"][0])
        told = front.post("/sdapi/v1/png-info", {"image": answer["images"][0]})
        assert told.json["info"].startswith(prompt)


def test_point_37_save_images_is_told_about(front):
    answer, _ = painted(front, save_images=True)
    assert any("save_images" in warning for warning in answer["warnings"])


def test_points_11_12_and_19_everyone_has_their_own_progress_and_interrupt(serve, latentd, tmp_path):
    front = serve("step_ms=40")
    anna, ben = (add(latentd, tmp_path, name) for name in ("anna", "ben"))
    assert front.get("/sdapi/v1/progress").status == 401
    wrong = front.get("/sdapi/v1/progress", headers=basic("wrong"))
    assert wrong.status == 401 and set(wrong.json) == {"error", "detail", "body", "errors"}
    thread, box = in_background(lambda: front.post("/sdapi/v1/txt2img", {**SMALL, "steps": 60, "force_task_id": "mine"},
                                                   headers=basic(anna)))
    until(lambda: front.get("/sdapi/v1/progress", headers=basic(anna)).json["progress"] > 0)
    for headers in (basic(ben), bearer(ben), {"X-API-Key": ben}):
        idle = front.get("/sdapi/v1/progress", headers=headers).json
        assert idle["progress"] == 0 and idle["state"]["job_count"] == 0
    assert not front.post("/internal/progress", {"id_task": "mine"}, headers=basic(ben)).json["active"]
    assert front.post("/sdapi/v1/interrupt", headers=basic(ben)).status == 200
    front.post("/sdapi/v1/options", {"CLIP_stop_at_last_layers": 5}, headers=basic(ben))
    assert front.get("/sdapi/v1/options", headers=basic(anna)).json["CLIP_stop_at_last_layers"] == 2
    assert front.get("/sdapi/v1/options", headers=basic(ben)).json["CLIP_stop_at_last_layers"] == 5
    thread.join()
    assert box["answer"].status == 200 and newest_of(front, anna)["status"] == "succeeded"


def newest_of(front, key):
    return front.get("/v1/jobs?limit=1", headers=bearer(key)).json["jobs"][0]


# ---- What the calls mean ----

def test_png_info_reads_back_what_was_painted(front):
    answer, _ = painted(front, prompt="a red fox", negative_prompt="blurry", seed=99)
    told = front.post("/sdapi/v1/png-info", {"image": "data:image/png;base64," + answer["images"][0]}).json
    assert told["info"].startswith("a red fox\nNegative prompt: blurry\nSteps: 4, Sampler: Euler,")
    assert told["parameters"]["Prompt"] == "a red fox" and told["parameters"]["Seed"] == "99"
    assert "parameters" in told["items"]
    empty = front.post("/sdapi/v1/png-info", {"image": base64.b64encode(png()).decode()}).json
    assert empty["info"] == "" and empty["items"] == {}
    assert front.post("/sdapi/v1/png-info", {"image": "AAAA"}).status == 422
    assert front.post("/sdapi/v1/png-info", {}).status == 422


def test_hires_is_the_second_pass(front):
    request = native(front, enable_hr=True, hr_scale=2, hr_second_pass_steps=3, denoising_strength=0.4,
                     hr_upscaler="Latent (bicubic)", hr_prompt="more", hr_sampler_name="DPM++ 2M Karras",
                     hr_cfg=5)
    hires = request["hires"]
    assert hires["scale"] == 2 and hires["steps"] == 3 and hires["strength"] == 0.4
    assert hires["upscaler"] == "latent-bicubic" and hires["prompt"] == "more"
    assert hires["sampler"] == "dpmpp_2m" and hires["scheduler"] == "karras" and hires["cfg_scale"] == 5
    sized = native(front, width=64, height=128, enable_hr=True, hr_resize_x=128)["hires"]
    assert (sized["width"], sized["height"]) == (128, 256)
    assert "hires" not in native(front, enable_hr=False, hr_scale=2)


def test_image_to_image(front):
    assert img2img(front, denoising_strength=0.3, resize_mode=1).status == 200
    init = newest(front)["request"]["init"]
    assert init["strength"] == 0.3 and init["resize"] == "crop"
    mask = base64.b64encode(png(64, 64)).decode()
    answer = img2img(front, mask=mask, mask_blur=8, inpainting_fill=0, inpaint_full_res=False)
    assert answer.status == 200, answer
    init = newest(front)["request"]["init"]
    assert init["mask_blur"] == 8 and "id" in init["mask"] and init.get("area", "whole") == "whole"
    assert any("inpainting_fill" in warning for warning in answer.json["warnings"])
    assert img2img(front, mask=mask, inpaint_full_res=True, inpaint_full_res_padding=24).status == 200
    init = newest(front)["request"]["init"]
    assert init["area"] == "masked" and init["mask_padding"] == 24
    missing = front.post("/sdapi/v1/img2img", SMALL)
    assert missing.status == 404 and missing.json["detail"] == "Init image not found"
    bad = img2img(front, init_images=["!!!"])
    assert bad.status == 422 and "init_images" in bad.json["detail"]
    gif = img2img(front, init_images=[base64.b64encode(b"GIF89a" + bytes(40)).decode()])
    assert gif.status in (415, 422)


def test_adapters_stand_in_the_prompt(front):
    request = native(front, prompt="a cat <lora:ink:0.5>, sitting")
    assert request["loras"][0]["name"] == "ink" and request["loras"][0]["weight"] == 0.5
    assert "<lora" not in request["prompt"]
    assert not native(front, prompt="a <lora:ink:1>", disable_extra_networks=True).get("loras")
    refused = txt2img(front, prompt="a <lora:none:1>")
    assert refused.status == 422 and "none" in refused.json["detail"]


def test_an_infotext_fills_what_is_open(front):
    text = "an old fox\nNegative prompt: fog\nSteps: 9, Sampler: DPM++ 2M, Schedule type: Karras, " \
           "CFG scale: 4, Seed: 5, Size: 128x64"
    answer = front.post("/sdapi/v1/txt2img", {"infotext": text, "steps": 3})
    assert answer.status == 200, answer
    request = newest(front)["request"]
    assert request["prompt"] == "an old fox" and request["steps"] == 3 and request["seed"] == 5
    assert (request["width"], request["height"]) == (128, 64) and request["sampler"] == "dpmpp_2m"


def test_defaults_and_profile_are_those_of_a1111(front):
    request = native(front, width=None, height=None, steps=None, prompt=None)
    assert (request["width"], request["height"], request["steps"]) == (512, 512, 50)
    assert request["profile"] == "a1111" and request["noise"] == "philox" and request["syntax"] == "a1111"


def test_what_is_not_there_is_said(front):
    for field, value in (("tiling", True), ("restore_faces", True), ("refiner_checkpoint", "x"),
                         ("seed_resize_from_w", 64), ("script_name", "x"), ("firstphase_width", 64)):
        refused = txt2img(front, **{field: value})
        assert refused.status == 422 and field.split("_w")[0][:8] in str(refused.json), (field, refused)
    assert txt2img(front, tiling=False, restore_faces=None, refiner_checkpoint="").status == 200
    answer, _ = painted(front, styles=["cinematic"])
    assert any("styles" in warning for warning in answer["warnings"])
    refused = front.post("/sdapi/v1/interrogate", {"image": "AAAA"})
    assert refused.status == 422 and "latentd" in refused.json["detail"]


def test_the_bounds_are_the_native_ones(front):
    for field, value in (("steps", 151), ("width", 65), ("cfg_scale", 31), ("height", 5000), ("eta", 3)):
        refused = txt2img(front, **{field: value})
        assert refused.status == 422 and "must be" in refused.json["detail"], refused
    malformed = front.post("/sdapi/v1/txt2img", b"{")
    assert malformed.status == 400 and malformed.json["error"] == "HTTPException"
    failed = txt2img(front, force_task_id="fail@1=gpu_nomem")
    assert failed.status >= 400 and set(failed.json) == {"error", "detail", "body", "errors"}


def test_listings(front):
    samplers = front.get("/sdapi/v1/samplers").json
    assert {"Euler", "Euler a", "DPM++ 2M", "DDIM"} <= {s["name"] for s in samplers}
    assert all(isinstance(s["aliases"], list) and s["options"] == {} for s in samplers)
    schedulers = front.get("/sdapi/v1/schedulers").json
    assert {"karras", "automatic"} <= {s["name"] for s in schedulers} and schedulers[0]["label"]
    models = front.get("/sdapi/v1/sd-models").json
    assert models[0]["model_name"] == "scripted" and models[0]["title"].startswith("scripted.safetensors")
    assert front.get("/sdapi/v1/loras").json[0]["name"] == "ink"
    assert front.get("/sdapi/v1/embeddings").json["loaded"]["bad"]["vectors"] == 2
    for path in ("sd-vae", "prompt-styles", "hypernetworks", "face-restorers", "realesrgan-models"):
        assert front.get("/sdapi/v1/" + path).json == [], path
    for path in ("script-info", "memory", "cmd-flags"):
        assert front.get("/sdapi/v1/" + path).status == 200, path
    for path in ("refresh-checkpoints", "refresh-loras", "refresh-vae", "refresh-embeddings",
                 "unload-checkpoint", "reload-checkpoint"):
        answer = front.post("/sdapi/v1/" + path)
        assert answer.status == 200 and answer.body == b"null", path
    assert front.get("/controlnet/model_list").json == {"model_list": ["edges [22]"]}
    assert "X-Process-Time" in front.get("/sdapi/v1/samplers").headers


def test_a_model_is_known_by_its_title_and_its_name(front):
    for name in ("scripted", "scripted.safetensors", "scripted.safetensors [0123456789]"):
        assert txt2img(front, override_settings={"sd_model_checkpoint": name}).status == 200, name
    refused = txt2img(front, override_settings={"sd_model_checkpoint": "none"})
    assert refused.status == 422 and "none" in refused.json["detail"]
