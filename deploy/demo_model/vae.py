"""The autoencoder, with the module names of a checkpoint (`first_stage_model.`)."""

import torch
import torch.nn.functional as F
from torch import nn

import config
from layers import Norm, conv, double

EPS = 1e-6


def spread(module):
    """Start weights that keep the variance of what goes through."""
    nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    nn.init.zeros_(module.bias)
    return module


def silent(module):
    """Start a residual branch at zero: the deep network learns as a shallow one at first."""
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    return module


class Res(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = Norm(cin, EPS), conv(cin, cout)
        self.norm2, self.conv2 = Norm(cout, EPS), silent(conv(cout, cout))
        if cin != cout:
            self.nin_shortcut = conv(cin, cout, 1)

    def forward(self, x):
        h = self.conv1(self.norm1(x))
        h = self.conv2(self.norm2(h))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class Attention(nn.Module):
    """One head over all positions."""

    def __init__(self, channels):
        super().__init__()
        self.norm = Norm(channels, EPS, silu=False)
        self.q, self.k, self.v = (conv(channels, channels, 1) for _ in range(3))
        self.proj_out = silent(conv(channels, channels, 1))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (f(h).float().flatten(2) for f in (self.q, self.k, self.v))
        weights = torch.softmax(q.transpose(1, 2) @ k * q.shape[1] ** -0.5, dim=-1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).view_as(x))


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1, self.attn_1 = Res(channels, channels), Attention(channels)
        self.block_2 = Res(channels, channels)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = spread(conv(channels, channels, 3, 2, 0))

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = spread(conv(channels, channels))

    def forward(self, x):
        return self.conv(double(x))


class Encoder(nn.Module):
    def __init__(self, ch, mult):
        super().__init__()
        self.conv_in = spread(conv(3, ch))
        self.down = nn.ModuleList()
        width = ch
        for i, m in enumerate(mult):
            level = nn.Module()
            level.block = nn.ModuleList([Res(width, ch * m), Res(ch * m, ch * m)])
            width = ch * m
            if i + 1 < len(mult):
                level.downsample = Down(width)
            self.down.append(level)
        self.mid = Middle(width)
        self.norm_out, self.conv_out = Norm(width, EPS), conv(width, 8)

    def forward(self, x):
        h = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                h = block(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
        return self.conv_out(self.norm_out(self.mid(h)))


class Decoder(nn.Module):
    def __init__(self, ch, mult):
        super().__init__()
        width = ch * mult[-1]
        self.conv_in = spread(conv(4, width))
        self.mid = Middle(width)
        levels = []
        for i in reversed(range(len(mult))):
            level = nn.Module()
            level.block = nn.ModuleList()
            for _ in range(3):
                level.block.append(Res(width, ch * mult[i]))
                width = ch * mult[i]
            if i > 0:
                level.upsample = Up(width)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = Norm(width, EPS), conv(width, 3)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            for block in level.block:
                h = block(h)
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        return self.conv_out(self.norm_out(h))


class VAE(nn.Module):
    def __init__(self, ch=config.VAE["ch"], mult=tuple(config.VAE["ch_mult"])):
        super().__init__()
        self.encoder, self.decoder = Encoder(ch, mult), Decoder(ch, mult)
        self.quant_conv, self.post_quant_conv = conv(8, 8, 1), conv(4, 4, 1)
        with torch.no_grad():  # start nearly without noise, with moments as conv_out gives them
            self.quant_conv.weight.copy_(torch.eye(8)[:, :, None, None])
            self.quant_conv.bias.zero_()
            self.quant_conv.bias[4:] -= 6
            self.post_quant_conv.weight.copy_(torch.eye(4)[:, :, None, None])

    def moments(self, x):
        """Pictures in [-1, 1] -> mean and log variance."""
        mean, logvar = self.quant_conv(self.encoder(x)).float().chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        """Unscaled latents (already divided by 0.18215) -> pictures in about [-1, 1]."""
        return self.decoder(self.post_quant_conv(z)).float()
