"""Proves that jobs with ControlNets paint what their units say: which picture, how strongly, in which steps and passes, beside which
prompt; that company changes no byte and a replay finds them again; and that what cannot be used is refused in one sentence. One server
on the demo model with ControlNets that nobody trained; each test would fail if its option did nothing."""

import base64
import hashlib
import io
import json
import random
import threading

import pytest
from PIL import Image, ImageDraw

import test_control
from conftest import Server
from test_control import DEMO

SIDE = 64
REQUEST = {"prompt": "red cat, night sky", "negative_prompt": "worst quality", "width": SIDE, "height": SIDE, "steps": 4, "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controlnets")
    for seed, name in ((1, "one"), (2, "two")):
        tensors, metadata = test_control.made_up(seed)
        test_control.write(folder / f"{name}.safetensors", tensors, metadata)
    tensors, metadata = test_control.made_up(1)
    config = json.loads(metadata["latentd.test_config"])
    config["unet"]["num_heads"] *= 2  # the same tensors of another network
    test_control.write(folder / "other.safetensors", tensors, {"latentd.test_config": json.dumps(config)})
    tensors.pop("control_model.zero_convs.3.0.weight")
    test_control.write(folder / "torn.safetensors", tensors, metadata)
    return folder


@pytest.fixture(scope="module")
def server(latentd, folder, tmp_path_factory):
    running = Server(latentd, DEMO, tmp_path_factory.mktemp("control"), "--controlnet-dir", str(folder))
    yield running
    running.stop()


def picture(side=SIDE, seed=1):
    """Coloured squares: nothing in it is the same when turned, mirrored or cut elsewhere."""
    rng = random.Random(seed)
    small = Image.new("RGB", (side // 16, side // 16))
    small.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(small.width * small.height)])
    return small.resize((side, side), Image.NEAREST)


def coded(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return {"base64": base64.b64encode(out.getvalue()).decode()}


def unit(**fields):
    return {"model": "one", "image": coded(picture()), "weight": 0.3, **fields}


def submit(server, *units, **more):
    _, _, body = server.post("/v1/jobs?wait=100", {**REQUEST, **({"control": list(units)} if units else {}), **more}, timeout=150)
    return json.loads(body)


def paint(server, *units, **more):
    """The pixels, as bytes."""
    job = submit(server, *units, **more)
    assert job.get("status") == "succeeded", job
    return Image.open(io.BytesIO(server.get(job["images"][0]["url"])[2])).convert("RGB").tobytes()


def refused(server, *units, **more):
    """(pointer, sentence), whether the front or the worker had it."""
    answer = submit(server, *units, **more)
    error = answer.get("error") or answer
    return json.dumps(error)


def test_a_unit_paints_another_picture_and_one_without_weight_the_same(server):
    plain = paint(server)
    assert paint(server, unit(weight=0)) == plain
    assert paint(server, unit()) != plain
    assert paint(server, unit()) == paint(server, unit())


OPTIONS = [{"weight": 0.6}, {"start": 0.5}, {"end": 0.5}, {"mode": "prompt"}, {"mode": "control"}, {"preprocess": "canny"},
           {"preprocess": "invert"}, {"preprocess": "scribble"}, {"preprocess": "lineart"}, {"preprocess": "luminance"},
           {"preprocess": "threshold"}, {"preprocess": "blur"}, {"preprocess": "tile", "high": 4}, {"model": "two"},
           {"image": coded(picture(seed=2))}, {"image": coded(picture(2 * SIDE).crop((0, 0, SIDE, 2 * SIDE)))}]


def test_every_option_makes_a_picture_of_its_own(server):
    painted = [hashlib.sha256(paint(server, unit(**option))).hexdigest() for option in [{}, *OPTIONS]]
    assert len(set(painted)) == len(painted), painted


def test_the_numbers_of_a_preprocess_count(server):
    for name, low, high in (("canny", 10, 20), ("threshold", None, 40), ("scribble", None, 150), ("blur", None, 3)):
        numbers = {key: value for key, value in (("low", low), ("high", high)) if value is not None}
        photo = {"image": coded(picture().resize((SIDE // 2, SIDE // 2), Image.BILINEAR)), "preprocess": name}
        assert paint(server, unit(**photo)) != paint(server, unit(**photo, **numbers)), name


def test_how_a_picture_is_fitted(server):
    wide = coded(picture(2 * SIDE).crop((0, 0, 2 * SIDE, SIDE)))
    painted = {paint(server, unit(image=wide, resize=resize)) for resize in ("stretch", "crop", "pad")}
    assert len(painted) == 3
    assert paint(server, unit(image=wide)) == paint(server, unit(image=wide, resize="crop"))


@pytest.mark.parametrize("profile", ["comfy", "a1111"])
def test_steps_outside_of_its_range_are_as_without_it(server, profile):
    plain = paint(server, profile=profile)
    assert paint(server, unit(start=0.999, end=1), profile=profile) in (plain, paint(server, unit(start=0.99), profile=profile))
    first, last = (paint(server, unit(**part), profile=profile) for part in ({"end": 0.4}, {"start": 0.6}))
    assert len({plain, first, last, paint(server, unit(), profile=profile)}) == 4


def test_several_units(server):
    one, two = unit(), unit(model="two", image=coded(picture(seed=3)))
    both = paint(server, one, two)
    assert len({both, paint(server, one), paint(server, two), paint(server)}) == 4
    assert paint(server, one, two, unit(weight=0)) == both
    assert paint(server, one, one) != paint(server, one)


def test_which_passes_it_takes_part_in(server):
    hires = {"hires": {"scale": 1.5, "steps": 3, "strength": 0.6}}
    painted = [paint(server, unit(passes=passes), **hires) for passes in ("both", "first", "second")] + [paint(server, **hires)]
    assert len(set(painted)) == 4


def test_the_picture_of_init_stands_in(server):
    init = {"image": coded(picture(seed=4)), "strength": 0.8}
    own = paint(server, unit(image=init["image"]), init=init)
    assert paint(server, {"model": "one", "weight": 0.3}, init=init) == own
    assert own != paint(server, init=init)


def test_of_an_area_alone_the_same_part_of_both_pictures_is_followed(server):
    """A unit's own picture belongs to the whole of init, also where only the mask's surroundings are painted."""
    whole, mask = picture(4 * SIDE, 3), Image.new("RGB", (4 * SIDE, 4 * SIDE))
    ImageDraw.Draw(mask).rectangle((140, 40, 180, 80), fill="white")
    init = {"image": coded(whole), "mask": coded(mask), "area": "masked", "mask_padding": 16, "strength": 1}
    same = {"preprocess": "luminance"}
    follows = paint(server, {"model": "one", "weight": 0.3, **same}, init=init)
    assert paint(server, unit(image=coded(whole), **same), init=init) == follows
    assert paint(server, unit(image=coded(picture(4 * SIDE, 4)), **same), init=init) != follows
    assert paint(server, unit(image=coded(whole.resize((SIDE, SIDE), Image.NEAREST)), **same), init=init) != paint(server, init=init)


def test_an_inpainting_hint_sees_the_mask(server):
    def mask(box):
        image = Image.new("L", (SIDE, SIDE), 0)
        ImageDraw.Draw(image).rectangle(box, fill=255)
        return coded(image)

    init = {"image": coded(picture(seed=4)), "mask": mask((0, 0, SIDE // 2 - 1, SIDE - 1)), "strength": 0.8}
    plain = {"model": "one", "weight": 0.3}
    assert paint(server, {**plain, "preprocess": "inpaint"}, init=init) != paint(server, plain, init=init)
    assert "/control/0/preprocess" in refused(server, unit(preprocess="inpaint"))


def test_the_prompts_side_of_a_mode(server):
    """With mode control the negative prompt's rows have no ControlNet: then both modes differ by guidance alone."""
    assert paint(server, unit(mode="prompt"), cfg_scale=1) == paint(server, unit(mode="control"), cfg_scale=1)
    assert paint(server, unit(mode="prompt"), cfg_scale=5) != paint(server, unit(mode="control"), cfg_scale=5)


@pytest.mark.parametrize("more", [
    {"deep_shrink": True}, {"guidance": {"pag": 2}}, {"guidance": {"sag": 0.7}}, {"guidance": {"freeu": True}}, {"smea": "on"},
    {"sampler": "dpmpp_2m_sde"}, {"prompt": "red cat AND blue sky"}, {"guidance": {"perp_neg": 1}}], ids=str)
def test_it_goes_with_everything_else(server, more):
    assert paint(server, unit(), **more) != paint(server, **more)
    assert paint(server, unit(), **more) == paint(server, unit(), **more)


def test_company_changes_no_byte(server):
    """Jobs with one unit, with another, with two and with none, at once and alone."""
    asked = [(unit(),), (unit(image=coded(picture(seed=7))),), (unit(model="two"),), (unit(), unit(model="two")), (), (unit(end=0.5),)]
    alone = [paint(server, *units, seed=50 + i, steps=6) for i, units in enumerate(asked)]
    together = [None] * len(asked)

    def one(i):
        together[i] = paint(server, *asked[i], seed=50 + i, steps=6)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert together == alone


def test_what_cannot_be_used_is_said(server):
    assert "did you mean two" in refused(server, unit(model="tow")) and "/control/0/model" in refused(server, unit(model="tow"))
    other = refused(server, unit(), unit(model="other"))
    assert "'other' was made for UNets of other widths" in other
    torn = refused(server, unit(model="torn"))
    assert "zero_convs.3.0.weight" in torn
    assert "/control/0/image" in refused(server, {"model": "one"})
    broken = base64.b64encode(b"\x89PNG\r\n\x1a\nno picture").decode()
    assert "/control/0/image" in refused(server, unit(image={"base64": broken}))
    assert paint(server) == paint(server)  # and it still paints


@pytest.fixture
def generate(latentd, folder, tmp_path):
    import subprocess

    def run(*flags, check=True):
        done = subprocess.run([latentd, "generate", "--model", str(DEMO), "--controlnet-dir", str(folder), *flags],
                              capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


def test_the_command_line_paints_the_same_and_a_replay_finds_it_again(server, generate, tmp_path):
    picture().save(tmp_path / "one.png")
    flags = ("--prompt", REQUEST["prompt"], "--negative-prompt", REQUEST["negative_prompt"], "--size", f"{SIDE}x{SIDE}", "--steps", "4",
             "--seed", "5", "--control", "one:0.3", "--control-image", "one.png")
    generate(*flags, "-o", "first.png")
    assert Image.open(tmp_path / "first.png").convert("RGB").tobytes() == paint(server, unit())
    said = json.loads(Image.open(tmp_path / "first.png").text["latentd"])
    assert said["controlnets"] == [{"name": "one", "sha256": hashlib.sha256(
        next(p for p in folder_of(server) if p.stem == "one").read_bytes()).hexdigest()}]
    again = generate("--replay", "first.png", "--control-image", "one.png", "-o", "again.png")
    assert "bit-identical" in again.stderr
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    missing = generate("--replay", "first.png", "-o", "never.png", check=False)
    assert missing.returncode == 1 and "--control-image FILE" in missing.stderr


def folder_of(server):
    import pathlib
    words = pathlib.Path(f"/proc/{server.process.pid}/cmdline").read_bytes().split(b"\0")
    return list(pathlib.Path(words[words.index(b"--controlnet-dir") + 1].decode()).glob("*.safetensors"))
