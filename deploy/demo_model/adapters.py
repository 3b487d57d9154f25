"""Low-rank adapters: fitted into a network for training, and their names in files."""

import re

import torch
from torch import nn

from layers import Conv, Linear


class LowRank(nn.Module):
    """W + up down, both as matrices."""

    def __init__(self, weight, rank):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight[0].numel()) * weight[0].numel() ** -0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))
        self.strength = 1.0

    def forward(self, weight):
        return weight + self.strength * (self.up @ self.down).view_as(weight)


class Dora(LowRank):
    """The rows of W + up down with lengths of their own."""

    def __init__(self, weight, rank):
        super().__init__(weight, rank)
        self.lengths = nn.Parameter(weight.data.flatten(1).norm(dim=1).clamp(min=1e-4))

    def forward(self, weight):
        v = super().forward(weight).flatten(1)
        return (v * (self.lengths / (v.norm(dim=1) + 1.19e-7))[:, None]).view_as(weight)


def fit_adapters(network, kind, rank, pattern):
    """Put an adapter into every layer whose name matches; {name: adapter}."""
    fitted = {}
    for name, module in network.named_modules():
        if isinstance(module, (Conv, Linear)) and re.search(pattern, name):
            module.adapter = kind(module.weight, min(rank, *module.weight.flatten(1).shape))
            fitted[name] = module.adapter
    return fitted


def remove_adapters(network):
    for module in network.modules():
        if hasattr(module, "adapter"):
            del module.adapter


RES_NAMES = {"in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.3": "conv2",
             "skip_connection": "conv_shortcut"}


def diffusers_name(name):
    """A module of the UNet by its name in diffusers; four levels of two and three blocks."""
    side, *rest = name.split(".")
    if side in ("time_embed", "out"):
        raise ValueError("no adapter is fitted to " + name)
    if side == "middle_block":
        place = int(rest[0])
        head = "mid_block." + ("attentions.0" if place == 1 else f"resnets.{place // 2}")
        tail = ".".join(rest[1:])
        return f"{head}.{tail if place == 1 else RES_NAMES[tail]}"
    number, part, tail = int(rest[0]), rest[1], ".".join(rest[2:])
    if side == "input_blocks":
        block, place = divmod(number - 1, 3)
        head = f"down_blocks.{block}"
        if tail == "op":
            return f"{head}.downsamplers.0.conv"
    else:
        block, place = divmod(number, 3)
        head = f"up_blocks.{block}"
        if tail == "conv":
            return f"{head}.upsamplers.0.conv"
    if part == "0":
        return f"{head}.resnets.{place}.{RES_NAMES[tail]}"
    return f"{head}.attentions.{place}.{tail}"


def shaped(adapter, weight):
    """(down, up) in the shapes of files: for a convolution [r, in, k, k] and [out, r, 1, 1]."""
    if weight.dim() == 2:
        return adapter.down, adapter.up
    return (adapter.down.view(-1, *weight.shape[1:]), adapter.up[:, :, None, None])


def kohya(network, fitted):
    """Tensors under the names of kohya's trainers, DoRA lengths as LyCORIS stores them."""
    weights = dict(network.named_modules())
    tensors = {}
    for name, adapter in fitted.items():
        stem = "lora_unet_" + diffusers_name(name).replace(".", "_")
        weight = weights[name].weight
        tensors[stem + ".lora_down.weight"], tensors[stem + ".lora_up.weight"] = shaped(adapter,
                                                                                      weight)
        tensors[stem + ".alpha"] = torch.tensor(float(adapter.down.shape[0]))
        if isinstance(adapter, Dora):
            tensors[stem + ".dora_scale"] = adapter.lengths.view(-1, *[1] * (weight.dim() - 1))
    return tensors


def peft(network, fitted):
    """Tensors under the names of diffusers with PEFT, whose scale is 1."""
    weights = dict(network.named_modules())
    tensors = {}
    for name, adapter in fitted.items():
        stem = "unet." + diffusers_name(name)
        down, up = shaped(adapter, weights[name].weight)
        tensors[stem + ".lora_A.weight"], tensors[stem + ".lora_B.weight"] = down, up
    return tensors
