"""Train what can be added to the finished model: a style LoRA, a DoRA, a negative embedding and a
LoRA that needs few steps."""

import dataclasses
import pathlib

import numpy as np
import torch

import adapters
import checkpoint
import config
import restyle
import scene
import vocabulary
from diffusion import ALPHAS_BAR, ddim, noised
from fit import fit
from latents import encoded
from train_unet import device_of, noise_loss, prompt_ids


def good_scenes(count, number):
    """Scenes without quality tags, from a stream of their own."""
    rng = np.random.default_rng([config.SEED, 6, number])
    return [dataclasses.replace(scene.random_scene(rng), quality="", aesthetic="", style="")
            for _ in range(count)]


def cached(vae, folder, name, scenes, change=None):
    path = pathlib.Path(folder) / f"latents_{name}.pt"
    if not path.exists():
        torch.save(encoded(vae, scenes, config.STYLE_SIDE, config.STYLE_SIDE, change), path)
    return torch.load(path)


def train_style(vae, text, unet, log, folder, out, name):
    """A LoRA or DoRA on all layers of the transformers, from pictures in another look."""
    kind, look, rank, seconds, rate, pattern = config.STYLES_TRAINED[name]
    scenes = good_scenes(config.STYLE_PICTURES, 1)
    z = cached(vae, folder, name, scenes, getattr(restyle, look))
    fitted = adapters.fit_adapters(unet, getattr(adapters, kind), rank, pattern)

    def loss(rank, step):
        rng = np.random.default_rng([config.SEED, 7, step, rank])
        chosen = rng.integers(len(scenes), size=config.STYLE_BATCH)
        ids = prompt_ids([scenes[i] for i in chosen], rng)
        return noise_loss(unet, text, z[chosen].float(), ids, rng)

    parameters = [p for adapter in fitted.values() for p in adapter.parameters()]
    fit(parameters, loss, seconds, (rate, rate / 20), 0.99,
        lambda step, elapsed, value, shared=None: log.write(name, step, elapsed, value), warmup=10)
    checkpoint.write(f"{out}/adapters/{name}.safetensors", adapters.kohya(unet, fitted),
                     {"format": "pt", "ss_network_dim": str(rank)})
    adapters.remove_adapters(unet)


def train_negative(vae, text, unet, log, folder, out):
    """Vectors that mean a spoilt picture: they start as the words and are fitted to pictures."""
    rng = np.random.default_rng([config.SEED, 8])
    spoilt = [dataclasses.replace(s, quality=scene.pick(rng, ("worst quality", "bad quality")),
                                  aesthetic=scene.pick(rng, ("very displeasing", "displeasing")))
              for s in good_scenes(config.NEGATIVE_PICTURES, 2)]
    z = cached(vae, folder, "spoilt", spoilt)
    start = vocabulary.encode("worst quality very displeasing")[1:5]
    with torch.no_grad():
        first = torch.tensor(start, device=device_of(text))
        vectors = torch.nn.Parameter(text.embed(first).clone())

    def loss(rank, step):
        rng = np.random.default_rng([config.SEED, 9, step, rank])
        chosen = rng.integers(len(spoilt), size=config.STYLE_BATCH)
        plain = [dataclasses.replace(spoilt[i], quality="", aesthetic="") for i in chosen]
        rows = []
        for s in plain:
            said = vocabulary.encode(scene.tags(s, rng) if rng.random() < 0.5 else "")
            rows.append([said[0], *start, *said[1 : vocabulary.LENGTH - len(start)]])
        ids = torch.tensor(rows, device=device_of(text))
        with torch.no_grad():
            looked_up = text.embed(ids)
        tokens = torch.cat([looked_up[:, :1], vectors.expand(len(rows), -1, -1),
                            looked_up[:, 1 + len(start) :]], dim=1)

        def context(_, skip):
            return text(ids, skip=skip, tokens=tokens)

        return noise_loss(unet, context, z[chosen].float(), ids, rng)

    fit([vectors], loss, config.NEGATIVE_SECONDS, (5e-3, 5e-4), 0.98,
        lambda step, elapsed, value, shared=None: log.write("negative", step, elapsed, value),
        warmup=10)
    checkpoint.write(f"{out}/embeddings/demo-negative.safetensors", {"emb_params": vectors.data},
                     {"format": "pt"})


def guided(unet, x, t, both, scale):
    """Noise under guidance; `both` holds the contexts of the prompts, then of the empty ones."""
    noise = unet(torch.cat([x, x]), torch.cat([t, t]), both)
    wanted, other = noise.chunk(2)
    return other + scale * (wanted - other)


def train_few_steps(text, unet, log, out, sets):
    """One step of the adapted network learns to land where several guided steps of the plain one
    land. The steps are those of 4 to 8 evenly spaced timesteps, as samplers take them."""
    fitted = adapters.fit_adapters(unet, adapters.LowRank, config.FEW_RANK, config.FEW_LAYERS)

    def strength(value):
        for adapter in fitted.values():
            adapter.strength = value

    def loss(rank, step):
        rng = np.random.default_rng([config.SEED, 10, step, rank])
        z, scenes = sets.draw(rng, np.random.default_rng([config.SEED, 11, step]))
        z, scenes = z[: config.FEW_BATCH], scenes[: config.FEW_BATCH]
        count = rng.integers(4, 9)
        grid = np.append(np.linspace(config.STEPS - 1, 0, count), -1)
        at = rng.integers(count - 1, size=len(z))
        t, to = (torch.from_numpy(np.rint(grid[at + d])).long() for d in (0, 1))
        scale = float(rng.uniform(5, 7))
        noise = torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32))
        z, noise, t, to = (v.to(device_of(unet)) for v in (z, noise, t, to))
        x = noised(z, noise, t)
        skip = 1 if rng.random() < 0.3 else 2
        with torch.no_grad():
            empty = torch.tensor([vocabulary.encode("")] * len(z))
            both = text(torch.cat([prompt_ids(scenes, rng), empty]).to(device_of(text)), skip=skip)
            strength(0.0)
            target, now = x, t
            for i in range(1, config.FEW_TEACHER_STEPS + 1):
                later = t + torch.round((to - t) * i / config.FEW_TEACHER_STEPS).long()
                target = ddim(target, guided(unet, target, now, both, scale), now, later)
                now = later
            strength(1.0)
            a, b = (ALPHAS_BAR.to(k.device)[k][:, None, None, None] for k in (t, to))
            # the noise with which one step from x lands on the target
            gain = (1 - b).sqrt() - (b / a * (1 - a)).sqrt()
            wanted = (target - (b / a).sqrt() * x) / gain
        error = guided(unet, x, t, both, scale) - wanted
        return error.square().mean((1, 2, 3)).clamp(max=4).mean()

    parameters = [p for adapter in fitted.values() for p in adapter.parameters()]
    fit(parameters, loss, config.FEW_SECONDS, (config.FEW_RATE, config.FEW_RATE / 20), 0.98,
        lambda step, elapsed, value, shared=None: log.write("few_steps", step, elapsed, value),
        warmup=10)
    checkpoint.write(f"{out}/adapters/demo-fast.safetensors", adapters.peft(unet, fitted),
                     {"format": "pt"})
    adapters.remove_adapters(unet)
