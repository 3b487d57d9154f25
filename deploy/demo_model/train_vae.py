"""Train the autoencoder on crops of drawn pictures; then scale its latents to unit variance."""

import multiprocessing
import time

import numpy as np
import torch
import torch.nn.functional as F

import config
import scene


def draw(index):
    """Picture number `index` of the autoencoder's set: uint8 [256, 256, 3]."""
    rng = np.random.default_rng([config.SEED, 1, index])
    return scene.render(scene.random_scene(rng), 256, 256)


def pictures(count):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return np.stack(pool.map(draw, range(count), chunksize=50))


def crop(images, side, rng):
    """The busier of two random crops, on the grid of 8 that latents see, perhaps mirrored."""
    best, busiest = None, -1.0
    for _ in range(2):
        image = images[rng.integers(len(images))]
        y, x = (8 * rng.integers((n - side) // 8 + 1) for n in image.shape[:2])
        candidate = image[y : y + side, x : x + side]
        busy = candidate[::4, ::4].std() + 10 * rng.random()
        if busy > busiest:
            best, busiest = candidate, busy
    return best[:, ::-1] if rng.random() < 0.5 else best


def crops(images, side, batch, rng):
    """Half of them plain crops, half four small ones of different pictures side by side.

    The networks normalise over the whole input, in groups of two channels: a flat crop would lose
    its colour there, which a whole picture never does. Mosaics are never flat.
    """
    out = []
    for i in range(batch):
        if i % 2:
            out.append(crop(images, side, rng))
        else:
            a, b, c, d = (crop(images, side // 2, rng) for _ in range(4))
            out.append(np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)]))
    tensor = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float()
    return tensor / 127.5 - 1


def edges(x, y):
    """L1 between the differences of neighbouring pixels of two pictures."""
    d = x - y
    return (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()


def colours(x, y):
    """L1 between the mean colours of 8x8 blocks, green against red and blue counted again: the
    last of the three axes of colour to be learnt, and the one that looks worst when missing."""
    d = F.avg_pool2d(x - y, 8)
    return d.abs().mean() + (d[:, 1] - 0.5 * (d[:, 0] + d[:, 2])).abs().mean()


def losses(vae, x):
    mean, logvar = vae.moments(x)
    z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
    y = vae.decode(z)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    flat = (x - y).abs().mean() + 0.5 * (x - y).square().mean()
    total = flat + config.VAE_EDGE * edges(x, y) + config.VAE_COLOUR * colours(x, y)
    return total + config.VAE_KL * kl, flat, kl


def train(vae, images, log, checkpoint):
    """All phases of VAE_PHASES under one learning rate curve."""
    rng = np.random.default_rng([config.SEED, 2])
    optimiser = torch.optim.AdamW(vae.parameters(), lr=config.VAE_RATE, betas=(0.9, 0.98),
                                  weight_decay=0.0)
    whole = config.TIME * sum(phase[2] for phase in config.VAE_PHASES)
    before, start, step = 0, time.time(), 0
    for number, (side, batch, seconds) in enumerate(config.VAE_PHASES):
        before += config.TIME * seconds
        sums = np.zeros(3)
        while time.time() - start < before:
            done = (time.time() - start) / whole
            rate = min(1, (step + 1) / 30) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
            optimiser.param_groups[0]["lr"] = config.VAE_RATE * rate
            x = crops(images, side, batch, rng).to(next(vae.parameters()).device)
            total, flat, kl = losses(vae, x)
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimiser.step()
            sums += (total.item(), flat.item(), kl.item())
            step += 1
            if step % 50 == 0:
                log.write(f"vae{number}", step, time.time() - start, *(sums / 50))
                sums[:] = 0
        torch.save(vae.state_dict(), checkpoint)
    return vae


def fold_scale(vae, images):
    """Scale the latents so that 0.18215 * latent has mean 0 and variance 1, inside the weights.

    The mean half of quant_conv becomes (w z + b - m) / s' with s' = 0.18215 s, and post_quant_conv
    undoes it, so that pictures do not change.
    """
    with torch.no_grad():
        means = []
        for i in range(0, 96, 8):
            x = torch.from_numpy(images[i : i + 8]).permute(0, 3, 1, 2).float() / 127.5 - 1
            means.append(vae.moments(x.to(next(vae.parameters()).device))[0])
        z = torch.cat(means)
        centre = z.mean(dim=(0, 2, 3))
        factor = config.LATENT_SCALE * z.std(dim=(0, 2, 3))
        quant, post = vae.quant_conv, vae.post_quant_conv
        quant.weight[:4] /= factor[:, None, None, None]
        quant.bias[:4] = (quant.bias[:4] - centre) / factor
        quant.bias[4:] -= 2 * factor.log()
        post.bias += post.weight[:, :, 0, 0] @ centre
        post.weight *= factor[None, :, None, None]
    return vae
