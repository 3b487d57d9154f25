"""The noise schedule of SD1.5 and the sampling steps that training needs."""

import torch

import config


def alphas_bar():
    """Cumulative products of 1 - beta, [1000]."""
    first, last = (b**0.5 for b in config.BETAS)
    betas = torch.linspace(first, last, config.STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


ALPHAS_BAR = alphas_bar()


def noised(z, noise, t):
    a = ALPHAS_BAR.to(z.device)[t][:, None, None, None]
    return a.sqrt() * z + (1 - a).sqrt() * noise


def loss_weight(t, high=False):
    """Min-SNR for a network that predicts noise, min(snr, gamma) / snr; where `high`, timesteps
    from HIGH_FROM on weigh as an error of the clean picture would, up to a cap."""
    a = ALPHAS_BAR.to(t.device)[t]
    snr = a / (1 - a)
    weight = snr.clamp(max=config.SNR_GAMMA) / snr
    if high:
        weight = torch.where(t >= config.HIGH_FROM, (1 / snr).clamp(max=config.HIGH_CAP), weight)
    return weight


def ddim(x, noise, t, to):
    """Deterministic step from timesteps t to earlier ones (tensors [b]; -1 is the clean one)."""
    table = torch.cat([ALPHAS_BAR, torch.ones(1)]).to(x.device)
    a, b = table[t][:, None, None, None], table[to][:, None, None, None]
    clean = (x - (1 - a).sqrt() * noise) / a.sqrt()
    return b.sqrt() * clean + (1 - b).sqrt() * noise
