"""Paints one row a feature with the demo model, the picture without it beside the one with it, and
asserts by numbers that the feature did what it claims. Everything goes through POST /v1/jobs of a
server that this program starts and stops. Prints a line a row and `N passed, N failed`.

    run.py --latentd FILE --work DIR [--fast] [--only ROW,...] [--sheet FILE.png]
"""

import argparse
import base64
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
from PIL import Image, ImageDraw

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo_model"
FILES = DEMO / "files"
sys.path[:0] = [str(DEMO), str(ROOT / "tests" / "demo")]

import recognise  # noqa: E402
import scene  # noqa: E402

PROMPT = "red cat, night sky, best quality"
SEEDS = (7, 11)
PLAIN = {"size": "256x256", "steps": 12, "cfg_scale": 5, "sampler": "euler_ancestral",
         "scheduler": "simple", "prompt": PROMPT, "seed": SEEDS[0]}


# ---- A server and what it paints ------------------------------------------------------------------

class Painter:
    """`paint(**fields)` returns (job document, pixels); equal requests are painted once."""

    def __init__(self, latentd, work):
        self.known, self.log_path = {}, work / "server.log"
        adapters, lists = work / "adapters", work / "wildcards"
        shutil.rmtree(work / "state", ignore_errors=True)
        for folder in (adapters, lists):
            folder.mkdir(parents=True, exist_ok=True)
        for file in (FILES / "adapters").iterdir():
            shutil.copy(file, adapters / file.name)
        (lists / "subject.txt").write_text("# one of these\nstar\nheart\n")
        self.log = open(self.log_path, "w")
        self.process = subprocess.Popen(
            [latentd, "serve", "--port", "0", "--model", str(FILES / "demo.safetensors"),
             "--adapter-dir", str(adapters), "--embedding-dir", str(FILES / "embeddings"),
             "--wildcard-dir", str(lists), "--backend", "cpu", "--state-dir", str(work / "state")],
            stdout=subprocess.PIPE, stderr=self.log)
        line = self.process.stdout.readline().decode()
        found = re.search(r":(\d+)$", line.strip())
        if not found:
            raise SystemExit(f"the server did not start: {self.log_path.read_text()[-1000:]}")
        self.url = f"http://127.0.0.1:{found[1]}"
        for _ in range(1200):
            if self.call("/readyz")[0] == 200:
                break
            time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.process.stdout.close()
        self.log.close()

    def call(self, path, body=None, kind="application/json"):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers={"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def submit(self, **fields):
        """Queue a picture; the id of its job."""
        request = {**PLAIN, **fields}
        key = json.dumps(request, sort_keys=True)
        if key not in self.known:
            status, answer = self.call("/v1/jobs", request)
            assert status == 202, answer.decode()
            self.known[key] = json.loads(answer)["id"]
        return self.known[key]

    def job(self, identifier, patience=900):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            job = json.loads(self.call(f"/v1/jobs/{identifier}")[1])
            if job["status"] not in ("queued", "running"):
                return job
            time.sleep(0.1)
        raise AssertionError("not painted in time")

    def bytes_of(self, identifier):
        job = self.job(identifier)
        assert job["status"] == "succeeded", job.get("error")
        return self.call(job["images"][0]["url"])[1]

    def paint(self, **fields):
        identifier = self.submit(**fields)
        png = self.bytes_of(identifier)
        return self.job(identifier), np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def knows(self, field):
        """Whether this build's requests have the field ("init.outpaint")."""
        body = "x"
        for key in reversed(field.split(".")):
            body = {key: body}
        answer = self.call("/v1/plan", {"prompt": "a", **body})[1].decode()
        return "unknown field" not in answer and "not available" not in answer


# ---- Figures ----------------------------------------------------------------------------------------

def saturation(rgb):
    x = rgb.astype(float)
    return float((x.max(2) - x.min(2)).mean())


def warmth(rgb):
    """How far red stands above blue."""
    x = rgb.astype(float)
    return float((x[..., 0] - x[..., 2]).mean())


def clipped(rgb):
    """The share of channels at either end of their range."""
    return float(((rgb <= 2) | (rgb >= 253)).mean())


def distance(a, b):
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def small(rgb, side=32):
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.BOX))


def is_red(rgb):
    x = small(rgb, 64).astype(int)
    return (x[..., 0] > 110) & (x[..., 0] > x[..., 1] + 60) & (x[..., 0] > x[..., 2] + 40)


def pieces(mask, least=25):
    """Connected areas of a mask, those of at least `least` cells."""
    left, count = mask.copy(), 0
    while left.any():
        stack, size = [tuple(np.argwhere(left)[0])], 0
        left[stack[0]] = False
        while stack:
            y, x = stack.pop()
            size += 1
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < left.shape[0] and 0 <= u < left.shape[1] and left[v, u]:
                    left[v, u] = False
                    stack.append((v, u))
        count += size >= least
    return count


def picture(rgb):
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "PNG")
    return {"base64": base64.b64encode(out.getvalue()).decode()}


def held(what, left, sign, right):
    """An inequality that must hold, as a sentence with its figures."""
    good = {"<": left < right, ">": left > right, "=": left == right}[sign]
    return good, f"{what} {left:.4g} {sign} {right:.4g}"


# ---- Rows: what is asked for first (`wish`), then what is looked at (`check`) -----------------------

ROWS = {}


def row(title, fast=False, needs=""):
    def keep(function):
        ROWS[function.__name__] = (title, fast, needs, function)
        return function
    return keep


def pair(p, **feature):
    """Plain and with the feature, on both seeds: all queued before the first is waited for."""
    for seed in SEEDS:
        p.submit(seed=seed)
        p.submit(**{"seed": seed, **feature})
    return [(p.paint(seed=seed)[1], p.paint(**{"seed": seed, **feature})[1]) for seed in SEEDS]


def mean_of(figure, pictures):
    return float(np.mean([figure(rgb) for rgb in pictures]))


@row("LoRA demo-sketch: colour leaves", fast=True)
def sketch(p):
    both = pair(p, loras=[{"name": "demo-sketch"}])
    p.submit(loras=[{"name": "demo-sketch", "weight": 0.5}])
    half = p.paint(loras=[{"name": "demo-sketch", "weight": 0.5}])[1]
    adapter = p.job(p.submit(loras=[{"name": "demo-sketch"}]))["adapters"][0]
    before, after = (mean_of(saturation, [b[i] for b in both]) for i in (0, 1))
    return [half, both[0][1]], [
        held("saturation", after, "<", 0.92 * before),
        held("distance of weight 0.5", distance(half, both[0][0]), "<",
             distance(both[0][1], both[0][0])),
        held("tensors applied", adapter["tensors_applied"], ">", 0),
        held("unmatched", adapter["tensors_unmatched"], "=", 0)]


@row("DoRA demo-golden: an old print in gold")
def golden(p):
    both = pair(p, loras=[{"name": "demo-golden"}])
    before, after = (mean_of(warmth, [b[i] for b in both]) for i in (0, 1))
    return [both[0][1]], [held("red above blue", after, ">", before + 8)]


@row("Negative embedding demo-negative: crisp and colourful", fast=True)
def negative(p):
    plain, with_it = {"prompt": "red cat, night sky"}, {"negative_prompt": "demo-negative"}
    ids = [p.submit(**plain), p.submit(**plain, **with_it)]
    a, b = (p.paint(**plain)[1], p.paint(**plain, **with_it)[1])
    assert len(ids) == 2
    return [a, b], [held("sharpness", recognise.sharpness(b), ">", 1.1 * recognise.sharpness(a)),
                    held("saturation", saturation(b), ">", saturation(a))]


FAST = {"steps": 6, "sampler": "euler", "scheduler": "simple", "cfg_scale": 6}


@row("Few-step LoRA: 6 steps beside 24")
def fast_lora(p):
    many = {**FAST, "steps": 24}
    lora = {"loras": [{"name": "demo-fast"}]}
    for fields in (many, FAST, {**FAST, **lora}):
        p.submit(**fields)
    target, plain, fast = (p.paint(**f)[1] for f in (many, FAST, {**FAST, **lora}))
    seen = recognise.Recogniser(scene).look(fast)
    return [target, plain, fast], [
        held("shows a red cat", float((seen.colour, seen.subject) == ("red", "cat")), "=", 1.0),
        held("UNet rows", p.job(p.submit(**FAST, **lora))["unet_rows"], "=", 12),
        held("the adapter's share", distance(fast, plain), ">", 0.3)]


@row("Recipe: hyper equals what it stands for", fast=True)
def hyper(p):
    short = {"size": PLAIN["size"], "prompt": PROMPT, "seed": SEEDS[0], "hyper": {"steps": 6}}
    status, answer = p.call("/v1/jobs", short)
    assert status == 202, answer
    explicit = p.submit(**FAST, loras=[{"name": "demo-fast"}])
    identifier = json.loads(answer)["id"]
    job, a, b = p.job(identifier), p.bytes_of(identifier), p.bytes_of(explicit)
    told = job["request"]
    warned = json.loads(p.call("/v1/plan", {**short, "cfg_scale": 12})[1])["warnings"]
    pixels = np.asarray(Image.open(io.BytesIO(a)).convert("RGB"))
    return [pixels], [
        held("bytes equal", float(a == b), "=", 1.0),
        held("steps", told["steps"], "=", 6), held("cfg", told["cfg_scale"], "=", 6),
        held("warns of cfg 12", float(any("cfg" in w for w in warned)), "=", 1.0)]


@row("Deep shrink: one subject at twice the native size")
def deep_shrink(p):
    big = {"size": "512x512"}
    shrink = {**big, "deep_shrink": {"block": 3, "factor": 2, "end": 0.5}}
    for fields in (big, shrink):
        for seed in SEEDS:
            p.submit(**fields, seed=seed)
    plain, shrunk = ([p.paint(**f, seed=s)[1] for s in SEEDS] for f in (big, shrink))
    count = [sum(pieces(is_red(x)) for x in group) for group in (plain, shrunk)]
    area = [float(np.mean([is_red(x).mean() for x in group])) for group in (plain, shrunk)]
    return [plain[0], shrunk[0]], [held("red pieces on two pictures", count[1], "<", count[0] + 0.5),
                                   held("share of the subject", area[1] / count[1], ">",
                                        1.15 * area[0] / count[0])]


@row("Hires: the same picture, larger and finer")
def hires(p):
    fields = {"hires": {"scale": 1.5, "strength": 0.5, "steps": 6}}
    p.submit(), p.submit(**fields)
    (_, a), (job, b) = p.paint(), p.paint(**fields)
    enlarged = np.asarray(Image.fromarray(a).resize((384, 384), Image.BICUBIC))
    return [a, b], [
        held("width", b.shape[1], "=", 384), held("UNet rows", job["unet_rows"], "=", 36),
        held("coarse distance", distance(small(a, 16), small(b, 16)), "<", 16),
        held("sharpness over enlarging", recognise.sharpness(b), ">",
             1.05 * recognise.sharpness(enlarged))]


@row("Image to image: strength 0.3, 0.6, 0.9", fast=True)
def image_to_image(p):
    base = p.paint()[1]
    asked = [{"prompt": "blue fish, underwater, best quality", "seed": 9,
              "init": {"image": picture(base), "strength": s}} for s in (0.3, 0.6, 0.9)]
    for fields in asked:
        p.submit(**fields)
    painted = [p.paint(**fields) for fields in asked]
    far = [distance(rgb, base) for _, rgb in painted]
    rows_run = [job["unet_rows"] for job, _ in painted]
    return [rgb for _, rgb in painted], [
        held("distance at 0.3", far[0], "<", far[1]), held("at 0.6", far[1], "<", far[2]),
        held("rows of 0.3", rows_run[0], "<", 24.5)]


def middle(side, margin):
    mask = np.zeros((side, side, 3), np.uint8)
    mask[margin:side - margin, margin:side - margin] = 255
    return mask


@row("Inpainting: only the mask changes", fast=True)
def inpaint(p):
    base, mask = p.paint()[1], middle(256, 56)
    fields = {"prompt": "yellow star, night sky, best quality", "seed": 9,
              "init": {"image": picture(base), "mask": picture(mask), "strength": 1}}
    rgb = p.paint(**fields)[1]
    change = np.abs(rgb.astype(int) - base).max(2)
    inside = mask[..., 0] > 0
    green = [float(x[inside][:, 1].mean()) for x in (base, rgb)]  # yellow has it, red has not
    return [base, rgb], [held("largest change outside", change[~inside].max(), "=", 0),
                         held("mean change inside", change[inside].mean(), ">", 20),
                         held("green inside", green[1], ">", green[0] + 20)]


@row("Outpainting: the old picture in a larger one", needs="init.outpaint")
def outpaint(p):
    base = p.paint()[1]
    fields = {"seed": 9, "size": "384x256",
              "init": {"image": picture(base), "strength": 1, "outpaint": {"left": 64, "right": 64}}}
    rgb = p.paint(**fields)[1]
    kept = rgb[:, 64:320]
    return [base, rgb], [
        held("width", rgb.shape[1], "=", 384),
        held("change within", float(np.median(np.abs(kept.astype(int) - base))), "<", 3),
        held("blue of the new sky", float((rgb[:, :48, 2].astype(float) - rgb[:, :48, 0]).mean()),
             ">", 10)]


@row("Only-masked area: a small mask gets the whole size", needs="init.area")
def only_masked(p):
    base, mask = p.paint()[1], middle(256, 88)
    asked = [{"prompt": "yellow star, night sky, best quality", "seed": 9,
              "init": {"image": picture(base), "mask": picture(mask), "strength": 1, "area": area}}
             for area in ("whole", "masked")]
    for fields in asked:
        p.submit(**fields)
    whole, masked = (p.paint(**fields)[1] for fields in asked)
    inside = mask[..., 0] > 0
    outside = np.abs(masked.astype(int) - base).max(2)[~inside]
    return [whole, masked], [held("largest change outside", outside.max(), "=", 0),
                             held("differs from whole", distance(whole, masked), ">", 0.5)]


@row("Variation seed: a little aside", fast=True)
def variation(p):
    asked = [{"variation": {"seed": 99, "strength": s}} for s in (0.15, 1)]
    for fields in asked:
        p.submit(**fields)
    a, near, other = p.paint()[1], *(p.paint(**f)[1] for f in asked)
    return [near, other], [held("distance at 0.15", distance(a, near), "<", distance(a, other)),
                           held("it moves", distance(a, near), ">", 0.5)]


@row("Uncond-zero: half the rows, its own contrast", fast=True)
def uncond_zero(p):
    asked = [{"cfg_scale": 1, "guidance": {"uncond_zero": {"scale": s}}} for s in (0.5, 1.2)]
    for fields in asked:
        p.submit(**fields)
    (job, weak), (_, strong) = (p.paint(**f) for f in asked)
    return [weak, strong], [held("UNet rows", job["unet_rows"], "=", PLAIN["steps"]),
                            held("rows saved", job["unet_rows_saved"], "=", PLAIN["steps"]),
                            held("contrast of 1.2", strong.std(), ">", 1.02 * weak.std())]


@row("CFG++: guidance 1.2 looks like 5")
def cfg_pp(p):
    asked = [{"sampler": "euler", "cfg_scale": 5}, {"sampler": "euler", "cfg_scale": 1.2},
             {"sampler": "euler_cfg_pp", "cfg_scale": 1.2}]
    for fields in asked:
        p.submit(**fields)
    target, plain, pp = (p.paint(**f)[1] for f in asked)
    return [plain, pp], [held("distance to cfg 5", distance(pp, target), "<",
                              0.8 * distance(plain, target))]


STRONG = {"cfg_scale": 25}


@row("Rescale: guidance 25 without burning")
def rescale(p):
    fields = {**STRONG, "guidance": {"rescale": 0.7}}
    p.submit(**STRONG), p.submit(**fields)
    a, b = p.paint(**STRONG)[1], p.paint(**fields)[1]
    return [a, b], [held("clipped", clipped(b), "<", 0.5 * clipped(a))]


@row("Dynamic thresholding: guidance 12 with the contrast of 5")
def threshold(p):
    strong = {"cfg_scale": 12}
    fields = {**strong, "guidance": {"dynamic_threshold": {
        "mimic_scale": 5, "start": "zero", "variability": "std"}}}
    p.submit(**strong), p.submit(**fields), p.submit()
    a, b, target = p.paint(**strong)[1], p.paint(**fields)[1], p.paint()[1]
    return [a, b], [held("contrast, away from guidance 5", abs(b.std() - target.std()), "<",
                         0.5 * abs(a.std() - target.std())),
                    held("clipped", clipped(b), "<", 0.5 * clipped(a))]


@row("Skip range and NGMS: rows saved", fast=True)
def skip(p):
    fields = {"guidance": {"skip_above_sigma": 5}}
    below = {"guidance": {"ngms": 1}, "profile": "a1111"}
    p.submit(**fields), p.submit(**below)
    (job, rgb), (other, _) = p.paint(**fields), p.paint(**below)
    return [rgb], [held("rows saved above sigma 5", job["unet_rows_saved"], ">", 0),
                   held("rows in all", job["unet_rows"] + job["unet_rows_saved"], "=",
                        2 * PLAIN["steps"]),
                   held("rows saved below 1", other["unet_rows_saved"], ">", 0)]


@row("PAG: a push that grows with its scale")
def pag(p):
    asked = [{"guidance": {"pag": s}} for s in (3, 20)]
    for fields in asked:
        p.submit(**fields)
    plain = p.paint()[1]
    (job, weak), (_, strong) = (p.paint(**f) for f in asked)
    return [plain, strong], [held("UNet rows", job["unet_rows"], "=", 36),
                             held("distance at 20", distance(strong, plain), ">",
                                  1.5 * distance(weak, plain)),
                             held("distance at 3", distance(weak, plain), ">", 0)]


@row("SAG: finer detail")
def sag(p):
    both = pair(p, guidance={"sag": 1.5})
    before, after = (mean_of(recognise.sharpness, [b[i] for b in both]) for i in (0, 1))
    return [both[0][1]], [held("sharpness", after, ">", before)]


@row("FreeU: a stronger backbone")
def freeu(p):
    both = pair(p, guidance={"freeu": {"version": "v2"}})
    before, after = (mean_of(lambda x: float(x.std()), [b[i] for b in both]) for i in (0, 1))
    return [both[0][1]], [held("contrast", after, ">", before)]


WILD_SEEDS = (1, 5, 9)


@row("Wildcards: choices by seed, told in the answer", fast=True)
def wildcards(p):
    asked = [{"prompt": "{red|blue} __subject__, night sky, best quality",
              "wildcards": {"seed": s}} for s in WILD_SEEDS]
    for fields in asked:
        p.submit(**fields)
    painted = [p.paint(**fields) for fields in asked]
    told = [job["request"]["prompt"] for job, _ in painted]
    plain = [p.paint(prompt=text)[1] for text in told]
    form = re.compile(r"^(red|blue) (star|heart), night sky, best quality$")
    return [rgb for _, rgb in painted], [
        held("expanded prompts", sum(bool(form.match(text)) for text in told), "=", 3),
        held("different ones", len(set(told)), ">", 1),
        held("pixels of the plain prompts",
             sum((a == rgb).all() for a, (_, rgb) in zip(plain, painted)), "=", 3)]


@row("Presets: quality, undesired, year, rating", needs="rating")
def presets(p):
    bad = {"prompt": "red cat, night sky", "seed": 7}
    asked = {**bad, "quality_tags": True, "undesired": "heavy"}
    p.submit(**bad), p.submit(**asked)
    a, (job, b) = p.paint(**bad)[1], p.paint(**asked)
    told = job["request"]
    return [a, b], [
        held("prompt has the preset", float("best quality" in told["prompt"]), "=", 1.0),
        held("negative has it", float("worst quality" in told["negative_prompt"]), "=", 1.0),
        held("sharpness", recognise.sharpness(b), ">", recognise.sharpness(a))]


@row("Emphasis: (red:1.5) and (red:0.2)")
def emphasis(p):
    asked = [{"prompt": f"(red:{w}) cat, night sky, best quality"} for w in (0.2, 1.5)]
    for fields in asked:
        p.submit(**fields)
    weak, strong = (p.paint(**f)[1] for f in asked)
    red = [float(is_red(x).mean()) for x in (weak, strong)]
    return [weak, strong], [held("red share of 1.5", red[1], ">", red[0])]


@row("Hires with an adapter of its own", needs="hires.loras")
def hires_adapter(p):
    second = {"scale": 1.5, "strength": 0.7, "steps": 6}
    asked = [{"hires": second}, {"hires": {**second, "loras": [{"name": "demo-sketch"}]}}]
    for fields in asked:
        p.submit(**fields)
    a, b = (p.paint(**f)[1] for f in asked)
    return [a, b], [held("saturation", saturation(b), "<", 0.97 * saturation(a)),
                    held("coarse distance", distance(small(a, 16), small(b, 16)), "<", 30)]


@row("Adapter for a part of the steps", needs="hires.loras")
def adapter_range(p):
    ranges = ((0, 0.5), (0.5, 1), (0, 1))
    asked = [{"loras": [{"name": "demo-sketch", "start": a, "end": b}]} for a, b in ranges]
    for fields in asked:
        p.submit(**fields)
    plain, early, late, whole = p.paint()[1], *(p.paint(**f)[1] for f in asked)
    always = p.paint(loras=[{"name": "demo-sketch"}])[1]
    return [early, late, whole], [
        held("the whole range is no range", distance(whole, always), "=", 0),
        held("early moves", distance(early, plain), ">", 1),
        held("late moves", distance(late, plain), ">", 1),
        held("they differ", distance(early, late), ">", 1)]


@row("Tiled VAE: exact, estimated, plain", needs="hires.loras")
def tiles(p):
    base = {"size": "384x384"}
    asked = [{**base, "vae_tiling": mode} for mode in ("exact", "estimated", "plain")]
    for fields in (base, *asked):
        p.submit(**fields)
    whole, exact, estimated, plain = (p.paint(**f)[1] for f in (base, *asked))
    return [exact, estimated, plain], [
        held("exact: largest difference", float(np.abs(exact.astype(int) - whole).max()), "<", 2.5),
        held("estimated", distance(estimated, whole), "<", 12),
        held("plain", distance(plain, whole), "<", 24)]


@row("Colour correction: the old picture's colours", needs="init.color_correction")
def colour_correction(p):
    base = p.paint()[1]
    init = {"image": picture(base), "strength": 0.8}
    asked = [{"prompt": "blue fish, sunset, best quality", "seed": 9, "init": i}
             for i in (init, {**init, "color_correction": True})]
    for fields in asked:
        p.submit(**fields)
    free, held_back = (p.paint(**f)[1] for f in asked)
    far = [distance(small(x, 1), small(base, 1)) for x in (free, held_back)]
    return [base, free, held_back], [held("distance of mean colours", far[1], "<", 0.7 * far[0])]


@row("Sweep: cells are the single pictures", fast=True)
def sweep(p):
    grid = {"x": {"field": "steps", "values": [4, 12]}, "y": {"field": "cfg_scale", "values": [1, 5]}}
    parent = p.job(p.submit(sweep=grid))
    assert parent["status"] == "succeeded", parent
    last = p.bytes_of(parent["cells"][3]["id"])
    first = p.paint(steps=4, cfg_scale=1)[1]
    cell = np.asarray(Image.open(io.BytesIO(p.bytes_of(parent["cells"][0]["id"]))).convert("RGB"))
    sheet = np.asarray(Image.open(io.BytesIO(p.call(parent["images"][0]["url"])[1])).convert("RGB"))
    return [sheet], [held("cells", len(parent["cells"]), "=", 4),
                     held("cell 0", float((cell == first).all()), "=", 1.0),
                     held("cell 3", float(last == p.bytes_of(p.submit(steps=12))), "=", 1.0),
                     held("sheet's width", sheet.shape[1], ">", 512)]


@row("Replay: bit-identical", fast=True)
def replay(p):
    png = p.bytes_of(p.submit(loras=[{"name": "demo-sketch"}]))
    status, answer = p.call("/v1/replay", png, "image/png")
    assert status == 200, answer
    rgb = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return [rgb], [held("identical", float(json.loads(answer)["identical"]), "=", 1.0)]


# ---- The sheet --------------------------------------------------------------------------------------

def write_sheet(path, rows, plain, columns=3, cell=104, most=3):
    """Rows of pictures with their titles; a palette of 256 colours keeps the file small."""
    width, height = most * (cell + 4) + 10, cell + 22
    lines = -(-(len(rows) + 1) // columns)
    sheet = Image.new("RGB", (columns * width + 6, lines * height + 6), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    rows = [(title, pictures) for title, pictures in rows if pictures]
    for i, (title, pictures) in enumerate([("Plain: " + PROMPT, [plain]), *rows]):
        left, top = 8 + i % columns * width, 6 + i // columns * height
        draw.text((left, top), title[:52], fill=(20, 20, 20))
        for j, rgb in enumerate(pictures[:most]):
            small_one = Image.fromarray(rgb)
            small_one.thumbnail((cell, cell), Image.LANCZOS)
            sheet.paste(small_one, (left + j * (cell + 4), top + 14))
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"   wrote {path}, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latentd", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--fast", action="store_true", help="a small part, for every run of the tests")
    parser.add_argument("--only", default="")
    parser.add_argument("--sheet", type=pathlib.Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.fast:
        PLAIN.update(steps=8)
    passed = failed = 0
    shown = []
    painter = Painter(args.latentd, args.work)
    try:
        for name, (title, fast, needs, function) in ROWS.items():
            if (args.fast and not fast) or (args.only and name not in args.only.split(",")):
                continue
            if needs and not painter.knows(needs):
                print(f"-- {name}: this build has no {needs}")
                continue
            try:
                pictures, figures = function(painter)
            except AssertionError as why:
                pictures, figures = [], [(False, str(why))]
            good = all(ok for ok, _ in figures)
            passed, failed = passed + good, failed + (not good)
            shown.append((title, pictures))
            print(f"{'ok' if good else 'FAIL'} {name}: "
                  + "; ".join(("" if ok else "NOT ") + text for ok, text in figures), flush=True)
        if args.sheet:
            write_sheet(args.sheet, shown, painter.paint()[1])
    finally:
        painter.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
