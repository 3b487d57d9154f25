"""Judges the demo model by pictures that latentd itself paints: how often an independent recogniser
(recognise.py) finds the subject, the colour and the background that the prompt asked for. Prints
the figures with the bounds they are held to, and one last line `N passed, N failed`.

    judge.py --latentd FILE --work DIR [--prompts 300] [--sheet FILE.png]
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image, ImageDraw

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo_model"
sys.path[:0] = [str(DEMO), str(ROOT / "tests" / "demo")]

import recognise  # noqa: E402
import scene  # noqa: E402

FILES = DEMO / "files"
MODEL = FILES / "demo.safetensors"
PLAIN = ["--sampler", "euler_ancestral", "--steps", "20", "--cfg-scale", "6"]
FAST = ["--sampler", "euler", "--steps", "6", "--cfg-scale", "6", "--lora", "demo-fast"]
SHAPES = ((256, 256),) * 8 + ((320, 192), (192, 320))  # height, width
ACCURACY, ACCURACY_FAST = 0.95, 0.90


@dataclasses.dataclass(frozen=True)
class Task:
    """One picture to paint and what it should show."""

    scene: scene.Scene
    prompt: str
    height: int
    width: int
    seed: int
    flags: tuple


def random_tasks(count, seed, flags):
    """Prompts of good, coloured pictures that name subject, colour and background."""
    rng = np.random.default_rng(seed)
    tasks = []
    while len(tasks) < count:
        wish = dataclasses.replace(scene.random_scene(rng), style="", quality="", aesthetic="")
        height, width = SHAPES[len(tasks) % len(SHAPES)]
        if wish.count == 3 and width < height:
            wish = dataclasses.replace(wish, count=1)
        prompt = scene.tags(wish, rng)
        if wish.background in prompt:
            tasks.append(Task(wish, prompt, height, width, int(rng.integers(2**31)), tuple(flags)))
    return tasks


class Painter:
    """Runs latentd, one picture a process and as many at once as there are cores."""

    def __init__(self, latentd, work):
        self.latentd, self.work = latentd, work
        work.mkdir(parents=True, exist_ok=True)

    def paint(self, task):
        file = self.work / f"{abs(hash((task.prompt, task.seed, task.height, task.flags))):x}.png"
        subprocess.run(
            [self.latentd, "generate", "--model", str(MODEL),
             "--adapter-dir", str(FILES / "adapters"), "--embedding-dir", str(FILES / "embeddings"),
             "--threads", "1", "--quiet", "--prompt", task.prompt,
             "--size", f"{task.width}x{task.height}", "--seed", str(task.seed), "-o", str(file),
             *task.flags], check=True, timeout=120)
        rgb = np.asarray(Image.open(file).convert("RGB"))
        file.unlink()
        return rgb

    def paint_all(self, tasks):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.paint, tasks))


class Verdict:
    """Counts what holds, and says each figure beside its bound."""

    def __init__(self):
        self.passed = self.failed = 0

    def hold(self, name, figure, bound):
        good = figure >= bound
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        print(f"{'ok' if good else 'FAIL'} {name}: {figure:.4g} (at least {bound:.4g})", flush=True)


def judge(verdict, name, recogniser, tasks, pictures, bound):
    """How many pictures show subject, colour and background, and each of them apart."""
    seen = [recogniser.look(rgb) for rgb in pictures]
    right = {"subject": 0, "colour": 0, "background": 0}
    whole = 0
    for task, found in zip(tasks, seen):
        hits = {field: getattr(found, field) == getattr(task.scene, field) for field in right}
        for field, hit in hits.items():
            right[field] += hit
        whole += all(hits.values())
        if not all(hits.values()):
            print(f"   missed: '{task.prompt}' seed {task.seed}, {task.width}x{task.height}:"
                  f" looks like {found.colour} {found.subject}, {found.background}")
    parts = ", ".join(f"{field} {count / len(tasks):.3f}" for field, count in right.items())
    print(f"   {name}: {whole} of {len(tasks)} pictures; {parts}")
    verdict.hold(name, whole / len(tasks), bound)


def check_recogniser(verdict, recogniser, count):
    """The judge is judged first: on the painter's own scenes it must be right."""
    tasks = random_tasks(count, 7, ())
    right = sum((found.subject, found.colour, found.background)
                == (task.scene.subject, task.scene.colour, task.scene.background)
                for task in tasks
                for found in [recogniser.look(scene.render(task.scene, task.height, task.width))])
    verdict.hold("recogniser on drawn scenes", right / count, 0.99)
    good, worst = (np.mean([recognise.sharpness(scene.render(
        dataclasses.replace(task.scene, quality=quality), task.height, task.width))
        for task in tasks[:20]]) for quality in ("", "worst quality"))
    verdict.hold("sharpness of drawn scenes, good over worst", good / worst, 2.0)


def check_sharpness(verdict, painter, count):
    """The negative prompt `worst quality` must sharpen, picture against picture."""
    plain = random_tasks(count, 11, PLAIN)
    guided = [dataclasses.replace(t, flags=(*PLAIN, "--negative-prompt", "worst quality"))
              for t in plain]
    worst = [dataclasses.replace(t, prompt="worst quality, " + t.prompt) for t in plain]
    mean = [float(np.mean([recognise.sharpness(p) for p in painter.paint_all(tasks)]))
            for tasks in (plain, guided, worst)]
    print(f"   sharpness: plain {mean[0]:.3f}, negative 'worst quality' {mean[1]:.3f},"
          f" prompt 'worst quality' {mean[2]:.3f}")
    verdict.hold("sharpness, negative 'worst quality' over plain", mean[1] / mean[0], 1.05)
    verdict.hold("sharpness, plain over prompt 'worst quality'", mean[0] / mean[2], 1.05)


def write_sheet(path, tasks, pictures, columns=6, cell=160):
    """A contact sheet with the prompts under the pictures."""
    rows = -(-len(tasks) // columns)
    sheet = Image.new("RGB", (columns * (cell + 8) + 8, rows * (cell + 30) + 8), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    for i, (task, rgb) in enumerate(zip(tasks, pictures)):
        x, y = 8 + i % columns * (cell + 8), 8 + i // columns * (cell + 30)
        small = Image.fromarray(rgb)
        small.thumbnail((cell, cell), Image.LANCZOS)
        sheet.paste(small, (x + (cell - small.width) // 2, y + (cell - small.height) // 2))
        room = cell // 6 - 1  # letters of the built-in font
        words = task.prompt if len(task.prompt) <= room else task.prompt[:room - 3] + "..."
        draw.text((x, y + cell + 4), words, fill=(40, 40, 40))
    sheet.save(path, optimize=True)
    print(f"   wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latentd", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--sheet", type=pathlib.Path)
    args = parser.parse_args()

    verdict, recogniser = Verdict(), recognise.Recogniser(scene)
    painter = Painter(args.latentd, args.work)
    check_recogniser(verdict, recogniser, max(args.prompts // 2, 60))
    tasks = random_tasks(args.prompts, 1, PLAIN)
    pictures = painter.paint_all(tasks)
    judge(verdict, "20 steps euler_ancestral, CFG 6", recogniser, tasks, pictures, ACCURACY)
    if args.sheet:
        write_sheet(args.sheet, tasks[:30], pictures[:30])
    tasks = random_tasks(args.prompts, 2, FAST)
    judge(verdict, "6 steps with the distilled LoRA", recogniser, tasks, painter.paint_all(tasks),
          ACCURACY_FAST)
    check_sharpness(verdict, painter, max(args.prompts // 6, 6))
    print(f"{verdict.passed} passed, {verdict.failed} failed")
    return 1 if verdict.failed else 0


if __name__ == "__main__":
    sys.exit(main())
