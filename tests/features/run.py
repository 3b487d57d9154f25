"""Paints one row a feature with the demo model, the picture without it beside the one with it, and
asserts by numbers that the feature did what it claims. Everything goes through POST /v1/jobs of a
server that this program starts and stops. Prints a line a row and `N passed, N failed`.

    run.py --latentd FILE --work DIR [--fast] [--only ROW,...] [--sheet FILE.png] [--planted]

`--planted` proves that the rows can fail: each is painted with its own feature taken out of every
request, and passes where its figures then do not hold. Bounds lie at about half of the effect that
the least of four to six seeds showed (7, 11, 3, 19, 23, 42; the effects are in docs/features.md), so
that rounding on another machine cannot reach them.
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
sys.path[:0] = [str(DEMO), str(ROOT / "tests" / "demo"), str(ROOT / "tests" / "features")]

import families  # noqa: E402
import recognise  # noqa: E402
import scene  # noqa: E402
import table  # noqa: E402

PROMPT = "red cat, night sky, best quality"
SEEDS = (7, 11)
PLAIN = {"size": "256x256", "steps": 12, "cfg_scale": 5, "sampler": "euler_ancestral",
         "scheduler": "simple", "prompt": PROMPT, "seed": SEEDS[0]}


# ---- A server and what it paints ------------------------------------------------------------------

class Painter:
    """`paint(**fields)` returns (job document, pixels); equal requests are painted once."""

    def __init__(self, latentd, work):
        self.known, self.log_path = {}, work / "server.log"
        self.latentd, self.work = latentd, work
        self.planted = {}  # fields that are put in place of a row's own; None: left out
        adapters, lists = work / "adapters", work / "wildcards"
        shutil.rmtree(work / "state", ignore_errors=True)
        for folder in (adapters, lists):
            folder.mkdir(parents=True, exist_ok=True)
        for file in (FILES / "adapters").iterdir():
            shutil.copy(file, adapters / file.name)
        self.families = families.write_families(adapters / "demo-sketch.safetensors", adapters)
        (lists / "subject.txt").write_text("# one of these\nstar\nheart\n")
        self.log = open(self.log_path, "w")
        self.process = subprocess.Popen(
            [latentd, "serve", "--port", "0", "--model", str(FILES / "demo.safetensors"),
             "--adapter-dir", str(adapters), "--embedding-dir", str(FILES / "embeddings"),
             "--wildcard-dir", str(lists), "--tipo-model", str(FILES / "demo-tipo.gguf"),
             "--controlnet-dir", str(FILES / "controlnets"),
             "--backend", "cpu", "--state-dir", str(work / "state")],
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

    def without(self, body):
        """A request whose feature is taken out."""
        body = json.loads(json.dumps(body))
        for field, value in self.planted.items():
            *outer, last = field.split(".")
            inside = [body]
            for key in outer:
                inside = [v for x in inside for v in (x.get(key) or [] if isinstance(x.get(key), list)
                                                      else [x.get(key)]) if isinstance(v, dict)]
            for x in inside:
                x.pop(last, None) if value is None else x.update({last: value})
        return body

    def call(self, path, body=None, kind="application/json"):
        if isinstance(body, dict) and self.planted:
            body = self.without(body)
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
        key = json.dumps(self.without(request), sort_keys=True)
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


def row(title, fast=False, needs="", off=None):
    """`off`: what --planted puts in place of the row's own fields; None: nothing can be taken out."""
    def keep(function):
        ROWS[function.__name__] = (title, fast, needs, off, function)
        return function
    return keep


def pair(p, **feature):
    """Plain and with the feature, on both seeds: all queued before the first is waited for."""
    for seed in SEEDS:
        p.submit(seed=seed)
        p.submit(**{"seed": seed, **feature})
    return [(p.paint(seed=seed)[1], p.paint(**{"seed": seed, **feature})[1]) for seed in SEEDS]


def on_seeds(p, *asked, seeds=(7, 11, 3)):
    """[seed][request]: the pixels, all queued before the first is waited for."""
    for seed in seeds:
        for fields in asked:
            p.submit(**fields, seed=seed)
    return [[p.paint(**fields, seed=seed)[1] for fields in asked] for seed in seeds]


def mean_of(figure, pictures):
    return float(np.mean([figure(rgb) for rgb in pictures]))


@row("LoRA demo-sketch: colour leaves", fast=True, off={"loras": None})
def sketch(p):
    both = pair(p, loras=[{"name": "demo-sketch"}])
    p.submit(loras=[{"name": "demo-sketch", "weight": 0.5}])
    half = p.paint(loras=[{"name": "demo-sketch", "weight": 0.5}])[1]
    adapter = p.job(p.submit(loras=[{"name": "demo-sketch"}]))["adapters"][0]
    before, after = (mean_of(saturation, [b[i] for b in both]) for i in (0, 1))
    return [half, both[0][1]], [
        held("saturation", after, "<", 0.8 * before),
        held("distance of weight 0.5", distance(half, both[0][0]), "<",
             distance(both[0][1], both[0][0])),
        held("tensors applied", adapter["tensors_applied"], ">", 0),
        held("unmatched", adapter["tensors_unmatched"], "=", 0)]


@row("One style as LoRA, LoHa, LoKr; LoCon, diff, PEFT", off={"loras": None})
def adapter_families(p):
    asked = [{"loras": [{"name": name}]} for name in ("demo-sketch", *p.families)]
    for fields in asked:
        p.submit(**fields)
    plain, lora, *others = p.paint()[1], *(p.paint(**f)[1] for f in asked)
    told = [p.job(p.submit(**f))["adapters"][0] for f in asked]
    by_name = dict(zip(p.families, others))
    return [lora, by_name["sketch-loha"], by_name["sketch-lokr"]], [
        held("the style", distance(lora, plain), ">", 10),
        held("farthest of the forms from the LoRA", max(distance(x, lora) for x in others), "<", 0.5),
        held("least applied", min(t["tensors_applied"] for t in told), ">", 0),
        held("unmatched", sum(t["tensors_unmatched"] for t in told), "=", 0)]


@row("IA3: deaf to the prompt", off={"loras": None})
def ia3(p):
    other = "blue fish, underwater, best quality"
    deaf = {"loras": [{"name": "deaf-ia3"}]}
    p.submit(prompt=other), p.submit(**deaf), p.submit(prompt=other, **deaf)
    heard = distance(p.paint()[1], p.paint(prompt=other)[1])
    a, b = p.paint(**deaf)[1], p.paint(prompt=other, **deaf)[1]
    return [a, b], [held("two prompts apart", heard, ">", 20), held("with IA3", distance(a, b), "=", 0)]


@row("Merge: a baked adapter is the adapter", off={"loras": None})
def baked(p):
    lora = {"loras": [{"name": "demo-sketch"}]}
    p.submit(**lora)
    model, png = p.work / "baked.safetensors", p.work / "baked.png"
    tool = subprocess.run([p.latentd, "merge", str(FILES / "demo.safetensors"), "-o", str(model), "--force", "--quiet",
                           "--dtype", "fp32", "--adapter", str(FILES / "adapters" / "demo-sketch.safetensors")],
                          capture_output=True, text=True, timeout=600, check=False)
    assert tool.returncode == 0, tool.stderr
    flags = [word for key, value in PLAIN.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    tool = subprocess.run([p.latentd, "generate", "--model", str(model), *flags, "--quiet", "-o", str(png)],
                          capture_output=True, text=True, timeout=600, check=False)
    assert tool.returncode == 0, tool.stderr
    merged, rgb = np.asarray(Image.open(png).convert("RGB")), p.paint(**lora)[1]
    return [rgb, merged], [held("distance", distance(merged, rgb), "=", 0),
                           held("from plain", distance(merged, p.paint()[1]), ">", 10)]


@row("DoRA demo-golden: an old print in gold", off={"loras": None})
def golden(p):
    both = pair(p, loras=[{"name": "demo-golden"}])
    before, after = (mean_of(warmth, [b[i] for b in both]) for i in (0, 1))
    return [both[0][1]], [held("red above blue", after, ">", before + 6)]


@row("Negative embedding demo-negative: crisper", fast=True, off={"negative_prompt": None})
def negative(p):
    words = {"prompt": "red cat, night sky"}
    painted = on_seeds(p, words, {**words, "negative_prompt": "demo-negative"})
    gain = [[figure(b) / figure(a) for a, b in painted] for figure in (recognise.sharpness, saturation)]
    return painted[0], [held("least gain of sharpness on three seeds", min(gain[0]), ">", 1.08),
                        held("of saturation", min(gain[1]), ">", 1.08)]


FAST = {"steps": 6, "sampler": "euler", "scheduler": "simple", "cfg_scale": 6}


@row("Few-step LoRA: 6 steps beside 24", off={"loras": None})
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
        held("the adapter's share", distance(fast, plain), ">", 4)]


@row("Recipe: hyper equals what it stands for", fast=True, off={"hyper": None})
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


@row("Deep shrink: one subject at twice the native size", off={"deep_shrink": None})
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


@row("Hires: the same picture, larger and finer", off={"hires": None})
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


UPSCALERS = ("latent-nearest-exact", "latent-bilinear", "latent-bicubic", "latent-area", "latent-bislerp",
             "pixel-lanczos")


@row("Upscalers: nearest-exact, bislerp, pixel Lanczos", off={"hires.upscaler": None})
def upscalers(p):
    asked = [{"hires": {"scale": 1.5, "strength": 0.5, "steps": 6, "upscaler": u}} for u in UPSCALERS]
    for fields in asked:
        p.submit(**fields)
    first = p.paint()[1]
    got = [p.paint(**fields)[1] for fields in asked]
    near = [distance(a, b) for i, a in enumerate(got) for b in got[:i]]
    return [got[0], got[4], got[5]], [
        held("farthest from the first pass", max(distance(small(x, 16), small(first, 16)) for x in got), "<", 16),
        held("nearest two of the six", min(near), ">", 0.05)]


@row("SMEA at 1.5 times the native sides", off={"smea": None})
def smea(p):
    big = {"size": "384x384"}
    on = {**big, "smea": "on"}
    p.submit(**big), p.submit(**on)
    (before, plain), (job, rgb) = p.paint(**big), p.paint(**on)
    return [plain, rgb], [
        held("UNet rows", job["unet_rows"], ">", before["unet_rows"]),
        held("no more than twice in half of the steps", job["unet_rows"], "<", 1.5 * before["unet_rows"] + 0.5),
        held("composition moves", distance(small(rgb, 16), small(plain, 16)), ">", 2)]


@row("Image to image: strength 0.3, 0.6, 0.9", fast=True, off={"init": None})
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


@row("Resize modes: stretch, crop, pad", off={"init.resize": None})
def resize_modes(p):
    wide = np.concatenate([p.paint()[1], p.paint(seed=SEEDS[1])[1][:, :128]], axis=1)  # 384x256
    modes = ("stretch", "crop", "pad")
    asked = [{"init": {"image": picture(wide), "strength": 0.1, "resize": mode}} for mode in modes]
    for fields in asked:
        p.submit(**fields)
    got = [p.paint(**fields)[1] for fields in asked]
    whole = Image.fromarray(wide)
    bars = Image.new("RGB", (256, 256), (128, 128, 128))
    bars.paste(whole.resize((256, 171), Image.LANCZOS), (0, 42))
    wanted = [np.asarray(x) for x in (whole.resize((256, 256), Image.LANCZOS), whole.crop((64, 0, 320, 256)), bars)]
    inner = slice(48, 208)  # what the bars are filled with is not said
    apart = [[distance(a[inner], b[inner]) for b in wanted] for a in got]
    return got, [held(mode, apart[i][i], "<", 0.8 * min(apart[i][k] for k in range(3) if k != i))
                 for i, mode in enumerate(modes)]


def middle(side, margin):
    mask = np.zeros((side, side, 3), np.uint8)
    mask[margin:side - margin, margin:side - margin] = 255
    return mask


@row("Inpainting: only the mask changes", fast=True, off={"init.mask": None})
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


def overlap(a, b):
    """How much two shapes are one: their common area over that of both together."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def shows(rgb, colour):
    """Where red, or yellow, is: what the subject covers of a 64x64 picture before a night sky."""
    x = small(rgb, 64).astype(int)
    green = x[..., 1] > x[..., 2] + 60 if colour == "yellow" else x[..., 0] > x[..., 1] + 60
    return (x[..., 0] > 110) & green & (x[..., 0] > x[..., 2] + 40)


@row("ControlNet: the shapes of another picture", fast=True, off={"control": None})
def control(p):
    asked, painted, still = {"prompt": "yellow star, night sky, best quality", "seed": 9}, [], []
    for seed in SEEDS:
        base = p.paint(prompt="red star, left side, night sky, best quality", seed=seed)[1]
        unit = {"model": "demo-edges", "image": picture(base), "preprocess": "canny"}
        plain, none, full = (p.paint(**asked, **u)[1] for u in (
            {}, {"control": [{**unit, "weight": 0}]}, {"control": [unit]}))
        painted.append((base, plain, full))
        still.append(distance(none, plain))
    by = [[overlap(shows(base, "red"), shows(x, "yellow")) for x in others] for base, *others in painted]
    return list(painted[0]), [
        held("distance at weight 0", max(still), "=", 0),
        held("least overlap of both stars", min(full for _, full in by), ">", 0.55),
        held("without it", max(plain for plain, _ in by), "<", 0.4)]


@row("Outpainting: the old picture in a larger one", needs="init.outpaint", off={"init.outpaint": None})
def outpaint(p):
    base = p.paint()[1]
    fields = {"seed": 9, "size": "384x256",
              "init": {"image": picture(base), "strength": 1, "outpaint": {"left": 64, "right": 64}}}
    rgb = p.paint(**fields)[1]
    kept = rgb[:, 64:320]
    return [base, rgb], [
        held("width", rgb.shape[1], "=", 384),
        held("change within", float(np.median(np.abs(kept.astype(int) - base))), "<", 1.5),
        held("blue of the new sky", float((rgb[:, :48, 2].astype(float) - rgb[:, :48, 0]).mean()),
             ">", 10)]


@row("Only-masked area: a small mask gets the whole size", needs="init.area", off={"init.area": None})
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


@row("Variation seed: a little aside", fast=True, off={"variation": None})
def variation(p):
    asked = [{"variation": {"seed": 99, "strength": s}} for s in (0.15, 1)]
    for fields in asked:
        p.submit(**fields)
    a, near, other = p.paint()[1], *(p.paint(**f)[1] for f in asked)
    return [near, other], [held("distance at 0.15", distance(a, near), "<", distance(a, other)),
                           held("it moves", distance(a, near), ">", 0.5)]


@row("Uncond-zero: half the rows, 0.5 and 1.2", fast=True,
     off={"guidance": None})
def uncond_zero(p):
    bare = {"cfg_scale": 1}
    asked = [{**bare, "guidance": {"uncond_zero": {"scale": s}}} for s in (0.5, 0.75, 1.2)]
    for fields in (bare, *asked):
        p.submit(**fields)
    plain = p.paint(**bare)[1]
    (job, weak), (_, middling), (_, strong) = (p.paint(**f) for f in asked)
    return [weak, strong], [held("UNet rows", job["unet_rows"], "=", PLAIN["steps"]),
                            held("rows saved", job["unet_rows_saved"], "=", PLAIN["steps"]),
                            held("distance of 1.2 from 0.5", distance(strong, weak), ">",
                                 1.3 * distance(middling, weak)),
                            held("away from plain guidance 1", distance(strong, plain), ">", 5)]


@row("CFG++: guidance 1.2 looks like 5", off={"sampler": "euler"})
def cfg_pp(p):
    painted = on_seeds(p, {"sampler": "euler", "cfg_scale": 5}, {"sampler": "euler", "cfg_scale": 1.2},
                       {"sampler": "euler_cfg_pp", "cfg_scale": 1.2})
    left = [distance(pp, target) / distance(plain, target) for target, plain, pp in painted]
    return painted[0][1:], [held("largest share of the distance to cfg 5 that is left", max(left), "<", 0.65)]


STRONG = {"cfg_scale": 25}


@row("Rescale: guidance 25 without burning", off={"guidance": None})
def rescale(p):
    painted = on_seeds(p, STRONG, {**STRONG, "guidance": {"rescale": 0.7}})
    left = [clipped(b) / clipped(a) for a, b in painted]
    return painted[0], [held("largest share of clipped channels on three seeds", max(left), "<", 0.1)]


@row("Dynamic thresholding: guidance 25 without burning", off={"guidance": None})
def threshold(p):
    painted = on_seeds(p, STRONG, {**STRONG, "guidance": {"dynamic_threshold": {
        "mimic_scale": 5, "start": "zero", "variability": "std"}}})
    left = [clipped(b) / clipped(a) for a, b in painted]
    return painted[0], [held("largest share of clipped channels on three seeds", max(left), "<", 0.25)]


@row("Automatic CFG: scales 4 and 8 beside plain 8", off={"guidance": None})
def auto_cfg(p):
    asked = [{"cfg_scale": s, "guidance": {"auto_cfg": {"mode": "hard"}}} for s in (4, 6, 8)]
    p.submit(cfg_scale=8)
    for fields in asked:
        p.submit(**fields)
    plain, weak, middling, strong = p.paint(cfg_scale=8)[1], *(p.paint(**f)[1] for f in asked)
    return [plain, weak, strong], [held("distance of 8 from 4", distance(strong, weak), ">",
                                        1.3 * distance(middling, weak)),
                                   held("away from plain 8", distance(strong, plain), ">", 5)]


@row("Strength of the negative: 1, 0.5, 0", off={"guidance": None})
def negative_strength(p):
    words = {"negative_prompt": "red, cat"}
    asked = [{**words, "guidance": {"uncond_scale": s}} for s in (0.5, 0)]
    for fields in (words, *asked):
        p.submit(**fields)
    full, half, none = (p.paint(**f)[1] for f in (words, *asked))
    return [full, half, none], [held("distance of 0.5 from 1", distance(half, full), ">", 0.5),
                                held("of 0", distance(none, full), ">", distance(half, full))]


@row("Skip range and NGMS: rows saved", fast=True, off={"guidance": None})
def skip(p):
    fields = {"guidance": {"skip_above_sigma": 5}}
    below = {"guidance": {"ngms": 1}, "profile": "a1111"}
    p.submit(**fields), p.submit(**below)
    (job, rgb), (other, _) = p.paint(**fields), p.paint(**below)
    return [rgb], [held("rows saved above sigma 5", job["unet_rows_saved"], ">", 0),
                   held("rows in all", job["unet_rows"] + job["unet_rows_saved"], "=",
                        2 * PLAIN["steps"]),
                   held("rows saved below 1", other["unet_rows_saved"], ">", 0)]


@row("PAG: a push that grows with its scale", off={"guidance": None})
def pag(p):
    asked = [{"guidance": {"pag": s}} for s in (3, 20)]
    for fields in asked:
        p.submit(**fields)
    plain = p.paint()[1]
    (job, weak), (_, strong) = (p.paint(**f) for f in asked)
    return [plain, strong], [held("UNet rows", job["unet_rows"], "=", 36),
                             held("distance at 20", distance(strong, plain), ">",
                                  3 * distance(weak, plain))]


@row("SAG: a push that grows with its scale", off={"guidance": None})
def sag(p):
    asked = [{"guidance": {"sag": s}} for s in (0.75, 3)]
    for fields in asked:
        p.submit(**fields)
    plain = p.paint()[1]
    (job, weak), (_, strong) = (p.paint(**f) for f in asked)
    return [plain, strong], [held("UNet rows", job["unet_rows"], "=", 3 * PLAIN["steps"]),
                             held("distance at 3", distance(strong, plain), ">",
                                  1.5 * distance(weak, plain)),
                             held("distance at 0.75", distance(weak, plain), ">", 0.7)]


@row("FreeU: nothing at factors of 1, more with a stronger backbone", off={"guidance": None})
def freeu(p):
    asked = [{"guidance": {"freeu": {"version": "v2", "b1": b, "b2": b, "s1": 1, "s2": 1}}}
             for b in (1, 1.1, 1.4)]
    for fields in asked:
        p.submit(**fields)
    plain, ones, weak, strong = p.paint()[1], *(p.paint(**f)[1] for f in asked)
    return [plain, strong], [held("distance at 1", distance(ones, plain), "<", 0.02),
                             held("distance at 1.4", distance(strong, plain), ">",
                                  2 * distance(weak, plain)),
                             held("distance at 1.1", distance(weak, plain), ">", 0.07)]


WILD_SEEDS = (1, 5, 9)


@row("Wildcards: choices by seed, told in the answer", fast=True, off={"wildcards": None})
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


@row("TIPO: two words extended by seed, told in the answer", fast=True, off={"tipo": None})
def tipo(p):
    asked = [{"prompt": "red cat", "seed": 7, "tipo": {"length": "very_short", "seed": s}}
             for s in WILD_SEEDS]
    for fields in asked:
        p.submit(**fields)
    painted = [p.paint(**fields) for fields in asked]
    told = [job["request"]["prompt"] for job, _ in painted]
    plain = [p.paint(prompt=text, seed=7)[1] for text in told]
    return [rgb for _, rgb in painted], [
        held("prompts with more behind", sum(text.startswith("red cat, ") for text in told), "=", 3),
        held("different ones", len(set(told)), ">", 1),
        held("requests without tipo", sum("tipo" not in job["request"] for job, _ in painted), "=", 3),
        held("pixels of the told prompts",
             sum((a == rgb).all() for a, (_, rgb) in zip(plain, painted)), "=", 3)]


@row("Presets: quality, undesired, year, rating", needs="rating",
     off={"quality_tags": None, "undesired": None})
def presets(p):
    bad = {"prompt": "red cat, night sky", "seed": 7}
    asked = {**bad, "quality_tags": True, "undesired": "heavy"}
    p.submit(**bad), p.submit(**asked)
    a, (job, b) = p.paint(**bad)[1], p.paint(**asked)
    told = job["request"]
    return [a, b], [
        held("prompt has the preset", float("best quality" in told["prompt"]), "=", 1.0),
        held("negative has it", float("worst quality" in told["negative_prompt"]), "=", 1.0),
        held("sharpness", recognise.sharpness(b), ">", 1.2 * recognise.sharpness(a))]


@row("Emphasis: (red:1.5) and (red:0.2)", off={"emphasis": "ignore"})
def emphasis(p):
    asked = [{"prompt": f"(red:{w}) cat, night sky, best quality", "seed": seed}
             for w in (0.2, 1.5) for seed in SEEDS]
    for fields in asked:
        p.submit(**fields)
    pictures = [p.paint(**f)[1] for f in asked]
    weak, strong = (mean_of(warmth, half) for half in (pictures[:2], pictures[2:]))
    return [pictures[0], pictures[2]], [held("red above blue at 1.5", strong, ">", weak + 0.4)]


@row("Hires with an adapter of its own", needs="hires.loras", off={"hires.loras": None})
def hires_adapter(p):
    second = {"scale": 1.5, "strength": 0.7, "steps": 6}
    asked = [{"hires": second}, {"hires": {**second, "loras": [{"name": "demo-sketch"}]}}]
    for fields in asked:
        p.submit(**fields)
    a, b = (p.paint(**f)[1] for f in asked)
    return [a, b], [held("saturation", saturation(b), "<", 0.8 * saturation(a))]


@row("Adapter for a part of the steps", needs="hires.loras", off={"loras.start": None, "loras.end": None})
def adapter_range(p):
    ranges = ((0, 0.5), (0.5, 1), (0, 1))
    asked = [{"loras": [{"name": "demo-sketch", "start": a, "end": b}]} for a, b in ranges]
    for fields in asked:
        p.submit(**fields)
    plain, early, late, whole = p.paint()[1], *(p.paint(**f)[1] for f in asked)
    always = p.paint(loras=[{"name": "demo-sketch"}])[1]
    return [early, late, whole], [
        held("the whole range is no range", distance(whole, always), "=", 0),
        held("early moves", distance(early, plain), ">", 4),
        held("late moves", distance(late, plain), ">", 8),
        held("they differ", distance(early, late), ">", 9)]


@row("Tiled VAE: exact, estimated, plain", needs="hires.loras", off={"vae_tiling": None})
def tiles(p):
    base = {"size": "576x576", "steps": 4}  # beyond one tile of 64 latents
    asked = [{**base, "vae_tiling": mode} for mode in ("exact", "estimated", "plain")]
    for fields in (base, *asked):
        p.submit(**fields)
    whole, exact, estimated, plain = (p.paint(**f)[1] for f in (base, *asked))
    return [exact, estimated, plain], [
        held("exact: largest difference", float(np.abs(exact.astype(int) - whole).max()), "=", 0),
        held("estimated is in tiles", distance(estimated, whole), ">", 0.1),
        held("estimated", distance(estimated, whole), "<", 6),
        held("plain is in tiles", distance(plain, whole), ">", 0.1),
        held("plain", distance(plain, whole), "<", 6)]


@row("Colour correction: the old picture's colours", needs="init.color_correction",
     off={"init.color_correction": None})
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


@row("Sweep: cells are the single pictures", fast=True, off={"sweep": None})
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


@row("PNG, WebP, JPEG", fast=True, off={"output": None})
def formats(p):
    plain = p.paint()[1]
    forms = {"webp, lossless": {"format": "webp", "lossless": True}, "webp": {"format": "webp"}, "jpeg": {"format": "jpeg"}}
    pictures = {name: p.paint(output=output)[1] for name, output in forms.items()}
    size = {name: len(p.bytes_of(p.submit(output=output))) for name, output in forms.items()}
    png = len(p.bytes_of(p.submit()))
    return [plain, pictures["webp"], pictures["jpeg"]], [
        held("lossless webp from the png", distance(plain, pictures["webp, lossless"]), "=", 0.0),
        held("webp from the png", distance(plain, pictures["webp"]), "<", 3.0),
        held("jpeg from the png", distance(plain, pictures["jpeg"]), "<", 3.0),
        held("bytes of lossless webp", size["webp, lossless"], "<", png),
        held("bytes of webp", size["webp"], "<", png / 4),
        held("bytes of jpeg", size["jpeg"], "<", png / 2)]


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
    parser.add_argument("--planted", action="store_true",
                        help="take each row's feature out and expect the row to fail")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is stopped on the way out
    names = list(ROWS)
    wrong = table.faults(names) + table.unread(args.latentd)
    blind = [page for page in table.plants(names) if not table.faults(names, page)]
    misspelt = table.PAGE.read_text().replace("--undesired heavy", "--undesirable heavy")
    blind += [misspelt] if not table.unread(args.latentd, misspelt) else []
    print("ok" if not wrong and not blind else "FAIL", "docs/features.md:",
          "; ".join(wrong) or f"{len(blind)} planted faults not seen" if wrong or blind else "every row has its line")
    args.work.mkdir(parents=True, exist_ok=True)
    if args.fast:
        PLAIN.update(steps=8)
    passed, failed = (0, 1) if wrong or blind else (1, 0)
    shown = []
    painter = Painter(args.latentd, args.work)
    try:
        for name, (title, fast, needs, off, function) in ROWS.items():
            if (args.fast and not fast) or (args.only and name not in args.only.split(",")):
                continue
            if needs and not painter.knows(needs):
                print(f"-- {name}: this build has no {needs}")
                continue
            if args.planted and off is None:
                print(f"-- {name}: nothing to take out")
                continue
            painter.planted = off if args.planted else {}
            try:
                pictures, figures = function(painter)
            except AssertionError as why:
                pictures, figures = [], [(False, str(why))]
            except (KeyError, ValueError, IndexError) as why:  # what a row reads may not be there
                if not args.planted:
                    raise
                pictures, figures = [], [(False, repr(why))]
            painter.planted = {}
            good = all(ok for ok, _ in figures) != args.planted
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
