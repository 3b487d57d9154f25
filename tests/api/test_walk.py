"""Proves, route by route and field by field, that what the four dialects ask for (api.md 2.1 to 2.4) is
served with the members that clients read, or refused in that dialect's own shape with a sentence: never an
empty body, another dialect's shape, a page of HTML or an unexplained 500. The tables are complete: every
operation of the contract and every field that the translations know has its row."""

import base64
import copy
import io
import json
import pathlib
import re
import zipfile

import pytest

from test_a1111 import img2img
from test_comfy import Socket, finished, graph, over, rgba, upload, upload_mask
from test_images import png
from test_keys import add
from test_openai import form

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIALECTS = ("a1111", "openai", "novelai", "comfyui")
PICTURE = base64.b64encode(png(64, 64)).decode()
SMALL = {"prompt": "a cat", "width": 64, "height": 64, "steps": 4, "seed": 1}
DRAWN = {"prompt": "a cat", "size": "64x64", "steps": 4}
NAI = {"input": "a cat", "model": "nai-diffusion-2", "action": "generate", "parameters": {"width": 64, "height": 64, "steps": 4, "seed": 1}}
MULTIPART = "multipart/form-data; boundary=x"


def operations(front):
    """(dialect, method, path) of every operation that belongs to a dialect."""
    for path, item in front.get("/openapi.json").json["paths"].items():
        for method, operation in item.items():
            tags = operation.get("tags", []) if isinstance(operation, dict) else []
            if method in ("get", "post", "delete", "put") and tags and tags[0] in DIALECTS:
                yield tags[0], method.upper(), path


# ---- Shapes ----

def sentence_of(dialect, answer):
    """The sentence of a refusal in this dialect's shape, and in no other."""
    assert answer.headers.get("Content-Type") == "application/json", answer
    told = answer.json
    if dialect == "a1111":
        assert set(told) == {"error", "detail", "body", "errors"} and isinstance(told["error"], str), answer
        sentence = told["detail"]
    elif dialect == "openai":
        assert set(told) == {"error"} and set(told["error"]) == {"message", "type", "param", "code"}, answer
        sentence = told["error"]["message"]
    elif dialect == "novelai":
        assert set(told) == {"statusCode", "message"} and told["statusCode"] == answer.status, answer
        sentence = told["message"]
    else:
        assert set(told) == {"error", "node_errors"} and set(told["error"]) == {"type", "message", "details", "extra_info"}, answer
        sentence = told["error"]["message"]
    assert " " in sentence and "<" not in sentence, answer
    return sentence


def refused(dialect, answer, status, word):
    assert answer.status == status, answer
    sentence_of(dialect, answer)
    assert word in answer.body.decode(), (word, answer)


def fits(value, wanted):
    """`wanted`: a type or several, a dict of members, a list of what each item is, or the value itself."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(key in value and fits(value[key], member) for key, member in wanted.items())
    if isinstance(wanted, list):
        return isinstance(value, list) and (not wanted or (value and all(fits(item, wanted[0]) for item in value)))
    if isinstance(wanted, (type, tuple)):
        return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool) or wanted == (str, bool))
    return value == wanted


NUMBER = (int, float)
MAYBE_TEXT = (str, type(None))

# ---- What is served: (dialect, method, path, body, members) ----

INFO = {"prompt": str, "all_prompts": [str], "negative_prompt": str, "all_negative_prompts": [str], "seed": int, "all_seeds": [int],
        "subseed": int, "all_subseeds": [int], "subseed_strength": NUMBER, "width": 64, "height": 64, "sampler_name": str,
        "cfg_scale": NUMBER, "steps": 4, "batch_size": int, "restore_faces": False, "face_restoration_model": type(None),
        "sd_model_name": str, "sd_model_hash": str, "sd_vae_name": MAYBE_TEXT, "sd_vae_hash": MAYBE_TEXT, "seed_resize_from_w": int,
        "seed_resize_from_h": int, "denoising_strength": (int, float, type(None)), "extra_generation_params": dict,
        "index_of_first_image": 0, "infotexts": [str], "styles": list, "job_timestamp": str, "clip_skip": int,
        "is_using_inpainting_conditioning": False, "version": str}
MADE = {"images": [str], "parameters": dict, "info": str}
STATE = {"skipped": False, "interrupted": False, "stopping_generation": False, "job": str, "job_count": int, "job_timestamp": str,
         "job_no": int, "sampling_step": int, "sampling_steps": int}
NODE = {"input": {"required": dict}, "input_order": dict, "output": list, "output_is_list": list, "output_name": list, "name": str,
        "display_name": str, "description": str, "python_module": str, "category": str, "output_node": bool}
OPENAI = {"created": int, "data": [{"b64_json": str}], "usage": {"input_tokens": int, "output_tokens": int, "total_tokens": int,
          "input_tokens_details": {"image_tokens": int, "text_tokens": int}}, "output_format": "png", "size": "64x64"}
STATS = {"system": {name: (str, int, bool, list) for name in ("os", "ram_total", "ram_free", "comfyui_version", "python_version",
                                                             "pytorch_version", "argv")},
         "devices": [{"name": str, "type": str, "index": int, "vram_total": int, "vram_free": int, "torch_vram_total": int,
                      "torch_vram_free": int}]}
SDAPI = "/sdapi/v1/"
CONTROL_TYPE = {"module_list": [str], "model_list": [str], "default_option": str, "default_model": str}
SERVED = [
    ("a1111", "POST", SDAPI + "txt2img", SMALL, MADE),
    ("a1111", "POST", SDAPI + "img2img", {**SMALL, "init_images": [PICTURE]}, MADE),
    ("a1111", "POST", SDAPI + "extra-single-image", {"image": PICTURE, "upscaler_1": "Lanczos"}, {"html_info": str, "image": str}),
    ("a1111", "POST", SDAPI + "png-info", {"image": PICTURE}, {"info": str, "items": dict, "parameters": dict}),
    ("a1111", "GET", SDAPI + "progress", None, {"progress": NUMBER, "eta_relative": NUMBER, "state": STATE, "current_image": MAYBE_TEXT,
                                               "textinfo": MAYBE_TEXT}),
    ("a1111", "POST", SDAPI + "interrupt", None, {}),
    ("a1111", "POST", SDAPI + "skip", None, None),
    ("a1111", "GET", SDAPI + "options", None, {"sd_model_checkpoint": str, "samples_format": "png", "CLIP_stop_at_last_layers": int,
                                              "sd_vae": str}),
    ("a1111", "POST", SDAPI + "options", {"sd_vae": "Automatic", "unknown": 1}, None),
    ("a1111", "GET", SDAPI + "samplers", None, [{"name": str, "aliases": list, "options": {}}]),
    ("a1111", "GET", SDAPI + "schedulers", None, [{"name": str, "label": str, "aliases": list, "default_rho": NUMBER, "need_inner_model": bool}]),
    ("a1111", "GET", SDAPI + "sd-models", None, [{"title": str, "model_name": str, "hash": MAYBE_TEXT, "sha256": MAYBE_TEXT, "filename": str,
                                                 "config": MAYBE_TEXT}]),
    ("a1111", "GET", SDAPI + "sd-vae", None, []),
    ("a1111", "GET", SDAPI + "loras", None, [{"name": str, "alias": str, "path": str, "metadata": dict}]),
    ("a1111", "GET", SDAPI + "embeddings", None, {"loaded": {"bad": {"shape": int, "vectors": int}}, "skipped": {}}),
    ("a1111", "GET", SDAPI + "upscalers", None, [{"name": str, "model_name": MAYBE_TEXT, "model_path": MAYBE_TEXT, "model_url": MAYBE_TEXT,
                                                 "scale": NUMBER}]),
    ("a1111", "GET", SDAPI + "latent-upscale-modes", None, [{"name": str}]),
    *(("a1111", "GET", SDAPI + name, None, []) for name in ("prompt-styles", "hypernetworks", "face-restorers", "realesrgan-models")),
    ("a1111", "GET", SDAPI + "scripts", None, {"txt2img": [], "img2img": []}),
    ("a1111", "GET", SDAPI + "script-info", None, [{"name": str, "is_alwayson": bool, "is_img2img": bool, "args": list}]),
    ("a1111", "GET", SDAPI + "memory", None, {"ram": dict, "cuda": dict}),
    ("a1111", "GET", SDAPI + "cmd-flags", None, {"api": True}),
    *(("a1111", "POST", SDAPI + name, None, None) for name in ("refresh-checkpoints", "refresh-loras", "refresh-vae", "refresh-embeddings",
                                                              "unload-checkpoint", "reload-checkpoint")),
    ("a1111", "POST", "/internal/progress", {"id_task": "none"}, {"active": False, "queued": False, "completed": bool,
                                                                  "progress": (int, float, type(None)), "eta": (int, float, type(None)),
                                                                  "live_preview": MAYBE_TEXT, "id_live_preview": int, "textinfo": MAYBE_TEXT}),
    ("a1111", "GET", "/internal/pending-tasks", None, {"size": 0, "tasks": []}),
    ("a1111", "GET", "/internal/ping", None, {}),
    ("a1111", "GET", "/controlnet/model_list?update=true", None, {"model_list": ["edges [22]"]}),
    ("a1111", "GET", "/controlnet/module_list", None, {"module_list": [str], "module_detail": {"canny": {"model_free": False, "sliders": list}}}),
    ("a1111", "GET", "/controlnet/control_types", None, {"control_types": {"All": CONTROL_TYPE, "Canny": CONTROL_TYPE, "Depth": CONTROL_TYPE}}),
    ("a1111", "GET", "/controlnet/version", None, {"version": 3}),
    ("a1111", "GET", "/controlnet/settings", None, {"control_net_unit_count": 3}),
    *(("openai", "POST", prefix + "/images/generations", DRAWN, OPENAI) for prefix in ("/v1", "")),
    *(("openai", "POST", prefix + "/images/edits", "edit", OPENAI) for prefix in ("/v1", "")),
    *(("openai", "POST", prefix + "/images/variations", "edit", OPENAI) for prefix in ("/v1", "")),
    ("openai", "GET", "/v1/models/scripted", None, {"id": "scripted", "object": "model", "created": int, "owned_by": str}),
    ("openai", "GET", "/v1/models", None, {"object": "list", "data": [{"id": str, "object": "model", "created": int, "owned_by": str}]}),
    ("novelai", "GET", "/ai/generate-image/suggest-tags?model=nai-diffusion-2&prompt=blue", None,
     {"tags": [{"tag": str, "count": int, "confidence": NUMBER}]}),
    ("novelai", "GET", "/user/subscription", None, {"tier": int, "active": True, "perks": {"imageGeneration": True}}),
]
COMFY_SERVED = [
    ("POST", "/prompt", {"prompt": graph()}, {"prompt_id": str, "number": int, "node_errors": {}}),
    ("GET", "/prompt", None, {"exec_info": {"queue_remaining": int}}),
    ("GET", "/queue", None, {"queue_running": list, "queue_pending": list}),
    ("POST", "/queue", {"delete": []}, {}),
    ("POST", "/interrupt", {}, {}),
    ("POST", "/free", {"unload_models": True, "free_memory": True}, {}),
    ("GET", "/history?max_items=1&offset=0", None, dict),
    ("GET", "/history/none", None, {}),
    ("POST", "/history", {"delete": []}, {}),
    ("GET", "/object_info", None, {"KSampler": NODE, "SaveImage": NODE}),
    ("GET", "/object_info/KSampler", None, {"KSampler": NODE}),
    ("GET", "/embeddings", None, [str]),
    ("GET", "/models", None, [str]),
    ("GET", "/models/checkpoints", None, [str]),
    ("GET", "/models/controlnet", None, [str]),
    ("GET", "/system_stats", None, STATS),
    ("GET", "/features", None, {"max_upload_size": int}),
    ("GET", "/extensions", None, []),
]
SERVED += [("comfyui", method, prefix + path, body, members) for prefix in ("", "/api") for method, path, body, members in COMFY_SERVED]
# In their own forms, each with a test of its own below.
ELSEWHERE = {("novelai", "POST", "/ai/generate-image"), ("novelai", "POST", "/ai/generate-image-stream"), ("novelai", "POST", "/ai/upscale"),
             *(("comfyui", method, prefix + path) for prefix in ("", "/api")
               for method, path in (("GET", "/view"), ("POST", "/upload/image"), ("POST", "/upload/mask"), ("GET", "/ws")))}

# ---- What is refused: (dialect, method, path, body, status, word of the answer) ----

REFUSED = [
    ("a1111", "POST", SDAPI + "interrogate", {"image": PICTURE, "model": "clip"}, 422, "latentd"),
    ("a1111", "POST", "/controlnet/detect", {"controlnet_module": "canny"}, 422, "ControlNet"),
    ("a1111", "GET", SDAPI + "sd-modules", None, 404, "nothing at this path"),
    ("a1111", "POST", SDAPI + "img2img", SMALL, 404, "Init image not found"),
    ("a1111", "POST", SDAPI + "img2img", {**SMALL, "init_images": ["http://x/y.png"]}, 422, "no URL is fetched"),
    ("a1111", "POST", SDAPI + "img2img", {**SMALL, "init_images": ["AAAA"]}, 422, "PNG"),
    ("a1111", "POST", SDAPI + "png-info", {}, 422, "image is required"),
    ("a1111", "POST", SDAPI + "extra-single-image", {"image": PICTURE, "upscaler_1": "R-ESRGAN 4x+"}, 422, "R-ESRGAN"),
    ("a1111", "POST", SDAPI + "extra-single-image", {"image": PICTURE, "gfpgan_visibility": 1}, 422, "gfpgan"),
    ("a1111", "POST", SDAPI + "extra-single-image", {}, 422, "image"),
    ("openai", "POST", "/v1/images/generations", {}, 400, "prompt is required"),
    ("openai", "POST", "/v1/images/inpainting", DRAWN, 404, "nothing at this path"),
    ("openai", "POST", "/images/upscale", DRAWN, 404, "nothing at this path"),
    ("openai", "POST", "/v1/images/edits", DRAWN, 400, "multipart"),
    ("openai", "GET", "/v1/models/none", None, 404, "model_not_found"),
    *(("novelai", "POST", "/ai/" + name, {"image": PICTURE}, 400, name) for name in ("annotate-image", "encode-vibe", "augment-image")),
    ("novelai", "POST", "/ai/generate-image", {"input": "a"}, 400, "parameters"),
    ("novelai", "POST", "/ai/generate-image", {**NAI, "action": "dream"}, 400, "action"),
    ("novelai", "POST", "/ai/generate-image", {**NAI, "model": "other"}, 400, "other"),
    ("novelai", "POST", "/ai/generate-image-stream", {**NAI, "parameters": {**NAI["parameters"], "stream": "xml"}}, 400, "stream"),
    ("novelai", "POST", "/ai/upscale", {"image": PICTURE, "width": 64, "height": 64, "scale": 3}, 400, "scale"),
    ("novelai", "POST", "/ai/upscale", {}, 400, "image"),
    ("novelai", "GET", "/user/data", None, 404, "nothing at this path"),
    ("comfyui", "GET", "/view", None, 400, "filename"),
    ("comfyui", "GET", "/view?filename=x.png", None, 404, "no such picture"),
    ("comfyui", "GET", "/view?filename=x.png&channel=a", None, 400, "channel"),
    ("comfyui", "GET", "/models/clip_vision", None, 404, "folder"),
    ("comfyui", "GET", "/view_metadata/loras?filename=ink.safetensors", None, 404, "nothing at this path"),
    ("comfyui", "GET", "/view_metadata/controlnet?filename=edges.safetensors", None, 404, "nothing at this path"),
    ("comfyui", "GET", "/ws", None, 426, "WebSocket"),
    ("comfyui", "POST", "/upload/image", {"image": PICTURE}, 400, "multipart"),
    ("comfyui", "POST", "/upload/mask", {"image": PICTURE}, 400, "multipart"),
]
REFUSED += [(dialect, method, "/api" + path, *more) for dialect, method, path, *more in REFUSED if dialect == "comfyui"]


def ask(front, method, path, body):
    if body == "edit":
        return form(front, path, [("image", png(64, 64))], prompt="blue", steps=4)
    return front.call(method, path, body)


@pytest.mark.parametrize("dialect,method,path,body,members", SERVED, ids=[f"{row[1]} {row[2]}" for row in SERVED])
def test_served(front, dialect, method, path, body, members):
    answer = ask(front, method, path, body)
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("application/json"), answer
    assert fits(answer.json, members), (members, answer.body[:2000])
    if members is MADE:
        assert fits(json.loads(answer.json["info"]), INFO), answer.json["info"]
        assert base64.b64decode(answer.json["images"][0], validate=True).startswith(b"\x89PNG")


@pytest.mark.parametrize("dialect,method,path,body,status,word", REFUSED, ids=[f"{row[1]} {row[2]} {row[5]}" for row in REFUSED])
def test_refused(front, dialect, method, path, body, status, word):
    refused(dialect, ask(front, method, path, body), status, word)


def test_every_operation_of_the_contract_has_its_row(front):
    rows = {(row[0], row[1], re.sub(r"\?.*", "", row[2])) for row in (*SERVED, *REFUSED)} | ELSEWHERE
    silent = [operation for operation in operations(front)
              if not any(operation[:2] == row[:2] and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation[2]), row[2]) for row in rows)]
    assert silent == []
    assert {operation[0] for operation in operations(front)} == set(DIALECTS)


def test_the_page_of_clients_tells_every_operation(front):
    page = (ROOT / "docs/clients.md").read_text()
    table = page[page.index("## What is served and what is refused"):]
    silent = [f"{method} {path}" for _, method, path in operations(front)
              if f"`{method} {path.removeprefix('/api').removeprefix('/v1')}`" not in table]
    assert silent == []


# ---- Answers that are no JSON ----

def test_archives_and_streams_of_novelai(front):
    for path, body in (("/ai/generate-image", NAI), ("/ai/upscale", {"image": PICTURE, "width": 64, "height": 64, "scale": 2})):
        answer = front.post(path, body)
        assert answer.status == 200 and answer.headers["Content-Type"] in ("application/x-zip-compressed", "binary/octet-stream"), answer
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            assert archive.read(archive.namelist()[0]).startswith(b"\x89PNG"), path
    for stream, kind in (("sse", "text/event-stream"), ("msgpack", "application/x-msgpack")):
        answer = front.post("/ai/generate-image-stream", {**NAI, "parameters": {**NAI["parameters"], "stream": stream}})
        assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind) and b"final" in answer.body, stream


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_streams_of_openai(front, prefix):
    for answer, name in ((front.post(prefix + "/images/generations", {**DRAWN, "stream": True}), "image_generation.completed"),
                         (form(front, prefix + "/images/edits", [("image", png(64, 64))], prompt="b", steps=4, stream="true"),
                          "image_edit.completed")):
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
        told = json.loads(re.findall(r"data: (.*)", answer.body.decode())[-1])
        wanted = {"type": name, "b64_json": str, "background": str, "created_at": int, "output_format": "png", "quality": str,
                  "size": "64x64", "usage": dict}
        assert fits(told, wanted), told


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_pictures_and_sockets_of_comfyui(front, prefix):
    client = Socket(front, "walker" + prefix[1:], path=prefix + "/ws")
    entry = finished(front, graph(), client_id="walker" + prefix[1:])
    kinds = {kind for kind, _ in client.until(over)}
    client.close()
    assert {"status", "execution_start", "executing", "progress", "executed", "execution_success"} <= kinds
    assert fits(entry, {"prompt": list, "outputs": {"9": {"images": [{"filename": str, "subfolder": "", "type": "output"}]}},
                        "status": {"status_str": "success", "completed": True, "messages": list}, "meta": dict})
    name = entry["outputs"]["9"]["images"][0]["filename"]
    stored = upload(front, png(64, 64), prefix + "/upload/image")
    masked = upload_mask(front, rgba(), {"filename": stored.json["name"], "type": "input"}, prefix + "/upload/mask")
    for query in (f"filename={name}&type=output&subfolder=", f"filename={name}&type=temp&preview=webp;90",
                  f"filename={stored.json['name']}&type=input&channel=rgb", f"filename={masked.json['name']}&type=input&channel=a"):
        answer = front.get(f"{prefix}/view?{query}")
        assert answer.status == 200 and answer.headers["Content-Type"] == "image/png" and answer.body.startswith(b"\x89PNG"), query
    for answer in (stored, masked):
        assert answer.status == 200 and fits(answer.json, {"name": str, "subfolder": "", "type": "input"}), answer


# ---- Fields: (value, verdict). True: does what it says; "warned": done without it, told; "refused" ----

A1111_FIELDS = {
    "prompt": [("a dog", True)], "negative_prompt": [("fog", True)], "styles": [([], True), (["cinematic"], "warned")], "seed": [(5, True)],
    "subseed": [(5, True)], "subseed_strength": [(0.5, True)], "seed_resize_from_h": [(-1, True), (64, "refused")],
    "seed_resize_from_w": [(0, True), (64, "refused")], "sampler_name": [("DPM++ 2M Karras", True)], "scheduler": [("Karras", True)],
    "sampler_index": [("Euler a", True)], "batch_size": [(2, True), (99, "refused")], "n_iter": [(2, True)], "steps": [(3, True), (151, "refused")],
    "cfg_scale": [(5, True), (31, "refused")], "width": [(128, True), (65, "refused")], "height": [(128, True), (9000, "refused")],
    "restore_faces": [(False, True), (True, "refused")], "tiling": [(None, True), (True, "refused")], "do_not_save_samples": [(True, True)],
    "do_not_save_grid": [(True, True)], "eta": [(1.0, True), (3, "refused")], "s_min_uncond": [(1, True)], "s_churn": [(0, True)],
    "s_tmax": [(10, True)], "s_tmin": [(0, True)], "s_noise": [(1, True)], "denoising_strength": [(0.5, True)],
    "override_settings": [({"CLIP_stop_at_last_layers": 2}, True), ({"grid_format": "png"}, "warned"), ([1], "refused")],
    "override_settings_restore_afterwards": [(True, True)], "refiner_checkpoint": [("", True), ("x", "refused")], "refiner_switch_at": [(0.8, True)],
    "disable_extra_networks": [(True, True)], "firstpass_image": [(None, True), (PICTURE, "refused")], "comments": [({}, True)],
    "enable_hr": [(False, True), (True, True)], "hr_scale": [(1.5, True)], "hr_upscaler": [("Latent", True)], "hr_second_pass_steps": [(2, True)],
    "hr_resize_x": [(128, True)], "hr_resize_y": [(128, True)], "hr_checkpoint_name": [("Use same checkpoint", True)],
    "hr_sampler_name": [("Euler", True)], "hr_scheduler": [("Karras", True)], "hr_prompt": [("b", True)], "hr_negative_prompt": [("c", True)],
    "hr_cfg": [(5, True)], "hr_additional_modules": [(["Use same choices"], True), (["other"], "warned")], "distilled_cfg_scale": [(3.5, True)],
    "hr_distilled_cfg": [(3.5, True)], "firstphase_width": [(0, True), (64, "refused")], "firstphase_height": [(0, True), (64, "refused")],
    "script_name": [("", True), ("X/Y/Z plot", "refused")], "script_args": [([], True)],
    "alwayson_scripts": [({}, True), ({"adetailer": {"args": [True]}}, "refused"), ([1], "refused"),
                         ({"controlnet": {"args": [{"model": "edges", "image": PICTURE}]}}, True)], "send_images": [(True, True)],
    "save_images": [(False, True), (True, "warned")], "force_task_id": [("t", True)], "infotext": [("a\nSteps: 3, Sampler: Euler, Seed: 2", True)],
    "clip_skip": [(1, True), (13, "refused")], "controlnet_units": [([], True), ([{"model": "edges", "image": PICTURE}], True), ([{"module": "canny"}], "refused")],
    "url": [("http://x", True)], "auth": [("u:p", True)], "include_init_images": [(False, True)], "unheard_of": [(1, "warned")],
    "init_images": [([], True), ([PICTURE], "warned")], "mask": [(None, True), (PICTURE, "warned")], "latent_mask": [(None, True), (PICTURE, "warned")],
}
IMG2IMG_FIELDS = {
    "init_images": [([PICTURE, PICTURE], "refused")], "denoising_strength": [(0.4, True), (2, "refused")],
    "resize_mode": [(1, True), (3, "warned"), (4, "refused")], "image_cfg_scale": [(1.5, True), (2, "warned")], "mask": [(PICTURE, True)],
    "mask_blur": [(4, True)], "mask_blur_x": [(4, True)], "mask_blur_y": [(4, True)], "mask_round": [(True, True), (False, "warned")],
    "inpainting_fill": [(1, True), (2, "warned")], "inpaint_full_res": [(False, True)], "inpaint_full_res_padding": [(8, True)],
    "inpainting_mask_invert": [(1, True)], "initial_noise_multiplier": [(1, True), (0.5, "refused")],
    "latent_mask": [(None, True), (PICTURE, "refused")], "include_init_images": [(True, True)], "enable_hr": [(False, True), (True, "warned")],
}
OPENAI_FIELDS = {
    "prompt": [("b", True), ("", "refused")], "model": [("scripted", True), ("dall-e-3", "warned"), ("none", "refused")],
    "n": [("2", True), (11, "refused")], "size": [("auto", True), ("65x64", "refused")], "quality": [("auto", True), ("hd", "warned"), ("best", "refused")],
    "response_format": [("b64_json", True), ("file", "refused")], "output_format": [("png", True), ("gif", "refused")],
    "output_compression": [(100, True), (50, "warned")], "background": [("auto", True), ("transparent", "refused")],
    "moderation": [("low", True), ("none", "refused")], "style": [("vivid", "warned"), ("odd", "refused")], "stream": [(False, True)],
    "partial_images": [(0, True), (4, "refused")], "input_fidelity": [("high", True), ("odd", "refused")], "user": [("me", True)],
    "strength": [(0.5, True)], "negative_prompt": [("fog", True)], "seed": [(3, True)], "steps": [(3, True), (151, "refused")],
    "num_inference_steps": [(3, True)], "cfg_scale": [(5, True), (31, "refused")], "guidance_scale": [(5, True)], "true_cfg_scale": [(5, True)],
    "sampler": [("euler", True), ("none", "refused")], "scheduler": [("karras", True), ("none", "refused")], "clip_skip": [(1, True)],
    "loras": [([{"name": "ink"}], True), ("ink", "refused")], "unheard_of": [(1, "warned")],
}
NOVELAI_FIELDS = {
    "width": [(128, True), (65, "refused")], "height": [(128, True)], "scale": [(11, True), (31, "refused")], "seed": [(3, True)],
    "noise_schedule": [("karras", True), ("odd", "refused")], "uncond_scale": [(0.5, True)], "cfg_rescale": [(0.1, True)],
    "skip_cfg_above_sigma": [(19, True), (None, True)], "skip_cfg_below_sigma": [(0, True)], "steps": [(3, True), (51, "refused")],
    "sampler": [("k_dpmpp_2m", True), ("ddim_v3", True), ("nai_smea", True), ("odd", "refused")], "n_samples": [(2, True), (9, "refused")],
    "negative_prompt": [("fog", True)], "uc": [("fog", True)], "sm": [(True, True)], "sm_dyn": [(True, "warned")], "autoSmea": [(False, True)],
    "dynamic_thresholding": [(True, True)], "dynamic_thresholding_percentile": [(0.99, True)], "dynamic_thresholding_mimic_scale": [(10, True)],
    "image": [(None, True), (PICTURE, "warned")], "mask": [(None, True), (PICTURE, "warned")], "strength": [(0.7, True)], "noise": [(0, True)],
    "inpaintImg2ImgStrength": [(1, True)], "add_original_image": [(True, True)], "extra_noise_seed": [(1, True)], "color_correct": [(False, True)],
    "image_format": [("png", True), ("gif", "refused")], "stream": [("sse", True)],
    "v4_prompt": [({"caption": {"base_caption": "a", "char_captions": []}}, True), ({"caption": {"char_captions": [{"char_caption": "b"}]}}, "refused")],
    "v4_negative_prompt": [({"caption": {"base_caption": "fog", "char_captions": []}}, True)], "qualityToggle": [(True, True)], "ucPreset": [(0, True)],
    "params_version": [(1, True)], "legacy": [(False, True)], "legacy_v3_extend": [(False, True)], "legacy_uc": [(False, True)],
    "deliberate_euler_ancestral_bug": [(False, True)], "prefer_brownian": [(True, True)], "use_coords": [(False, True)], "prompt": [("a", True)],
    "controlnet_strength": [(1, True)], "reference_strength": [(0.6, True)], "reference_information_extracted": [(1, True)],
    "reference_strength_multiple": [([], True)], "reference_information_extracted_multiple": [([], True)],
    "normalize_reference_strength_multiple": [(True, True)], "controlnet_condition": [(None, True), ("AAAA", "refused")],
    "controlnet_model": [(None, True), ("hed", "refused")], "reference_image": [(None, True), ("AAAA", "refused")],
    "reference_image_multiple": [([], True), (["AAAA"], "refused")], "director_reference_images": [([], True), (["AAAA"], "refused")],
    "director_reference_descriptions": [([], True), ([{"a": 1}], "refused")], "characterPrompts": [([], True), ([{"prompt": "a"}], "refused")],
    "unheard_of": [(1, "warned")],
}
OUTER_FIELDS = {"input", "model", "action", "parameters", "use_new_shared_trial", "recaptcha_token", "url"}


def rows(fields):
    return [(field, value, verdict) for field, cases in fields.items() for value, verdict in cases]


def judged(dialect, field, answer, warnings, verdict):
    if verdict == "refused":
        assert 400 <= answer.status < 500, (field, answer)
        sentence_of(dialect, answer)
        told = answer.body.decode()
        stem = {"output_format": "format", "image_format": "format", "noise_schedule": "scheduler", "scale": "cfg_scale", "n_iter": "n_iter",
                "seed_resize_from_h": "seed_resize", "denoising_strength": "strength"}.get(field, field)
        assert stem in told, (field, answer)
        return
    assert answer.status == 200, (field, answer)
    named = [warning for warning in warnings(answer) if re.match(rf"{field}\b", warning)]
    assert bool(named) == (verdict == "warned"), (field, warnings(answer))


@pytest.mark.parametrize("field,value,verdict", rows(A1111_FIELDS))
def test_fields_of_txt2img(front, field, value, verdict):
    together = {"enable_hr": True} if field.startswith("hr_") else {}
    answer = front.post(SDAPI + "txt2img", {**SMALL, **together, field: value})
    judged("a1111", field, answer, lambda a: a.json.get("warnings", []), verdict)


@pytest.mark.parametrize("field,value,verdict", rows(IMG2IMG_FIELDS))
def test_fields_of_img2img(front, field, value, verdict):
    together = {"mask": PICTURE, "inpainting_fill": 1} if field.startswith(("mask", "inpaint")) else {}
    judged("a1111", field, img2img(front, **{**together, field: value}), lambda a: a.json.get("warnings", []), verdict)


@pytest.mark.parametrize("field,value,verdict", rows(OPENAI_FIELDS))
def test_fields_of_generations(front, field, value, verdict):
    answer = front.post("/v1/images/generations", {**DRAWN, field: value})
    judged("openai", field, answer, lambda a: a.json.get("warnings", []), verdict)


@pytest.mark.parametrize("field,value,verdict", rows(NOVELAI_FIELDS))
def test_fields_of_generate_image(front, field, value, verdict):
    answer = front.post("/ai/generate-image", {**NAI, "parameters": {**NAI["parameters"], field: value}})
    judged("novelai", field, answer, lambda a: json.loads(a.headers.get("X-Latentd-Warnings", "[]")), verdict)


@pytest.mark.parametrize("source,fields", [("dialect_a1111.c", A1111_FIELDS | IMG2IMG_FIELDS), ("dialect_openai.c", OPENAI_FIELDS),
                                           ("dialect_novelai.c", NOVELAI_FIELDS | dict.fromkeys(OUTER_FIELDS))])
def test_every_field_that_a_translation_knows_has_its_row(source, fields):
    known = set(re.findall(r'\{"(\w+)", LD_DIALECT_(?:TEXT|WHOLE|NUMBER|SEED|FLAG|READ|IGNORE|LACKED)', (ROOT / "api" / source).read_text()))
    known -= {"block", "factor", "start", "end", "after_skip", "downscale", "upscale"}  # of one script, not of the call
    assert len(known) > 20 and known - set(fields) == set()


def test_prompts_of_later_models_are_read_where_no_other_stands(front):
    captions = {"v4_prompt": {"caption": {"base_caption": "a fox"}}, "v4_negative_prompt": {"caption": {"base_caption": "fog"}}}
    assert front.post("/ai/generate-image", {**NAI, "input": None, "parameters": {**NAI["parameters"], **captions}}).status == 200
    request = front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]
    assert request["prompt"] == "a fox" and request["negative_prompt"] == "fog"


def test_an_edit_keeps_the_shape_of_a_jpeg(front):
    from PIL import Image
    out = io.BytesIO()
    Image.new("RGB", (128, 64), (9, 9, 9)).save(out, "JPEG")
    answer = form(front, "/v1/images/edits", [("image", out.getvalue())], prompt="blue", steps=4)
    if answer.status == 400 and "JPEG" in answer.json["error"]["message"]:
        pytest.skip("built without JPEG")
    assert answer.status == 200 and answer.json["size"] == "128x64", answer


# ---- Graphs: what each kind of error is called (2.4, and point 31 of section 3) ----

def changed(**changes):
    return {"prompt": graph(**changes)}


def with_node(class_type, inputs):
    nodes = graph()
    nodes["99"] = {"class_type": class_type, "inputs": inputs}
    return {"prompt": nodes}


GRAPHS = [
    ({}, "no_prompt", None), ({"prompt": {}}, "no_prompt", None), ({"prompt": {"1": {"inputs": {}}}}, "invalid_prompt", None),
    ({"prompt": {k: v for k, v in graph().items() if k != "9"}}, "prompt_no_outputs", None),
    ({"prompt": graph(), "partial_execution_targets": ["77"]}, "prompt_no_outputs", None),
    (changed(n3_model=None), None, "required_input_missing"), (changed(n3_model=["77", 0]), None, "bad_linked_input"),
    (changed(n3_model="x"), None, "bad_linked_input"), (changed(n3_model=["6", 0]), None, "return_type_mismatch"),
    (changed(n3_steps="many"), None, "invalid_input_type"), (changed(n3_steps=0), None, "value_smaller_than_min"),
    (changed(n3_steps=151), None, "value_bigger_than_max"), (changed(n3_sampler_name=3), None, "value_not_in_list"),
    (with_node("IPAdapterAdvanced", {}), None, "custom_validation_failed"), (with_node("DiffControlNetLoader", {}), None, "custom_validation_failed"),
    (with_node("ControlNetApplyAdvanced", {}), None, "required_input_missing"),
]


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_graphs_that_are_refused(front, prefix):
    before = len(front.get("/v1/jobs?limit=100").json["jobs"])
    for body, whole, of_node in GRAPHS:
        answer = front.post(prefix + "/prompt", copy.deepcopy(body))
        assert answer.status == 400, (body, answer)
        sentence_of("comfyui", answer)
        assert answer.json["error"]["type"] == (whole or "prompt_outputs_failed_validation"), answer
        if of_node:
            node = next(iter(answer.json["node_errors"].values()))
            assert fits(node, {"errors": [{"type": of_node, "message": str, "details": str, "extra_info": dict}], "dependent_outputs": list,
                               "class_type": str}), answer
        else:
            assert answer.json["node_errors"] == {}
    assert len(front.get("/v1/jobs?limit=100").json["jobs"]) == before
    assert front.post(prefix + "/prompt", {"prompt": graph(), "partial_execution_targets": ["9"]}).status == 200


# ---- What can go wrong on every route ----

def test_other_methods_and_paths(front):
    for dialect, method, path in operations(front):
        answer = front.call("DELETE", path.replace("{name}", "x"))
        assert answer.status == 405 and answer.headers["Allow"], (path, answer)
        sentence_of(dialect, answer)
    for dialect, path in (("a1111", "/sdapi/v1/nothing"), ("a1111", "/internal/nothing"), ("openai", "/v1/images/nothing"),
                          ("openai", "/images/nothing"), ("novelai", "/ai/nothing"), ("novelai", "/user/nothing"), ("comfyui", "/api/nothing"),
                          ("comfyui", "/upload/nothing")):
        refused(dialect, front.get(path), 404, "nothing")


NO_BODY = {"interrupt", "skip", "free", "refresh-checkpoints", "refresh-loras", "refresh-vae", "refresh-embeddings", "unload-checkpoint",
           "reload-checkpoint"}  # what is sent along is not read


def test_bodies_that_are_no_json(front):
    for dialect, method, path in operations(front):
        if method != "POST":
            continue
        for body in (b"{", b"[]", b"nonsense"):
            answer = front.post(path, body)
            if answer.status == 200 and path.rsplit("/", 1)[1] in NO_BODY:
                continue
            assert answer.status in (400, 422), (path, body, answer)
            sentence_of(dialect, answer)


def test_pages_of_other_sites_and_bodies_that_are_too_large(front):
    for dialect, method, path in operations(front):
        if method == "POST":
            refused(dialect, front.post(path, b"{}", headers={"Origin": "https://evil.example"}), 403, "")
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {MULTIPART if 'upload' in path or 'edits' in path or 'vari' in path else 'application/json'}"
            refused(dialect, front.one_reply(head.encode() + b"\r\nContent-Length: 99999999\r\n\r\n{"), 413, "")


def test_callers_without_a_key(serve, latentd, tmp_path):
    add(latentd, tmp_path, "anna")
    front = serve()
    for dialect, method, path in operations(front):
        if path == "/internal/ping":
            continue
        refused(dialect, front.call(method, path.replace("{name}", "x"), b"{}" if method == "POST" else None), 401, "")
    for dialect, path in (("a1111", SDAPI + "samplers"), ("openai", "/v1/models/x"), ("novelai", "/user/subscription"), ("comfyui", "/queue")):
        refused(dialect, front.get(path, headers={"Authorization": "Bearer wrong"}), 401, "")


def test_a_queue_that_is_full(serve):
    front = serve("step_ms=300", "--worker-jobs", "1", "--limits-queued-per-key", "1")
    front.wait(front.submit(steps=100), ("running",))
    front.submit(steps=100)
    for dialect, answer in (("a1111", front.post(SDAPI + "txt2img", SMALL)), ("openai", front.post("/v1/images/generations", DRAWN)),
                            ("novelai", front.post("/ai/generate-image", NAI)), ("novelai", front.post("/ai/generate-image-stream", NAI)),
                            ("comfyui", front.post("/prompt", {"prompt": graph()})),
                            ("a1111", front.post(SDAPI + "extra-single-image", {"image": PICTURE, "upscaler_1": "Lanczos"})),
                            ("novelai", front.post("/ai/upscale", {"image": PICTURE, "width": 64, "height": 64, "scale": 2}))):
        refused(dialect, answer, 429, "")
        assert int(answer.headers["Retry-After"]) >= 1
    for job in front.get("/v1/jobs").json["jobs"]:
        front.post(f"/v1/jobs/{job['id']}/cancel")


def test_an_sdk_of_openai_gets_its_shape_under_shared_paths(serve, latentd, tmp_path):
    add(latentd, tmp_path, "anna")
    front = serve()
    for path in ("/v1/models", "/models", "/v1/models/none", "/v1/chat/completions"):
        answer = front.get(path, headers={"X-Stainless-Lang": "js", "Authorization": "Bearer wrong"})
        assert answer.status in (401, 404), answer
        sentence_of("openai", answer)
    native = front.get("/v1/models")
    assert native.status == 401 and native.headers["Content-Type"] == "application/problem+json"
