"""Go on training the decoder alone, for the latents that the finished encoder gives.

Done last: the latents stay what the denoiser has learnt, and only their pictures get sharper.
Latents come from whole pictures, so that the decoder meets them as it will at work.
"""

import numpy as np
import torch

import config
import scene
from fit import fit
from latents import latents
from train_vae import colours, edges


def train_decoder(vae, log, folder):
    z, scenes = latents(vae, "whole", folder)
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    for p in vae.parameters():
        p.requires_grad = False
    for p in parameters:
        p.requires_grad = True

    for number, (side, batch, seconds, rate) in enumerate(config.DECODER_PHASES):
        def loss(rank, step, side=side, batch=batch, number=number):
            rng = np.random.default_rng([config.SEED, 13, number, step, rank])
            pictures, codes = [], []
            for _ in range(batch):
                i = rng.integers(len(scenes))
                y, x = (8 * rng.integers((256 - side) // 8 + 1) for _ in range(2))
                picture = scene.render(scenes[i], 256, 256)[y : y + side, x : x + side]
                pictures.append(torch.from_numpy(picture.copy()))
                codes.append(z[i, :, y // 8 : (y + side) // 8, x // 8 : (x + side) // 8].float())
            device = next(vae.parameters()).device
            wanted = torch.stack(pictures).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
            code = torch.stack(codes)
            code = code + config.DECODER_NOISE * torch.from_numpy(
                rng.standard_normal(code.shape, dtype=np.float32))
            got = vae.decode(code.to(device) / config.LATENT_SCALE)
            flat = (wanted - got).abs().mean() + 0.5 * (wanted - got).square().mean()
            return flat + config.VAE_EDGE * edges(wanted, got) + colours(wanted, got)

        fit(parameters, loss, seconds, (rate, rate / 30), 0.99,
            lambda step, elapsed, value, shared=None, number=number:
            log.write(f"decoder{number}", step, elapsed, value))
