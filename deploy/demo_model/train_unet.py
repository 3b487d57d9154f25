"""Train the text encoder and the denoiser together on cached latents."""

import numpy as np
import torch

import config
import scene
import vocabulary
from diffusion import loss_weight, noised
from fit import fit
from latents import latents


def prompt_ids(scenes, rng):
    """Training prompts of some scenes as ids [b, 77]."""
    rows = []
    for s in scenes:
        text = scene.tags(s, rng)
        if rng.random() < config.UNKNOWN_WORDS:
            word = "".join(chr(97 + c) for c in rng.integers(26, size=rng.integers(3, 9)))
            text = f"{text}, {word}" if rng.random() < 0.5 else f"{word}, {text}"
        rows.append(vocabulary.encode("" if rng.random() < config.EMPTY_PROMPTS else text))
    return torch.tensor(rows)


def odds_of(scenes):
    """How often each scene is drawn: subjects that are hard to draw more often."""
    weights = np.array([config.HARD_SUBJECTS.get(s.subject, 1.0) for s in scenes])
    return weights / weights.sum()


class Sets:
    """Draws batches from the latent sets of a phase."""

    def __init__(self, vae, shares, folder):
        self.names, self.shares = list(shares), shares
        self.data = {name: latents(vae, name, folder) for name in shares}
        self.odds = {name: odds_of(scenes) for name, (_, scenes) in self.data.items()}

    def draw(self, rng, pick):
        """(z [b, 4, h, w], scenes); `pick` chooses the set and is the same in all processes."""
        odds = [self.shares[name][0] for name in self.names]
        name = self.names[int(pick.choice(len(odds), p=odds))]
        z, scenes = self.data[name]
        chosen = rng.choice(len(scenes), self.shares[name][1], p=self.odds[name])
        return z[chosen].float(), [scenes[i] for i in chosen]


def device_of(network):
    return next(network.parameters()).device


def timesteps(count, rng, high):
    """Timesteps spread evenly over a batch, but the share `high` of them from HIGH_FROM on."""
    place = (rng.permutation(count) + rng.random(count)) / count
    if high:
        late = rng.random(count) < high
        place = np.where(late, 1 - (1 - place) * (1 - config.HIGH_FROM / config.STEPS), place)
    return torch.from_numpy(place * config.STEPS).long().clamp(0, config.STEPS - 1)


def noise_loss(unet, text, z, ids, rng, high=0.0):
    """Mean weighted squared error of the predicted noise."""
    device = device_of(unet)
    t = timesteps(len(z), rng, high).to(device)
    noise = torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32)).to(device)
    z = z.to(device)
    context = text(ids.to(device), skip=1 if rng.random() < 0.3 else 2)
    error = (unet(noised(z, noise, t), t, context) - noise).square().mean((1, 2, 3))
    return (loss_weight(t, high > 0) * error).mean()


def train(vae, text, unet, log, folder, save, number):
    """Phase `number` of config.PHASES; `save()` runs now and then, the averaged weights fitted."""
    seconds, fast, slow, shares, decay, high = config.PHASES[number]
    sets = Sets(vae, shares, folder)

    def loss(rank, step):
        rng = np.random.default_rng([config.SEED, 4, number, step, rank])
        z, scenes = sets.draw(rng, np.random.default_rng([config.SEED, 5, number, step]))
        return noise_loss(unet, text, z, prompt_ids(scenes, rng), rng, high)

    def report(step, elapsed, value, shared=None):
        log.write(f"unet{number}", step, elapsed, value)
        if step % 200 == 0 and shared:
            shared.attach(shared.average)
            save()
            shared.attach(shared.flat)

    fit([*text.parameters(), *unet.parameters()], loss, seconds, (fast, slow), decay, report)
    save()
