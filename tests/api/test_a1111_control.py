"""Proves that the ControlNet extension's units in A1111's bodies become the field `control`: each
member as what it means here, the pictures at their places, and a sentence by its place for whatever
cannot be done."""

import base64
import hashlib
import json

import pytest

from test_a1111 import img2img, native, txt2img
from test_images import png

PICTURE = base64.b64encode(png(64, 64)).decode()
USUAL = {"model": "edges", "weight": 1, "start": 0, "end": 1, "mode": "balanced", "preprocess": "none",
         "resize": "crop", "passes": "both"}


def script(*units, title="controlnet"):
    return {title: {"args": list(units)}}


def unit(**members):
    """What a client sends at least; a member of None is absent."""
    return {key: value for key, value in {"model": "edges [00000022]", "image": PICTURE, **members}.items() if value is not None}


def became(front, members, **fields):
    """The unit of the job's request that one with these members became, without its picture."""
    units = native(front, alwayson_scripts=script(unit(**members)), **fields)["control"]
    assert len(units) == 1
    return {key: value for key, value in units[0].items() if key != "image"}


def differs(front, members, **fields):
    """Where it differs from one that says nothing."""
    return {key: value for key, value in became(front, members, **fields).items() if USUAL.get(key) != value}


def digest(picture):
    return hashlib.sha256(picture).hexdigest()


def refusal(answer):
    assert answer.status == 422, answer
    return answer.json["detail"]


def test_a_unit_says_what_it_says_there(front):
    assert became(front, {}) == USUAL
    assert became(front, {"model": "edges.safetensors [00000022]"})["model"] == "edges"
    assert became(front, {"model": "edges"})["model"] == "edges"
    assert differs(front, {
        "enabled": True, "module": "none", "weight": 0.8, "guidance_start": 0.1, "guidance_end": 0.9, "control_mode": 1,
        "resize_mode": 0, "processor_res": 512, "threshold_a": 64, "threshold_b": 64, "lowvram": False, "low_vram": False,
        "pixel_perfect": True, "save_detected_map": False, "hr_option": "Both", "is_ui": False, "input_mode": "simple",
        "batch_images": None, "output_dir": "", "loopback": False, "mask": None, "effective_region_mask": None,
        "advanced_weighting": None, "ipadapter_input": None, "inpaint_crop_input_image": True,
    }) == {"weight": 0.8, "start": 0.1, "end": 0.9, "mode": "prompt", "resize": "stretch"}
    assert differs(front, {"guidance": 0.5}) == {"end": 0.5}


@pytest.mark.parametrize("value, mode", [
    (0, "balanced"), (1, "prompt"), (2, "control"), ("Balanced", "balanced"), ("My prompt is more important", "prompt"),
    ("ControlNet is more important", "control")])
def test_control_mode(front, value, mode):
    assert became(front, {"control_mode": value})["mode"] == mode


@pytest.mark.parametrize("value, resize", [
    (0, "stretch"), (1, "crop"), (2, "pad"), ("Just Resize", "stretch"), ("Crop and Resize", "crop"), ("Resize and Fill", "pad"),
    ("Scale to Fit (Inner Fit)", "crop"), ("Inner Fit (Scale to Fit)", "crop"), ("Envelope (Outer Fit)", "pad"),
    ("Outer Fit (Shrink to Fit)", "pad")])
def test_resize_mode(front, value, resize):
    assert became(front, {"resize_mode": value})["resize"] == resize


@pytest.mark.parametrize("value, passes", [("Both", "both"), ("Low res only", "first"), ("High res only", "second"), (2, "second")])
def test_hr_option_where_there_is_a_second_pass(front, value, passes):
    assert became(front, {"hr_option": value}, enable_hr=True, hr_scale=1.5)["passes"] == passes
    assert became(front, {"hr_option": value})["passes"] == "both"  # it says nothing there either


@pytest.mark.parametrize("members, expected", [
    ({"module": "None"}, {}),
    ({"module": "canny"}, {"preprocess": "canny", "low": 100, "high": 200}),
    ({"module": "canny", "threshold_a": 50, "threshold_b": 150.7}, {"preprocess": "canny", "low": 50, "high": 150}),
    ({"module": "canny", "threshold_a": 180, "threshold_b": 60}, {"preprocess": "canny", "low": 60, "high": 180}),
    ({"module": "canny", "threshold_a": -1, "threshold_b": 90}, {"preprocess": "canny", "low": 90, "high": 100}),
    ({"module": "invert"}, {"preprocess": "invert"}),
    ({"module": "invert (from white bg & black line)"}, {"preprocess": "invert"}),
    ({"module": "lineart_standard (from white bg & black line)"}, {"preprocess": "lineart"}),
    ({"module": "lineart_standard"}, {"preprocess": "lineart"}),
    ({"module": "scribble_xdog", "threshold_a": 20}, {"preprocess": "scribble", "high": 20}),
    ({"module": "scribble_xdog", "threshold_a": -1}, {"preprocess": "scribble", "high": 32}),
    ({"module": "threshold", "threshold_a": 100, "threshold_b": 64}, {"preprocess": "threshold", "high": 100}),
    ({"module": "recolor_luminance"}, {"preprocess": "luminance"}),
    ({"module": "blur_gaussian", "threshold_a": 4.5}, {"preprocess": "blur", "high": 4.5}),
    ({"module": "tile_resample", "threshold_a": 1.05}, {"preprocess": "tile", "high": 1}),
    ({"module": "tile_resample", "threshold_a": 2}, {"preprocess": "tile", "high": 2}),
])
def test_module(front, members, expected):
    assert differs(front, members) == expected


@pytest.mark.parametrize("module", ["inpaint_only", "inpaint", "inpaint_global_harmonious"])
def test_inpainting_has_the_picture_and_the_mask_of_the_body(front, module):
    one = script({"model": "edges", "module": module})
    assert img2img(front, mask=PICTURE, alwayson_scripts=one).status == 200
    (held,) = front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["control"]
    assert held["preprocess"] == "inpaint" and "image" not in held
    assert "needs init with init.mask" in refusal(img2img(front, alwayson_scripts=one))


def test_what_is_done_otherwise_is_told(front):
    def told(**members):
        answer = txt2img(front, alwayson_scripts=script(unit(**members)))
        assert answer.status == 200, answer
        return [warning for warning in answer.json["warnings"] if warning.startswith("ControlNet")]

    assert told() == told(module="none", processor_res=512) == told(module="canny", processor_res=512, pixel_perfect=True) == []
    assert told(module="canny", processor_res=-1, threshold_a=-1) == []
    (warning,) = told(module="canny", processor_res=512)
    assert "processor_res" in warning and "pixel_perfect" in warning
    (warning,) = told(module="tile_resample", threshold_a=64)
    assert "threshold_a 64 is not between 1 and 8; 1 was taken" in warning
    (warning,) = told(module="recolor_luminance")
    assert "BT.601" in warning
    (warning,) = told(guessmode=True)
    assert "guessmode" in warning


@pytest.mark.parametrize("picture", [
    PICTURE, "data:image/png;base64," + PICTURE, {"image": PICTURE}, {"image": PICTURE, "mask": None}, [PICTURE, None],
    [{"image": PICTURE, "mask": ""}]], ids=["bare", "url", "object", "no mask", "pair", "list"])
@pytest.mark.parametrize("name", ["image", "input_image"])
def test_pictures_come_as_they_do_there(front, name, picture):
    members = {"model": "edges", name: picture}
    answer = txt2img(front, alwayson_scripts=script(members), force_task_id="tell_inputs")
    assert answer.status == 200, answer
    assert "control 0: " + digest(png(64, 64)) in answer.json["warnings"]


def test_each_unit_keeps_its_place_and_its_picture(front):
    pictures = [png(16, 8), png(24, 8)]
    first, second = (base64.b64encode(picture).decode() for picture in pictures)
    scripts = script(unit(enabled=False, model="nothing"), unit(image=first), {}, unit(image=second, weight=0.5), None, False)
    answer = txt2img(front, alwayson_scripts=scripts, force_task_id="tell_inputs", controlnet_units=[unit(weight=0.25)])
    assert answer.status == 200, answer
    told = [warning for warning in answer.json["warnings"] if warning.startswith("control ")]
    assert told == [f"control {i}: {digest(picture)}" for i, picture in enumerate([*pictures, png(64, 64)])]
    assert [held["weight"] for held in front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["control"]] == [1, 0.5, 0.25]


@pytest.mark.parametrize("mode, resize", [(0, "stretch"), (1, "crop"), (2, "pad"), (3, "stretch")])
def test_without_a_picture_it_follows_the_bodys_as_that_is_resized(front, mode, resize):
    answer = img2img(front, resize_mode=mode, alwayson_scripts=script({"model": "edges", "resize_mode": 1}), force_task_id="tell_inputs")
    assert answer.status == 200, answer
    assert not [warning for warning in answer.json["warnings"] if warning.startswith("control ")]
    (held,) = front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["control"]
    assert "image" not in held and held["resize"] == resize


@pytest.mark.parametrize("title", ["controlnet", "ControlNet", "CONTROLNET"])
def test_the_title_is_known_in_any_case(front, title):
    assert native(front, alwayson_scripts=script(unit(), title=title))["control"][0]["model"] == "edges"


@pytest.mark.parametrize("quiet", [
    {}, {"args": []}, {"args": [False]}, {"args": [None]}, {"args": [{}]}, {"args": [{"enabled": False, "module": "openpose"}]},
    {"args": [{"enabled": "false"}, {"enabled": 0}]}, {"args": None}])
def test_what_is_off_is_passed_over(front, quiet):
    assert "control" not in native(front, alwayson_scripts={"ControlNet": quiet})


PLACE = "alwayson_scripts/controlnet/args/0/"


@pytest.mark.parametrize("members, sentence", [
    ({"model": None}, PLACE + "model: must name a ControlNet; latentd has no preprocessor that works without one"),
    ({"model": "None", "module": "reference_only"}, PLACE + "model: must name a ControlNet"),
    ({"model": 3}, PLACE + "model: must be a string"),
    ({"module": "reference_only"}, PLACE + "module: latentd has no 'reference_only': there are none, canny, invert,"),
    ({"module": "depth_midas"}, "send the finished picture with module none"),
    ({"module": "lineart"}, PLACE + "module: latentd has no 'lineart'"),  # lineart_realistic, a network
    ({"module": "recolor_luminance", "threshold_a": 1.5}, PLACE + "threshold_a: recolor_luminance has no gamma here"),
    ({"module": "canny", "threshold_a": "many"}, PLACE + "threshold_a: must be a number"),
    ({"weight": "much"}, PLACE + "weight: must be a number"),
    ({"guidance_start": 0.5, "guidance_end": 0.5}, PLACE + "guidance_start: must be below guidance_end"),
    ({"control_mode": 3}, PLACE + 'control_mode: must be 0, 1, 2, "Balanced", "My prompt is more important" or'),
    ({"resize_mode": "Fit"}, PLACE + 'resize_mode: must be 0, 1, 2, "Just Resize", "Crop and Resize" or "Resize and Fill"'),
    ({"hr_option": "None"}, PLACE + 'hr_option: must be 0, 1, 2, "Both", "Low res only" or "High res only"'),
    ({"enabled": "perhaps"}, PLACE + "enabled: must be true or false"),
    ({"pixel_perfect": "perhaps"}, PLACE + "pixel_perfect: must be true or false"),
    ({"image": "https://example.org/a.png"}, PLACE + "image must be the picture itself in base64; no URL is fetched"),
    ({"image": "%%%%"}, PLACE + "image: "),
    ({"image": 7}, PLACE + "image must be a picture in base64"),
    ({"image": {"image": PICTURE, "mask": PICTURE}}, PLACE + "image: latentd has no masks of ControlNet units"),
    ({"image": [PICTURE, PICTURE]}, PLACE + "image: latentd has no masks of ControlNet units"),
    ({"image": [{"image": PICTURE}, {"image": PICTURE}]}, PLACE + "image: must have one picture"),
    ({"mask": PICTURE}, PLACE + "mask: latentd has no masks of ControlNet units"),
    ({"mask_image": PICTURE}, PLACE + "mask_image: latentd has no masks of ControlNet units"),
    ({"effective_region_mask": PICTURE}, PLACE + "effective_region_mask: latentd has no regions"),
    ({"ipadapter_input": ["AAAA"]}, PLACE + "ipadapter_input: latentd has no IP-Adapter"),
    ({"advanced_weighting": [1] * 13}, PLACE + "advanced_weighting: latentd has no weights of single layers"),
    ({"model": "depths [12345678]"}, "depths"),
    ({"weight": 3}, "must be between 0 and 2"),
    ({"image": None}, "image is required where there is no init"),
])
def test_what_cannot_be_done_is_refused_by_its_place(front, members, sentence):
    assert sentence in refusal(txt2img(front, alwayson_scripts=script(unit(**members))))


@pytest.mark.parametrize("fields, sentence", [
    ({"alwayson_scripts": script(*[unit()] * 4)}, "control must have at most 3 items"),
    ({"alwayson_scripts": script(*[unit()] * 3), "controlnet_units": [unit()]}, "control must have at most 3 items"),
    ({"alwayson_scripts": script(7)}, "alwayson_scripts/controlnet/args/0: must be an object"),
    ({"alwayson_scripts": {"controlnet": {"args": unit()}}}, "alwayson_scripts/controlnet/args: must be a list"),
    ({"controlnet_units": "canny"}, "controlnet_units: must be a list"),
    ({"controlnet_units": [{"image": PICTURE}]}, "controlnet_units/0/model: must name a ControlNet"),
])
def test_lists_that_are_none_are_refused(front, fields, sentence):
    assert sentence in refusal(txt2img(front, **fields))


def test_the_echo_has_no_pictures(front):
    scripts = {**script(unit()), "adetailer": {"args": [False]}}
    answer = txt2img(front, alwayson_scripts=scripts, controlnet_units=[unit()])
    assert answer.status == 200, answer
    assert answer.json["parameters"]["alwayson_scripts"] == {"adetailer": {"args": [False]}}
    assert PICTURE not in json.dumps(answer.json["parameters"])
    whole = txt2img(front, alwayson_scripts=scripts, include_init_images=True).json["parameters"]
    assert whole["alwayson_scripts"] == scripts


def test_a_large_picture_fits_into_a_body_of_txt2img(front):
    large = base64.b64encode(png(64, 64) + bytes(700_000)).decode()
    assert len(large) > 3 * 256 * 1024
    assert txt2img(front, alwayson_scripts=script(unit(image=large))).status == 200


def test_models_are_listed_as_a_unit_names_them(front):
    for path in ("model_list", "model_list?update=true", "model_list?update=false"):
        assert front.get("/controlnet/" + path).json == {"model_list": ["edges [22]"]}
    (name,) = front.get("/controlnet/model_list").json["model_list"]
    assert became(front, {"model": name})["model"] == "edges"
    assert front.get("/controlnet/version").json == {"version": 3}
    assert front.get("/controlnet/settings").json == {"control_net_unit_count": 3}


NAMES = ["none", "canny", "invert", "lineart_standard", "scribble_xdog", "threshold", "recolor_luminance", "blur_gaussian",
         "tile_resample", "inpaint_only", "inpaint"]


def test_modules_are_listed_by_name_and_as_in_menus(front):
    answer = front.get("/controlnet/module_list").json
    assert answer["module_list"] == NAMES and list(answer["module_detail"]) == NAMES
    labels = front.get("/controlnet/module_list?alias_names=true").json["module_list"]
    assert len(labels) == len(NAMES) and "invert (from white bg & black line)" in labels and "inpaint_global_harmonious" in labels
    assert answer["module_detail"]["none"] == {"model_free": False, "sliders": []}
    assert answer["module_detail"]["canny"] == {"model_free": False, "sliders": [
        {"name": "Resolution", "value": 512, "min": 64, "max": 2048, "step": 1},
        {"name": "Canny Low Threshold", "value": 100, "min": 0, "max": 255, "step": 1},
        {"name": "Canny High Threshold", "value": 200, "min": 0, "max": 255, "step": 1}]}
    for name in NAMES + labels:
        if not name.startswith("inpaint"):  # those need a mask
            assert became(front, {"module": name})["preprocess"], name


def test_sliders_begin_with_what_a_unit_without_them_takes(front):
    for name, detail in front.get("/controlnet/module_list").json["module_detail"].items():
        usual = [slider["value"] for slider in detail["sliders"][1:]]
        if usual:
            held = became(front, {"module": name})
            assert usual == [held[key] for key in ("low", "high") if key in held], name


def test_types_have_what_is_for_them(front):
    types = front.get("/controlnet/control_types").json["control_types"]
    assert types["All"] == {"module_list": front.get("/controlnet/module_list?alias_names=true").json["module_list"],
                            "model_list": ["None", "edges [22]"], "default_option": "none", "default_model": "None"}
    assert types["Canny"] == {"module_list": ["none", "canny", "invert (from white bg & black line)"],
                              "model_list": ["None", "edges [22]"], "default_option": "canny", "default_model": "edges [22]"}
    assert types["Lineart"]["default_option"] == "lineart_standard (from white bg & black line)"
    assert types["Inpaint"]["default_option"] == "inpaint_only"
    assert types["Tile"]["default_option"] == "tile_resample"
    # No name says so: all are offered, none is taken; and the module would need a network.
    assert types["Depth"] == {"module_list": ["none"], "model_list": ["None", "edges [22]"], "default_option": "none",
                              "default_model": "None"}
    for kind in types.values():
        assert kind["module_list"][0] == "none" and kind["default_option"] in kind["module_list"]


def test_detect_is_refused(front):
    refused = front.post("/controlnet/detect", {"controlnet_module": "canny", "controlnet_input_images": [PICTURE]})
    assert "hands none out" in refusal(refused)


def test_an_infotext_with_units_is_painted_without_them(front):
    """It says how a picture was followed, but not which one."""
    words = ('a cat\nSteps: 3, Sampler: Euler, Seed: 2, ControlNet 0: "Module: canny, Model: edges [00000022], Weight: 0.8, '
             'Resize Mode: Crop and Resize, Guidance Start: 0, Guidance End: 1, Control Mode: Balanced", Version: x')
    answer = front.post("/sdapi/v1/txt2img", {"infotext": words, "width": 64, "height": 64})
    assert answer.status == 200, answer
    held = front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]
    assert held["steps"] == 3 and "control" not in held
    answer = front.post("/sdapi/v1/txt2img", {"infotext": words, "width": 64, "height": 64, "alwayson_scripts": script(unit())})
    assert answer.status == 200, answer


@pytest.mark.parametrize("key, value", [("batch_images", "a folder"), ("loopback", True)])
def test_one_picture_a_unit(front, key, value):
    refused = txt2img(front, alwayson_scripts={"controlnet": {"args": [{"model": "edges", "image": PICTURE, key: value}]}})
    assert refused.status == 422 and f"args/0/{key}" in refused.json["detail"], refused


def test_a_unit_that_an_infotext_only_names_is_told(front):
    words = 'a cat\nSteps: 3, Sampler: Euler, Seed: 2, ControlNet 0: "Module: canny, Model: edges [22]"'
    answer = txt2img(front, infotext=words)
    assert answer.status == 200 and any("ControlNet 0" in each for each in answer.json["warnings"]), answer
