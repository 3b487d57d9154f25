"""Proves that ComfyUI's graphs with ControlNets become the field `control`: which units a chain of
ControlNetApply nodes says for which pass, what stands between a picture and a ControlNet, and that
whatever cannot be said is refused by the node that says it."""

import base64
import copy
import hashlib
import io
import json
import pathlib

import pytest
from PIL import Image, ImageDraw

from front import Front
from test_comfy import finished, graph, native, newest, post, upload
from test_images import png
from test_keys import add, bearer


@pytest.fixture(scope="module")
def hint(front):
    """The name of an uploaded picture of 128x64."""
    return upload(front, png(128, 64)).json["name"]


def advanced(positive, negative, **inputs):
    return {"class_type": "ControlNetApplyAdvanced", "inputs": {
        "positive": positive, "negative": negative, "control_net": ["20", 0], "image": ["21", 0], "strength": 0.75,
        "start_percent": 0.1, "end_percent": 0.9, **inputs}}


def controlled(hint, **inputs):
    """The stock graph: an uploaded picture, a loader, one ControlNetApplyAdvanced."""
    nodes = graph(n3_positive=["22", 0], n3_negative=["22", 1], n5_width=128)
    nodes["20"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "edges.safetensors"}}
    nodes["21"] = {"class_type": "LoadImage", "inputs": {"image": hint}}
    nodes["22"] = advanced(["6", 0], ["7", 0], **inputs)
    return nodes


def between(nodes, node, class_type, **inputs):
    """A node between the picture and what took it: returns the graph."""
    taken = nodes["22"]["inputs"]["image"]
    nodes[node] = {"class_type": class_type, "inputs": {"image": taken, **inputs}}
    nodes["22"]["inputs"]["image"] = [node, 0]
    return nodes


def old(conditioning, strength=0.75):
    return {"class_type": "ControlNetApply", "inputs": {
        "conditioning": conditioning, "control_net": ["20", 0], "image": ["21", 0], "strength": strength}}


def second(nodes, upscale=None, **inputs):
    """A second KSampler behind the first."""
    nodes["10"] = {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "upscale_method": "bislerp", "scale_by": 1.5}}
    if upscale:
        nodes["10"] = upscale
    nodes["11"] = copy.deepcopy(nodes["3"])
    nodes["11"]["inputs"].update(latent_image=["10", 0], denoise=0.5, **inputs)
    nodes["8"]["inputs"]["samples"] = ["11", 0]
    return nodes


def units(front, nodes):
    """The job's units: what was given and is not the usual."""
    usual = {"weight": 1, "start": 0, "end": 1, "preprocess": "none", "resize": "crop", "passes": "both", "mode": "balanced",
             "low": None, "high": None}
    request = native(front, nodes)
    return [{key: value for key, value in unit.items() if usual.get(key, 0) != value} for unit in request.get("control") or []]


def refusal(front, nodes, node):
    answer = post(front, nodes)
    assert answer.status == 400, answer
    assert list(answer.json["node_errors"]) == [node], answer
    error, = answer.json["node_errors"][node]["errors"]
    return error["type"], error["message"]


# ---- One unit -------------------------------------------------------------------------------------


def test_the_stock_graph(front, hint):
    assert units(front, controlled(hint)) == [{"model": "edges", "image": {"id": hint[:26]}, "weight": 0.75, "start": 0.1, "end": 0.9}]
    request = newest(front)["request"]
    assert request["prompt"] == "a cat" and request["negative_prompt"] == "fog" and request["profile"] == "comfy"
    assert not any("ControlNet" in warning for warning in newest(front)["warnings"])
    finished(front, graph())
    assert not newest(front)["request"].get("control")


def test_the_worker_gets_the_picture(front, hint):
    request = native(front, controlled(hint))
    job = front.wait(front.post("/v1/jobs", {**request, "tag": "tell_inputs"}).json["id"])
    assert f"control 0: {hashlib.sha256(png(128, 64)).hexdigest()}" in job["warnings"]


@pytest.mark.parametrize("name", ["edges.safetensors", "edges", "edges.pth"])
def test_names_as_those_of_checkpoints(front, hint, name):
    nodes = controlled(hint)
    nodes["20"]["inputs"]["control_net_name"] = name
    assert units(front, nodes)[0]["model"] == "edges"


def test_a_vae_beside_it_changes_nothing(front, hint):
    plain = units(front, controlled(hint))
    assert units(front, controlled(hint, vae=["4", 2])) == plain
    nodes = controlled(hint, vae=["4", 2])
    nodes["22"]["class_type"] = "ControlNetApplySD3"
    assert units(front, nodes) == plain
    assert refusal(front, controlled(hint, vae=["4", 1]), "22")[0] == "return_type_mismatch"
    assert refusal(front, controlled(hint, vae=["99", 0]), "22")[0] == "bad_linked_input"


def test_a_strength_of_nothing_is_no_unit(front, hint):
    """ComfyUI hands both conditionings through, whatever else the node says."""
    assert units(front, controlled(hint, strength=0, start_percent=1)) == []
    nodes = controlled(hint, strength=0)
    between(nodes, "23", "ImageScale", upscale_method="area", width=64, height=64, crop="disabled")
    assert units(front, nodes) == []


# ---- What stands before it ------------------------------------------------------------------------


@pytest.mark.parametrize("low, high, wanted", [(0.4, 0.8, (102, 204)), (0.01, 0.99, (2.55, 252.45)), (100 / 255, 200 / 255, (None, None)), (0.2, 0.5, (51, 127.5))])
def test_canny(front, hint, low, high, wanted):
    unit, = units(front, between(controlled(hint), "23", "Canny", low_threshold=low, high_threshold=high))
    assert unit["preprocess"] == "canny" and (unit.get("low"), unit.get("high")) == wanted  # None: the usual 100 and 200


def test_an_inverted_drawing(front, hint):
    unit, = units(front, between(controlled(hint), "23", "ImageInvert"))
    assert unit["preprocess"] == "invert" and "low" not in unit


@pytest.mark.parametrize("width, height, crop, wanted", [
    (256, 128, "disabled", "crop"),      # the picture's own shape: nothing but its size changes
    (512, 256, "center", "crop"),
    (128, 128, "center", None),          # what is left has not the shape of 128x64
])
def test_scaled_pictures(front, hint, width, height, crop, wanted):
    nodes = between(controlled(hint), "23", "ImageScale", upscale_method="lanczos", width=width, height=height, crop=crop)
    if wanted:
        assert units(front, nodes)[0].get("resize", "crop") == wanted
    else:
        assert "own shape" in refusal(front, nodes, "23")[1]


@pytest.mark.parametrize("crop, wanted", [("disabled", "stretch"), ("center", "crop")])
def test_pictures_scaled_to_the_shape_that_is_painted(front, hint, crop, wanted):
    nodes = between(controlled(hint), "23", "ImageScale", upscale_method="area", width=256, height=256, crop=crop)
    nodes["5"]["inputs"]["width"] = 64
    assert units(front, nodes)[0].get("resize", "crop") == wanted


def test_by_a_factor_and_through_canny(front, hint):
    nodes = between(controlled(hint), "23", "ImageScaleBy", upscale_method="area", scale_by=2.0)
    between(nodes, "24", "Canny", low_threshold=0.4, high_threshold=0.8)
    between(nodes, "25", "ImageScale", upscale_method="area", width=64, height=64, crop="disabled")
    nodes["5"]["inputs"]["width"] = 64
    unit, = units(front, nodes)
    assert unit["preprocess"] == "canny" and unit["resize"] == "stretch"


def test_with_a_picture_to_begin_with(front, hint):
    """A unit that takes what VAEEncode takes follows init; one with the file itself is held against
    what is painted."""
    nodes = controlled(hint)
    nodes["30"] = {"class_type": "LoadImage", "inputs": {"image": hint}}
    nodes["31"] = {"class_type": "ImageScale", "inputs": {"image": ["30", 0], "upscale_method": "lanczos", "width": 64, "height": 64, "crop": "center"}}
    nodes["32"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["31", 0], "vae": ["4", 2]}}
    nodes["3"]["inputs"].update(latent_image=["32", 0], denoise=0.5)
    del nodes["5"]
    assert units(front, nodes)[0]["image"] == {"id": hint[:26]}
    request = newest(front)["request"]
    assert (request["width"], request["height"]) == (64, 64) and request["init"]["resize"] == "crop"
    nodes["22"]["inputs"]["image"] = ["31", 0]
    unit, = units(front, nodes)
    assert "image" not in unit and "resize" not in unit
    assert units(front, between(nodes, "33", "ImageInvert")) == [{**unit, "preprocess": "invert"}]
    nodes["33"]["inputs"]["image"] = ["34", 0]
    nodes["34"] = {"class_type": "ImageScale", "inputs": {**nodes["31"]["inputs"], "crop": "disabled"}}
    assert units(front, nodes) == [{**unit, "preprocess": "invert", "image": {"id": hint[:26]}, "resize": "stretch"}]


# ---- Chains, and both prompts ---------------------------------------------------------------------


def chain(hint, *strengths):
    """ControlNetApplyAdvanced, one around the other: 22 is the innermost."""
    nodes = controlled(hint, strength=strengths[0])
    for i, strength in enumerate(strengths[1:], 22):
        nodes[str(i + 1)] = advanced([str(i), 0], [str(i), 1], strength=strength)
    last = str(21 + len(strengths))
    nodes["3"]["inputs"].update(positive=[last, 0], negative=[last, 1])
    return nodes


def test_a_chain_is_numbered_from_the_prompt_on(front, hint):
    assert [unit["weight"] for unit in units(front, chain(hint, 0.25, 0.5, 2))] == [0.25, 0.5, 2]
    assert [unit["weight"] for unit in units(front, chain(hint, 0, 0.5, 0.25, 0, 0.75))] == [0.5, 0.25, 0.75]
    kind, message = refusal(front, chain(hint, 0.25, 0.5, 0.75, 1.5), "25")
    assert kind == "custom_validation_failed" and "at most 3" in message
    assert "too many" in refusal(front, chain(hint, *[0.5] * 20), "25")[1]


def test_on_the_positive_prompt_it_acts_on_both(front, hint):
    """ControlNetApply's control_apply_to_uncond."""
    nodes = controlled(hint)
    nodes["22"] = old(["6", 0])
    nodes["23"] = old(["22", 0], strength=0.5)
    nodes["3"]["inputs"].update(positive=["23", 0], negative=["7", 0])
    assert [(unit["weight"], unit.get("start", 0)) for unit in units(front, nodes)] == [(0.75, 0), (0.5, 0)]
    nodes["24"], nodes["25"] = old(["7", 0]), old(["24", 0], strength=0.5)  # the same once more, on its own
    nodes["3"]["inputs"]["negative"] = ["25", 0]
    assert len(units(front, nodes)) == 2
    nodes["25"]["inputs"]["strength"] = 0.25
    assert "the same ControlNets" in refusal(front, nodes, "23")[1]


@pytest.mark.parametrize("ends, node", [
    ((["22", 0], ["7", 0]), "22"),        # beside the positive prompt alone
    ((["6", 0], ["22", 1]), "22"),        # beside the negative alone
    ((["22", 1], ["22", 0]), "22"),       # crossed
    ((["6", 0], ["23", 0]), "23"),        # ControlNetApply on the negative
    ((["24", 0], ["22", 1]), "24"),       # the negative has its own, so the positive's stays there
])
def test_prompts_with_different_units(front, hint, ends, node):
    nodes = controlled(hint)
    nodes["23"] = old(["7", 0])
    nodes["24"] = old(["22", 0])
    nodes["3"]["inputs"].update(positive=ends[0], negative=ends[1])
    kind, message = refusal(front, nodes, node)
    assert kind == "custom_validation_failed" and ("the same ControlNets" in message or "first output" in message)


def test_an_emptied_prompt_keeps_its_units(front, hint):
    nodes = controlled(hint)
    nodes["23"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["22", 0]}}
    nodes["3"]["inputs"]["negative"] = ["23", 0]
    assert len(units(front, nodes)) == 1


# ---- Two passes -----------------------------------------------------------------------------------


def test_both_passes_have_them(front, hint):
    unit, = units(front, second(controlled(hint)))
    assert "passes" not in unit
    nodes = second(controlled(hint), positive=["23", 0], negative=["23", 1])
    nodes["23"] = advanced(["6", 0], ["7", 0])  # another node that says the same
    assert len(units(front, nodes)) == 1 and newest(front)["request"]["hires"]["strength"] == 0.5


def test_passes_with_units_of_their_own(front, hint):
    first = second(controlled(hint), positive=["6", 0], negative=["7", 0])
    assert [unit.get("passes") for unit in units(front, first)] == ["first"]
    alone = second(controlled(hint), positive=["22", 0], negative=["22", 1])
    alone["3"]["inputs"].update(positive=["6", 0], negative=["7", 0])
    assert [unit.get("passes") for unit in units(front, alone)] == ["second"]
    nodes = second(chain(hint, 0.25, 0.5), positive=["25", 0], negative=["25", 1])
    nodes["24"] = advanced(["6", 0], ["7", 0], strength=1.5)
    nodes["25"] = advanced(["24", 0], ["24", 1], strength=0.5)  # as the first pass's second
    assert [(unit["weight"], unit.get("passes")) for unit in units(front, nodes)] == [(0.25, "first"), (1.5, "second"), (0.5, None)]


def test_a_second_pass_of_another_shape(front, hint):
    wide = {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "upscale_method": "bislerp", "width": 192, "height": 192, "crop": "disabled"}}
    nodes = second(between(controlled(hint), "23", "ImageScale", upscale_method="area", width=192, height=192, crop="disabled"), wide)
    assert "own shape" in refusal(front, nodes, "23")[1]
    nodes["3"]["inputs"].update(positive=["6", 0], negative=["7", 0])  # now it is the second's alone
    unit, = units(front, nodes)
    assert unit["resize"] == "stretch" and unit["passes"] == "second"


# ---- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs, kind", [
    ({"strength": 2.01}, "value_bigger_than_max"), ({"strength": -0.1}, "value_smaller_than_min"),
    ({"start_percent": 1.5}, "value_bigger_than_max"), ({"end_percent": -1}, "value_smaller_than_min"),
    ({"start_percent": 0.9}, "custom_validation_failed"), ({"strength": "much"}, "invalid_input_type"),
    ({"image": None}, "required_input_missing"), ({"image": ["21", 1]}, "return_type_mismatch"),
    ({"control_net": ["4", 0]}, "return_type_mismatch"), ({"image": ["8", 0]}, "custom_validation_failed"),
])
def test_inputs_that_are_refused(front, hint, inputs, kind):
    assert refusal(front, controlled(hint, **inputs), "22")[0] == kind


@pytest.mark.parametrize("inputs, kind", [
    ({"low_threshold": 0}, "value_smaller_than_min"), ({"high_threshold": 1}, "value_bigger_than_max"),
    ({"low_threshold": 0.9}, "custom_validation_failed"),
])
def test_thresholds_that_are_refused(front, hint, inputs, kind):
    nodes = between(controlled(hint), "23", "Canny", **{"low_threshold": 0.4, "high_threshold": 0.8, **inputs})
    assert refusal(front, nodes, "23")[0] == kind


def test_one_preprocessor_and_one_scale(front, hint):
    nodes = between(controlled(hint), "23", "Canny", low_threshold=0.4, high_threshold=0.8)
    assert "one Canny or ImageInvert" in refusal(front, between(nodes, "24", "ImageInvert"), "23")[1]
    nodes = controlled(hint)
    for node in ("23", "24"):
        between(nodes, node, "ImageScale", upscale_method="area", width=128, height=64, crop="disabled")
    assert "one ImageScale" in refusal(front, nodes, "23")[1]


def test_preprocessors_are_for_controlnets(front, hint):
    nodes = controlled(hint)
    nodes["23"] = {"class_type": "ImageInvert", "inputs": {"image": ["21", 0]}}
    nodes["24"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["23", 0], "vae": ["4", 2]}}
    nodes["3"]["inputs"]["latent_image"] = ["24", 0]
    assert "in front of a ControlNet" in refusal(front, nodes, "23")[1]


def test_a_picture_that_is_none(front, hint):
    nodes = controlled("0" * 26 + ".png")
    assert refusal(front, nodes, "21") == ("custom_validation_failed", "Invalid image file")


@pytest.mark.parametrize("class_type", ["DiffControlNetLoader", "SetUnionControlNetType", "CannyEdgePreprocessor", "LineArtPreprocessor",
                                        "ACN_AdvancedControlNetApply", "ImageScaleToTotalPixels"])
def test_nodes_that_are_not_known(front, hint, class_type):
    nodes = controlled(hint)
    nodes["40"] = {"class_type": class_type, "inputs": {"image": ["21", 0]}}
    kind, message = refusal(front, nodes, "40")
    assert kind == "custom_validation_failed" and message == "latentd has nothing that does what this class of nodes does"


def test_a_controlnet_that_is_not_here(front, hint):
    nodes = controlled(hint)
    nodes["20"]["inputs"]["control_net_name"] = "depth.safetensors"
    answer = post(front, nodes)
    assert answer.status == 400 and "depth" in answer.json["error"]["details"], answer


def test_pictures_of_others(serve, latentd, tmp_path):
    a, b = (bearer(add(latentd, tmp_path, name)) for name in "ab")
    front = serve()
    names = []
    for key, width in ((a, 64), (b, 72)):
        form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + png(width, 64) + b"\r\n--x--\r\n"
        names.append(front.post("/upload/image", form, headers={"Content-Type": "multipart/form-data; boundary=x", **key}).json["name"])
    assert post(front, controlled(names[0]), headers=a).status == post(front, controlled(names[1]), headers=b).status == 200
    refused = post(front, controlled(names[0]), headers=b)
    assert refused.status == 400 and refused.json["node_errors"]["21"]["errors"][0]["message"] == "Invalid image file"


# ---- What clients look at -------------------------------------------------------------------------


def test_lists(front):
    info = front.get("/object_info").json
    assert info["ControlNetLoader"]["input"]["required"]["control_net_name"] == [["edges.safetensors"], {}]
    assert info["ControlNetApplyAdvanced"]["output"] == ["CONDITIONING", "CONDITIONING"]
    assert info["ControlNetApplyAdvanced"]["input"]["required"]["strength"][1]["max"] == 2
    assert info["ControlNetApplyAdvanced"]["input"]["optional"] == {"vae": ["VAE", {}]}
    assert info["ControlNetApplyAdvanced"]["input_order"]["optional"] == ["vae"]
    assert info["Canny"]["input"]["required"]["low_threshold"][1] == {"default": 0.4, "min": 0.01, "max": 0.99, "step": 0.01}
    assert "DiffControlNetLoader" not in info
    for prefix in ("", "/api"):
        assert "controlnet" in front.get(prefix + "/models").json
        assert front.get(prefix + "/models/controlnet").json == ["edges.safetensors"]


# ---- With the demo model --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(latentd, tmp_path_factory):
    files = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo_model/files"
    front = Front(latentd, tmp_path_factory.mktemp("demo"), None, "--model", str(files / "demo.safetensors"),
                  "--controlnet-dir", str(files / "controlnets"))
    yield front
    assert front.stop() == 0


def drawing(width=64, height=64):
    """A disc on paper."""
    picture = Image.new("RGB", (width, height), (230, 230, 220))
    ImageDraw.Draw(picture).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=(40, 40, 90))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def inline(picture):
    return {"base64": base64.b64encode(picture).decode()}


@pytest.mark.parametrize("fields", [
    {"control": [{"preprocess": "canny", "weight": 0.8}]},
    {"control": [{"preprocess": "canny", "low": 60, "high": 90.5, "start": 0.1, "end": 0.75}, {"preprocess": "invert", "weight": 0.3}]},
    {"control": [{"preprocess": "canny", "resize": "stretch"}], "width": 96},
    {"control": [{"preprocess": "canny"}], "hires": {"scale": 1.5, "strength": 0.5, "steps": 2}},
    {"control": [{"passes": "first", "weight": 0.2}, {"preprocess": "canny", "passes": "second"}, {"weight": 0.3}],
     "hires": {"scale": 1.5, "strength": 0.5, "steps": 2, "prompt": "blue fish", "upscaler": "pixel-lanczos"}},
    {"control": [{"preprocess": "canny", "image": None}], "init": {"strength": 0.7}},
], ids=["one", "two", "stretched", "both passes", "passes", "init's"])
def test_a_pictures_own_graph_paints_its_bytes(demo, fields):
    fields = copy.deepcopy(fields)
    for unit in fields["control"]:
        unit.setdefault("model", "demo-edges")
        if unit.pop("image", True):
            unit["image"] = inline(drawing(80, 64))
    if "init" in fields:
        fields["init"]["image"] = inline(drawing())
    request = {"prompt": "red cat, night sky", "negative_prompt": "snow", "width": 64, "height": 64, "steps": 4, "seed": 7,
               "cfg_scale": 5, "sampler": "euler", "scheduler": "simple", "syntax": "comfy", **fields}
    answer = demo.post("/v1/jobs", request, headers={"Accept": "image/png"})
    assert answer.status == 200, answer
    nodes = json.loads(Image.open(io.BytesIO(answer.body)).text["prompt"])
    wanted = newest(demo)["request"]["control"]
    output = next(n for n, node in nodes.items() if node["class_type"] == "SaveImage")
    entry = finished(demo, nodes)
    assert entry["status"]["status_str"] == "success", entry
    assert len(newest(demo)["request"]["control"]) == len(wanted)
    image = entry["outputs"][output]["images"][0]
    assert demo.get(f"/view?filename={image['filename']}").body == answer.body
    plain = demo.post("/v1/jobs", {**request, "control": []}, headers={"Accept": "image/png"})
    assert plain.body != answer.body
