#!/usr/bin/env python3
"""Train the demo's ControlNet on edges of the scenes, the finished model frozen.

    python3 train_control.py [--work DIR] [--out DIR] [--time 4]

Writes controlnets/demo-edges.safetensors and control-losses.csv into the output folder. Pictures
are drawn and encoded once, into the work folder, which also keeps a draft; an interrupted training
begins again with the phase that it was in. One process of one thread. Hyper-parameters stand in
config.py. Needs PyTorch 1.13 or later and numpy; where PyTorch's BLAS is not an optimised one,
LD_LIBRARY_PATH with such a libblas.so.3 makes it four times faster.
"""

import argparse
import dataclasses
import os
import pathlib

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

import checkpoint
import config
import layers
import native
import scene
import vocabulary
from canny import canny
from control_net import ControlNet
from diffusion import loss_weight, noised
from fit import fit
from journal import Journal
from latents import encode_share
from text import TextEncoder
from train_unet import odds_of, prompt_ids, timesteps
from unet import UNet
from vae import VAE

FILES = pathlib.Path(__file__).parent / "files"
GOOD = ("", "best quality", "amazing quality", "great quality")
FINE = ("", "aesthetic", "very aesthetic")


def plain(s):
    """The same picture, unspoilt: bad quality is laid over a finished drawing."""
    return dataclasses.replace(s, quality="", aesthetic="")


def scenes_of(name):
    number = sorted(config.CONTROL_SETS).index(name)
    scenes = []
    for i in range(config.CONTROL_SETS[name][0]):
        rng = np.random.default_rng([config.SEED, 12, number, i])
        s = scene.random_scene(rng)
        if rng.random() >= config.CONTROL_SPOILT:
            s = dataclasses.replace(s, quality=s.quality if s.quality in GOOD else "",
                                    aesthetic=s.aesthetic if s.aesthetic in FINE else "")
        scenes.append(s)
    return scenes


def hint_of(picture):
    """What the network sees of a picture: its edges, white on black."""
    return torch.from_numpy(canny(picture)).float().expand(3, -1, -1)


class Pictures:
    """The scenes of one of config.CONTROL_SETS, with latents and edges."""

    def __init__(self, vae, name, folder):
        count, height, width = config.CONTROL_SETS[name]
        self.scenes = scenes_of(name)
        self.odds = odds_of(self.scenes)
        path = folder / f"control_{name}.pt"
        if not path.exists():
            z = torch.zeros(count, 4, height // 8, width // 8, dtype=torch.float16)
            for share in (0, 1):
                encode_share(vae, self.scenes, height, width, None, z, share)
            edges = [torch.from_numpy(canny(scene.render(plain(s), height, width)))
                     for s in self.scenes]
            torch.save((z, torch.stack(edges)), path)
        self.z, self.edges = torch.load(path)

    def draw(self, rng, count):
        """(latents, hints, scenes) of some pictures."""
        chosen = rng.choice(len(self.scenes), count, p=self.odds)
        hints = self.edges[chosen].float()
        hints *= torch.from_numpy(rng.random(count) >= config.CONTROL_NO_HINT)[:, None, None]
        return (self.z[chosen].float(), hints[:, None].expand(-1, 3, -1, -1),
                [self.scenes[i] for i in chosen])


def misled(s, rng):
    """A scene that differs in its layout, for words that the hint contradicts or that say less."""
    if rng.random() < 0.5:
        return dataclasses.replace(s, position="centre", count=1)
    return dataclasses.replace(s, position=scene.pick(rng, scene.POSITIONS),
                               count=scene.pick(rng, scene.COUNT_WORDS))


def ids_of(scenes, rng):
    """Prompts as ids [b, 77]: true ones, ones with a wrong layout, empty ones."""
    fate = rng.random(len(scenes))
    wrong = config.CONTROL_EMPTY_PROMPTS + config.CONTROL_WRONG_PROMPTS
    ids = prompt_ids([misled(s, rng) if f < wrong else s for s, f in zip(scenes, fate)], rng)
    ids[torch.from_numpy(fate < config.CONTROL_EMPTY_PROMPTS)] = torch.tensor(vocabulary.encode(""))
    return ids


class Model:
    """The finished model, frozen, and the ControlNet."""

    def __init__(self, path):
        states = checkpoint.read_model(path)
        self.vae, self.text, self.unet = VAE(), TextEncoder(vocabulary.size()), UNet()
        for name in ("vae", "text", "unet"):
            network = getattr(self, name)
            network.load_state_dict(states[name])
            network.requires_grad_(False)
        self.control = ControlNet()
        self.control.begin_as(self.unet)
        self.metadata = {"format": "pt",
                         "latentd.test_config": checkpoint.read(path)[1]["latentd.test_config"]}

    def loss(self, z, hints, scenes, rng):
        """The denoiser's loss with what the ControlNet adds, for several noises of each picture."""
        z = z.repeat_interleave(config.CONTROL_NOISES, dim=0)
        scenes = [s for s in scenes for _ in range(config.CONTROL_NOISES)]
        t = timesteps(len(z), rng, config.CONTROL_HIGH)
        noise = torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32))
        with torch.no_grad():
            context = self.text(ids_of(scenes, rng), skip=1 if rng.random() < 0.3 else 2)
        x = noised(z, noise, t)
        error = self.unet(x, t, context, self.control(x, hints, t, context)) - noise
        return (loss_weight(t, True) * error.square().mean((1, 2, 3))).mean()

    def read(self, path):
        tensors, _ = checkpoint.read(path)
        self.control.load_state_dict({name.removeprefix("control_model."): v
                                      for name, v in tensors.items()})

    def write(self, path):
        tensors = {"control_model." + name: v for name, v in self.control.state_dict().items()}
        checkpoint.write(path, tensors, self.metadata)


def train(model, number, log, folder):
    """Phase `number` of config.CONTROL_PHASES; drafts of the averaged weights on the way."""
    seconds, fast, slow, shares, decay = config.CONTROL_PHASES[number]
    names = list(shares)
    sets = {name: Pictures(model.vae, name, folder) for name in names}
    draft = folder / f"control{number}.pt"

    def loss(rank, step):
        rng = np.random.default_rng([config.SEED, 13, number, step])
        name = names[int(rng.choice(len(names), p=[shares[n][0] for n in names]))]
        return model.loss(*sets[name].draw(rng, shares[name][1]), rng)

    def report(step, elapsed, value, shared):
        log.write(f"control{number}", step, elapsed, value)
        shared.attach(shared.average)
        torch.save(model.control.state_dict(), draft.with_suffix(".draft"))
        shared.attach(shared.flat)

    fit(model.control.parameters(), loss, seconds, (fast, slow), decay, report, warmup=20, world=1)
    torch.save(model.control.state_dict(), draft)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--work", default="demo_model_work", help="folder of pictures and drafts")
    parser.add_argument("--out", default=str(FILES), help="folder of the finished files")
    parser.add_argument("--time", type=float, default=1.0, help="factor on all durations")
    options = parser.parse_args()
    config.TIME = options.time
    work, out = pathlib.Path(options.work), pathlib.Path(options.out)
    work.mkdir(parents=True, exist_ok=True)
    (out / "controlnets").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(config.SEED)
    if not native.halves():
        layers.set_precision(torch.float32)
    model = Model(FILES / "demo.safetensors")
    log = Journal(out / "control-losses.csv")
    for number in range(len(config.CONTROL_PHASES)):
        done = work / f"control{number}.pt"
        if done.exists():
            model.control.load_state_dict(torch.load(done))
        else:
            train(model, number, log, work)
    model.write(out / "controlnets" / "demo-edges.safetensors")


if __name__ == "__main__":
    main()
