"""SD1.5's UNet and VAE decoder in plain PyTorch, float32, from a single-file checkpoint.

Written from the architecture's description only, as PyTorch runs it best on a CPU: channels-last
convolutions, attention in slices of heads so that scores stay in the cache's reach, no autograd.
"""
import json
import math
import struct

import numpy
import torch
import torch.nn.functional as F

SCORES_BYTES_MAX = 256 << 20  # of attention scores held at once


def load(path, prefixes):
    """Tensors whose name starts with one of `prefixes`, float16 file to float32, 4-D channels-last."""
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    size = struct.unpack("<Q", data[:8].tobytes())[0]
    header = json.loads(data[8:8 + size].tobytes())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or not name.startswith(prefixes):
            continue
        begin, end = entry["data_offsets"]
        raw = numpy.frombuffer(data[8 + size + begin:8 + size + end], dtype=numpy.float16)
        tensor = torch.from_numpy(raw.astype(numpy.float32)).reshape(entry["shape"])
        if tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        tensors[name] = tensor
    return tensors


def attention(q, k, v, heads):
    """[B, T, C] each; softmax(q k^T / sqrt(d)) v by slices of heads."""
    batch, rows, channels = q.shape
    dim = channels // heads

    def split(x):
        x = x.reshape(batch, x.shape[1], heads, dim).transpose(1, 2)
        return x.reshape(batch * heads, -1, dim).contiguous()

    q, k, v = split(q), split(k), split(v)
    out = torch.empty_like(q)
    step = max(1, SCORES_BYTES_MAX // (4 * rows * k.shape[1]))
    for i in range(0, batch * heads, step):
        scores = torch.baddbmm(q.new_empty(1, 1, 1), q[i:i + step], k[i:i + step].transpose(1, 2),
                               beta=0, alpha=dim ** -0.5)
        torch.bmm(torch.softmax(scores, dim=-1), v[i:i + step], out=out[i:i + step])
    out = out.reshape(batch, heads, rows, dim).transpose(1, 2)
    return out.reshape(batch, rows, channels)


class Weights:
    def __init__(self, tensors, prefix):
        self.tensors = tensors
        self.prefix = prefix

    def __getitem__(self, name):
        return self.tensors[self.prefix + name]

    def get(self, name):
        return self.tensors.get(self.prefix + name)

    def conv(self, name, x, stride=1, padding=1):
        weight = self[name + ".weight"]
        if weight.shape[2] == 1:
            padding = 0
        return F.conv2d(x, weight, self[name + ".bias"], stride=stride, padding=padding)

    def linear(self, name, x):
        return F.linear(x, self[name + ".weight"], self.get(name + ".bias"))

    def group_norm(self, name, x, eps, silu=True):
        x = F.group_norm(x, 32, self[name + ".weight"], self[name + ".bias"], eps)
        return F.silu(x, inplace=True) if silu else x

    def layer_norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self[name + ".weight"], self[name + ".bias"], 1e-5)


class UNet(Weights):
    def __init__(self, tensors, heads=8):
        super().__init__(tensors, "model.diffusion_model.")
        self.heads = heads
        self.channels = self["input_blocks.0.0.weight"].shape[0]

    def resblock(self, name, x, temb):
        h = self.conv(name + ".in_layers.2", self.group_norm(name + ".in_layers.0", x, 1e-5))
        h = h + self.linear(name + ".emb_layers.1", temb)[:, :, None, None]
        h = self.conv(name + ".out_layers.3", self.group_norm(name + ".out_layers.0", h, 1e-5))
        if self.get(name + ".skip_connection.weight") is not None:
            x = self.conv(name + ".skip_connection", x)
        return x + h

    def attend(self, name, x, context):
        q = self.linear(name + ".to_q", x)
        k = self.linear(name + ".to_k", context)
        v = self.linear(name + ".to_v", context)
        return self.linear(name + ".to_out.0", attention(q, k, v, self.heads))

    def transformer(self, name, x, context):
        batch, channels, height, width = x.shape
        block = name + ".transformer_blocks.0"
        h = self.conv(name + ".proj_in", self.group_norm(name + ".norm", x, 1e-6, silu=False))
        h = h.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        n = self.layer_norm(block + ".norm1", h)
        h = h + self.attend(block + ".attn1", n, n)
        h = h + self.attend(block + ".attn2", self.layer_norm(block + ".norm2", h), context)
        value, gate = self.linear(block + ".ff.net.0.proj",
                                  self.layer_norm(block + ".norm3", h)).chunk(2, dim=-1)
        h = h + self.linear(block + ".ff.net.2", value * F.gelu(gate))
        h = h.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return x + self.conv(name + ".proj_out", h)

    def block(self, name, x, temb, context):
        for i in range(3):
            part = f"{name}.{i}"
            if self.get(part + ".in_layers.0.weight") is not None:
                x = self.resblock(part, x, temb)
            elif self.get(part + ".proj_in.weight") is not None:
                x = self.transformer(part, x, context)
            elif self.get(part + ".op.weight") is not None:
                x = self.conv(part + ".op", x, stride=2)
            elif self.get(part + ".conv.weight") is not None:
                x = self.conv(part + ".conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x

    def __call__(self, x, t, context):
        half = self.channels // 2
        f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        temb = torch.cat([torch.cos(t[:, None] * f), torch.sin(t[:, None] * f)], dim=1)
        temb = self.linear("time_embed.2", F.silu(self.linear("time_embed.0", temb)))
        temb = F.silu(temb)
        h = self.conv("input_blocks.0.0", x.contiguous(memory_format=torch.channels_last))
        skips = [h]
        for i in range(1, 12):
            h = self.block(f"input_blocks.{i}", h, temb, context)
            skips.append(h)
        h = self.resblock("middle_block.0", h, temb)
        h = self.transformer("middle_block.1", h, context)
        h = self.resblock("middle_block.2", h, temb)
        for i in range(12):
            h = self.block(f"output_blocks.{i}", torch.cat([h, skips.pop()], dim=1), temb, context)
        return self.conv("out.2", self.group_norm("out.0", h, 1e-5))


class Decoder(Weights):
    def __init__(self, tensors):
        super().__init__(tensors, "first_stage_model.")

    def resblock(self, name, x):
        h = self.conv(name + ".conv1", self.group_norm(name + ".norm1", x, 1e-6))
        h = self.conv(name + ".conv2", self.group_norm(name + ".norm2", h, 1e-6))
        if self.get(name + ".nin_shortcut.weight") is not None:
            x = self.conv(name + ".nin_shortcut", x)
        return x + h

    def attend(self, name, x):
        batch, channels, height, width = x.shape
        h = self.group_norm(name + ".norm", x, 1e-6, silu=False)
        q, k, v = (self.conv(f"{name}.{part}", h).permute(0, 2, 3, 1).reshape(batch, -1, channels)
                   for part in "qkv")
        h = attention(q, k, v, 1).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return x + self.conv(name + ".proj_out", h)

    def __call__(self, z):
        h = self.conv("post_quant_conv", z.contiguous(memory_format=torch.channels_last))
        h = self.conv("decoder.conv_in", h)
        h = self.resblock("decoder.mid.block_1", h)
        h = self.attend("decoder.mid.attn_1", h)
        h = self.resblock("decoder.mid.block_2", h)
        for level in (3, 2, 1, 0):
            for i in range(3):
                h = self.resblock(f"decoder.up.{level}.block.{i}", h)
            if level > 0:
                h = self.conv(f"decoder.up.{level}.upsample.conv",
                              F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv("decoder.conv_out", self.group_norm("decoder.norm_out", h, 1e-6))
