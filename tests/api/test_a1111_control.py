"""Proves that units of A1111's ControlNet extension become the field `control` as the extension
means them, that what latentd has not is refused with the unit's place, and that its lists are told.
The fields are those of the extension's page "API"."""

import base64

import pytest
from test_a1111 import img2img, native, newest, txt2img
from test_control_pictures import digest, told
from test_images import png

PICTURE = png(16, 8)
TEXT = base64.b64encode(PICTURE).decode()


def units(*given):
    return {"controlnet": {"args": list(given)}}


def unit(**fields):
    return {"enabled": True, "model": "edges [22]", "image": TEXT, **fields}


def control(front, *given, **fields):
    """The units of the native request."""
    return native(front, alwayson_scripts=units(*given), **fields)["control"]


def test_a_unit_as_clients_send_it(front):
    """Every field of the extension's page; the picture reaches the worker."""
    answer = txt2img(front, force_task_id="tell_inputs", alwayson_scripts=units({
        "enabled": True, "module": "canny", "model": "edges [22]", "weight": 0.7, "image": TEXT, "mask": None, "resize_mode": 1,
        "lowvram": False, "processor_res": 512, "threshold_a": 80, "threshold_b": 160, "guidance_start": 0.1, "guidance_end": 0.9,
        "control_mode": 0, "pixel_perfect": True, "save_detected_map": False, "hr_option": "Both", "ipadapter_input": None,
        "advanced_weighting": None, "effective_region_mask": None, "pulid_mode": "Fidelity", "batch_images": ""}))
    assert answer.status == 200, answer
    assert not [each for each in answer.json["warnings"] if "unit" in each]
    job = newest(front)
    said = job["request"]["control"][0]
    assert said == {**said, "model": "edges", "preprocess": "canny", "low": 80, "high": 160, "weight": 0.7, "start": 0.1, "end": 0.9}
    assert job["request"]["profile"] == "a1111" and said["image"] == {"id": digest(PICTURE)[:26]}
    assert told(job) == {"control 0": digest(PICTURE)}


@pytest.mark.parametrize("fields, meant", [
    ({"control_mode": 1}, {"mode": "prompt"}), ({"control_mode": "ControlNet is more important"}, {"mode": "control"}),
    ({"control_mode": "My prompt is more important"}, {"mode": "prompt"}), ({"control_mode": "balanced"}, {"mode": "balanced"}),
    ({"resize_mode": 0}, {"resize": "stretch"}), ({"resize_mode": "Resize and Fill"}, {"resize": "pad"}),
    ({"resize_mode": "Just Resize"}, {"resize": "stretch"}), ({"resize_mode": "Scale to Fit (Inner Fit)"}, {"resize": "crop"}),
    ({"resize_mode": "Envelope (Outer Fit)"}, {"resize": "pad"}), ({}, {"resize": "crop", "mode": "balanced", "weight": 1}),
    ({"guidance": 0.5}, {"end": 0.5}), ({"weight": "0.5"}, {"weight": 0.5}),
    ({"module": "invert (from white bg & black line)"}, {"preprocess": "invert"}),
    ({"module": "lineart_standard (from white bg & black line)"}, {"preprocess": "lineart"}),
    ({"module": "scribble_xdog", "threshold_a": 20}, {"preprocess": "scribble", "high": 20}),
    ({"module": "threshold", "threshold_a": 90}, {"preprocess": "threshold", "high": 90}),
    ({"module": "tile_resample", "threshold_a": 4}, {"preprocess": "tile", "high": 4}),
    ({"module": "blur_gaussian", "threshold_a": 2.5}, {"preprocess": "blur", "high": 2.5}),
    ({"module": "Canny"}, {"preprocess": "canny"}), ({"module": "none"}, {"preprocess": "none"}),
    ({"model": "edges"}, {"model": "edges"}), ({"model": "edges.safetensors [22]"}, {"model": "edges"}),
])
def test_what_each_field_means(front, fields, meant):
    said = control(front, unit(**fields))[0]
    defaults = {"mode": "balanced", "preprocess": "none", "resize": "crop", "weight": 1, "end": 1}
    assert {key: said.get(key, defaults.get(key)) for key in meant} == meant


def test_thresholds_out_of_the_sliders_are_the_usual_ones(front):
    for value in (-1, 100000):
        said = control(front, unit(module="canny", threshold_a=value, threshold_b=value))[0]
        assert "low" not in said and "high" not in said
    assert "high" not in control(front, unit(module="invert", threshold_a=3))[0]


def test_pictures_in_every_form(front):
    for form in (TEXT, "data:image/png;base64," + TEXT, {"image": TEXT}, {"image": TEXT, "mask": None}, [TEXT], [TEXT, None],
                 [{"image": TEXT}]):
        assert control(front, unit(image=form))[0]["image"] == {"id": digest(PICTURE)[:26]}, form
    old = {key: value for key, value in unit(input_image=TEXT).items() if key != "image"}
    assert control(front, old)[0]["image"] == {"id": digest(PICTURE)[:26]}


def test_without_a_picture_the_units_follow_that_of_img2img(front):
    bare = {"enabled": True, "model": "edges [22]", "module": "canny"}
    assert img2img(front, alwayson_scripts=units(bare)).status == 200
    assert "image" not in newest(front)["request"]["control"][0]
    refused = txt2img(front, alwayson_scripts=units(bare))
    assert refused.status == 422 and "image" in refused.json["detail"], refused


def test_several_units_each_with_its_own_picture(front):
    pictures = [png(16 + 8 * i, 8) for i in range(3)]
    sent = [unit(image=base64.b64encode(picture).decode(), weight=0.5 + i / 4) for i, picture in enumerate(pictures)]
    off = {"enabled": False, "model": "none such", "image": "no picture"}
    assert txt2img(front, force_task_id="tell_inputs", alwayson_scripts=units(sent[0], off, {}, sent[1], sent[2])).status == 200
    job = newest(front)
    assert [each.get("weight", 1) for each in job["request"]["control"]] == [0.5, 0.75, 1]
    assert told(job) == {f"control {i}": digest(picture) for i, picture in enumerate(pictures)}
    refused = txt2img(front, alwayson_scripts=units(*[unit()] * 4))
    assert refused.status == 422 and "at most 3" in refused.json["detail"]


def test_passes_where_there_is_a_second_one(front):
    assert control(front, unit(hr_option="High res only"), enable_hr=True)[0]["passes"] == "second"
    assert control(front, unit(hr_option=1), enable_hr=True)[0]["passes"] == "first"
    assert control(front, unit(hr_option="High res only"))[0].get("passes", "both") == "both"


def test_scripts_are_found_whatever_their_case_and_where_they_once_were(front):
    for scripts in ({"ControlNet": {"args": [unit()]}}, {"CONTROLNET": {"args": [unit()]}}):
        assert len(native(front, alwayson_scripts=scripts)["control"]) == 1
    assert len(native(front, controlnet_units=[unit(), {"enabled": False}])["control"]) == 1
    assert "control" not in native(front, alwayson_scripts=units({"enabled": False, "image": TEXT}))
    refused = txt2img(front, controlnet_units={"model": "edges"})
    assert refused.status == 422 and "controlnet_units" in refused.json["detail"]


@pytest.mark.parametrize("fields, words", [
    ({"module": "depth_midas"}, ("module", "canny", "none")), ({"module": "reference_only", "model": "None"}, ("module", "model")),
    ({"model": "None"}, ("model", "/controlnet/model_list")), ({"model": ""}, ("model",)), ({"model": "absent"}, ("absent",)),
    ({"mask": TEXT}, ("mask",)), ({"mask_image": TEXT}, ("mask",)), ({"image": {"image": TEXT, "mask": TEXT}}, ("mask",)),
    ({"image": [TEXT, TEXT]}, ("mask",)), ({"image": [TEXT, TEXT, TEXT]}, ("one picture",)), ({"image": "not base64!"}, ("image",)),
    ({"image": "https://example.com/a.png"}, ("no URL",)), ({"image": 5}, ("image",)), ({"weight": 3}, ("weight", "2")),
    ({"weight": "much"}, ("weight", "number")), ({"control_mode": 7}, ("control_mode",)), ({"resize_mode": "Sideways"}, ("resize_mode",)),
    ({"effective_region_mask": TEXT}, ("effective_region_mask",)), ({"ipadapter_input": TEXT}, ("IP-Adapter",)),
    ({"advanced_weighting": [1] * 13}, ("weight",)), ({"guidance_start": 0.8, "guidance_end": 0.2}, ("start", "end")),
])
def test_what_is_refused_and_how(front, fields, words):
    refused = txt2img(front, alwayson_scripts=units(unit(**fields)))
    assert refused.status == 422, refused
    assert all(word in refused.json["detail"] for word in words), refused.json["detail"]


def test_of_what_it_does_not_know_it_warns(front):
    answer = txt2img(front, alwayson_scripts=units(unit(colour_of_the_sky=1)))
    assert answer.status == 200 and "colour_of_the_sky" in answer.json["warnings"][0]


def test_a_unit_is_named_by_its_place(front):
    refused = txt2img(front, alwayson_scripts=units({"enabled": False}, unit(module="depth_midas")))
    assert "unit 1" in refused.json["detail"]


def test_its_lists(front):
    assert front.get("/controlnet/model_list?update=true").json == {"model_list": ["edges [22]"]}
    assert front.get("/controlnet/version").json == {"version": 3}
    assert front.get("/controlnet/settings").json == {"control_net_unit_count": 3}
    modules = front.get("/controlnet/module_list?alias_names=1").json
    assert modules["module_list"][:2] == ["none", "canny"] and set(modules["module_detail"]) == set(modules["module_list"])
    assert modules["module_detail"]["canny"]["sliders"] == [
        None, {"name": "Low Threshold", "value": 100, "min": 1, "max": 255, "step": 1},
        {"name": "High Threshold", "value": 200, "min": 1, "max": 255, "step": 1}]
    types = front.get("/controlnet/control_types").json["control_types"]
    assert types["All"]["model_list"] == ["None", "edges [22]"] and types["All"]["module_list"] == modules["module_list"]
    assert types["Canny"] == {"module_list": ["none", "canny"], "model_list": ["None", "edges [22]"],
                              "default_option": "canny", "default_model": "edges [22]"}
    assert types["Depth"] == {"module_list": ["none"], "model_list": ["None"], "default_option": "none", "default_model": "None"}
    assert front.post("/controlnet/detect", {"controlnet_module": "canny"}).status == 422


def test_every_preprocessor_that_is_told_is_taken(front):
    for name in front.get("/controlnet/module_list").json["module_list"]:
        answer = img2img(front, mask=TEXT, alwayson_scripts=units(unit(module=name)))
        assert answer.status == 200, (name, answer)


def test_the_echo_has_no_pictures(front):
    """A1111 sends the request back; what it weighs is the pictures."""
    both = {"alwayson_scripts": {**units(unit()), "Kohya HRFix Integrated": {"args": [False]}}}
    echo = txt2img(front, **both).json["parameters"]
    assert echo["alwayson_scripts"] == {"Kohya HRFix Integrated": {"args": [False]}}
    assert "controlnet_units" not in txt2img(front, controlnet_units=[unit()]).json["parameters"]
    whole = txt2img(front, include_init_images=True, **both).json["parameters"]
    assert whole["alwayson_scripts"] == both["alwayson_scripts"]
