#!/usr/bin/env python3
"""Paint with the demo's ControlNet and tell how well the pictures' edges follow the hints.

    python3 judge_control.py [--count 16] [--sheet sheet.png]

Hints are edges of scenes that training has not seen. Half of the prompts name another place or
count than the hint shows, half name none. 20 steps of DDIM at guidance 5 and 256x256, the same
noise without the ControlNet, at half and at full weight. `kept` is the share of the hint's edge
pixels that lie within 2 pixels of an edge of the picture, `own` that of the picture's edge pixels
that do so of the hint's. The sheet shows hints and pictures, one row each.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import torch

import config
import layers
import native
import scene
import vocabulary
from canny import canny, spread
from diffusion import ddim
from train_control import FILES, GOOD, Model, hint_of, plain

SIDE, STEPS, GUIDANCE, REACH = 256, 20, 5.0, 2
WEIGHTS = (0.0, 0.5, 1.0)
BATCH = 8


def case(i):
    """(picture to follow, prompt that says another layout or none)."""
    rng = np.random.default_rng([config.SEED, 14, i])
    s = plain(scene.random_scene(rng))
    s = dataclasses.replace(s, style="")
    said = dataclasses.replace(s, position="centre", count=1)
    if i % 2:
        others = [p for p in scene.POSITIONS if p not in (s.position, "centre")]
        said = dataclasses.replace(s, position=scene.pick(rng, others), count=1) if s.count == 1 \
            else dataclasses.replace(s, count=5 - s.count)
    return scene.render(s, SIDE, SIDE), scene.prompt(said) + ", " + GOOD[1]


def paint(model, prompts, hints, weight, seed):
    """uint8 pictures [n, h, w, 3]."""
    n = len(prompts)
    ids = torch.tensor([vocabulary.encode(p) for p in [*prompts, *[""] * n]])
    context, hints = model.text(ids), torch.cat([hints, hints])
    noise = np.random.default_rng([config.SEED, 15, seed]).standard_normal
    x = torch.from_numpy(noise((n, 4, SIDE // 8, SIDE // 8), dtype=np.float32))
    grid = np.append(np.rint(np.linspace(config.STEPS - 1, 0, STEPS)), -1).astype(int)
    for now, later in zip(grid, grid[1:]):
        both, t = torch.cat([x, x]), torch.full((2 * n,), int(now))
        parts = model.control(both, hints, t, context) if weight else None
        wanted, other = model.unet(both, t, context,
                                   parts and [weight * p for p in parts]).chunk(2)
        x = ddim(x, other + GUIDANCE * (wanted - other), t[:n], torch.full((n,), int(later)))
    rgb = model.vae.decode(x / config.LATENT_SCALE)
    return ((rgb + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)


def near(edges):
    """Where an edge pixel lies within REACH pixels."""
    for _ in range(REACH):
        edges = spread(edges)
    return edges


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--file", default=str(FILES / "controlnets" / "demo-edges.safetensors"))
    parser.add_argument("--count", type=int, default=16, help="pictures of each weight")
    parser.add_argument("--sheet", type=pathlib.Path, help="PNG to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not native.halves():
        layers.set_precision(torch.float32)
    model = Model(FILES / "demo.safetensors")
    model.read(options.file)
    rows = {weight: [] for weight in WEIGHTS}
    cases = [case(i) for i in range(options.count)]
    for begin in range(0, len(cases), BATCH):
        batch = cases[begin : begin + BATCH]
        hints = torch.stack([hint_of(picture) for picture, _ in batch])
        for weight in WEIGHTS:
            with torch.no_grad():
                rows[weight] += list(paint(model, [p for _, p in batch], hints, weight, begin))
    edges = [canny(picture) for picture, _ in cases]
    print("weight,kept,own,kept with other words,kept with none")
    for weight, pictures in rows.items():
        found = [canny(p) for p in pictures]
        kept = [near(f)[e].mean() for f, e in zip(found, edges)]
        own = [near(e)[f].mean() if f.any() else 0.0 for f, e in zip(found, edges)]
        print(",".join(f"{v:.3f}" for v in (weight, np.mean(kept), np.mean(own),
                                            np.mean(kept[1::2]), np.mean(kept[::2]))), flush=True)
    for i, (_, prompt) in enumerate(cases):
        print(i, prompt)
    if options.sheet:
        from PIL import Image
        hints = [np.repeat(e[..., None], 3, axis=2).astype(np.uint8) * 255 for e in edges]
        sheet = np.concatenate([np.concatenate(row, axis=1) for row in (hints, *rows.values())])
        Image.fromarray(sheet).save(options.sheet)


if __name__ == "__main__":
    main()
