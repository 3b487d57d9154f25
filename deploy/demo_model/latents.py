"""Sets of pictures as latents, drawn and encoded once, with the scenes that they show."""

import multiprocessing
import pathlib

import numpy as np
import torch

import config
import scene


def scenes_of(name, count):
    number = sorted(config.SETS).index(name)
    return [scene.random_scene(np.random.default_rng([config.SEED, 3, number, i]))
            for i in range(count)]


def encode_share(vae, scenes, height, width, change, out, share):
    """Draw, change and encode every second picture; `out` lies in shared memory."""
    size = max(1, 8 * 128 * 128 // (height * width))
    indices = list(range(share, len(scenes), 2))
    with torch.no_grad():
        for i in range(0, len(indices), size):
            batch = indices[i : i + size]
            pictures = [scene.render(scenes[j], height, width) for j in batch]
            x = np.stack([change(p) for p in pictures] if change else pictures)
            x = torch.from_numpy(x).to(next(vae.parameters()).device)
            mean, _ = vae.moments(x.permute(0, 3, 1, 2).float() / 127.5 - 1)
            out[batch] = (config.LATENT_SCALE * mean).half().cpu()


def encoded(vae, scenes, height, width, change=None):
    """fp16 latents [n, 4, h / 8, w / 8], scaled to unit variance."""
    out = torch.zeros(len(scenes), 4, height // 8, width // 8, dtype=torch.float16).share_memory_()
    arguments = (vae, scenes, height, width, change, out)
    if next(vae.parameters()).device.type == "cpu":
        child = multiprocessing.get_context("fork").Process(target=encode_share,
                                                            args=(*arguments, 1))
        child.start()
        encode_share(*arguments, 0)
        child.join()
    else:
        for share in (0, 1):
            encode_share(*arguments, share)
    return out.clone()


def latents(vae, name, folder):
    """The latents and scenes of one of config.SETS; kept in `folder`."""
    count, height, width = config.SETS[name]
    path, scenes = pathlib.Path(folder) / f"latents_{name}.pt", scenes_of(name, count)
    if not path.exists():
        torch.save(encoded(vae, scenes, height, width), path)
    return torch.load(path), scenes
