"""Layers that all networks share.

Maps travel in bfloat16 between convolutions (oneDNN's bfloat16 is several times faster on CPUs that
have it, and so is a GPU's) and weights are kept in fp32. On a CPU norms run in norm.c, which reads
and writes bfloat16 and computes in fp32. `set_precision(torch.float32)` gives the exact network.
"""

import torch
import torch.nn.functional as F
from torch import nn

from native import call, library

PRECISION = {"dtype": torch.bfloat16}


def set_precision(dtype):
    PRECISION["dtype"] = dtype


def adapted(module):
    """The weight, changed by an adapter (adapters.py) where one is fitted."""
    return module.adapter(module.weight) if hasattr(module, "adapter") else module.weight


class Conv(nn.Conv2d):
    def forward(self, x):
        t = PRECISION["dtype"]
        return F.conv2d(x.to(t), adapted(self).to(t), self.bias.to(t), self.stride, self.padding)


class Linear(nn.Linear):
    def forward(self, x):
        t = PRECISION["dtype"]
        bias = None if self.bias is None else self.bias.to(t)
        return F.linear(x.to(t), adapted(self).to(t), bias)


class LayerNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.float())


class FusedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps, silu):
        x = x.contiguous()
        n, c, h, w = x.shape
        y = torch.empty_like(x)
        mean, rstd = weight.new_empty(n, groups), weight.new_empty(n, groups)
        call("norm_forward", (x, weight, bias, y, mean, rstd), n, c, groups, h * w, float(eps),
             int(silu))
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.silu = silu
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, bias, mean, rstd = ctx.saved_tensors
        n, c, h, w = x.shape
        dx = torch.empty_like(x)
        dweight, dbias = weight.new_empty(n, c), weight.new_empty(n, c)
        if not call("norm_backward", (x, weight, bias, dy.contiguous(), mean, rstd, dx, dweight,
                                      dbias), n, c, mean.shape[1], h * w, int(ctx.silu)):
            raise RuntimeError("norm.c: no memory")
        return dx, dweight.sum(0), dbias.sum(0), None, None, None


class Norm(nn.GroupNorm):
    """GroupNorm with 32 groups, then SiLU unless told otherwise."""

    def __init__(self, channels, eps, silu=True):
        super().__init__(32, channels, eps)
        self.silu = silu

    def forward(self, x):
        fast = x.device.type == "cpu" and x.dtype == torch.bfloat16
        if fast and x.shape[2] * x.shape[3] % 16 == 0 and library():
            return FusedNorm.apply(x, self.weight, self.bias, 32, self.eps, self.silu)
        y = super().forward(x.float())
        return F.silu(y) if self.silu else y


class FusedGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        width = x.shape[-1] // 2
        y = x.new_empty(*x.shape[:-1], width)
        call("gate_forward", (x, y), y.numel() // width, width)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        dx = torch.empty_like(x)
        width = x.shape[-1] // 2
        call("gate_backward", (x, grad.contiguous(), dx), x.numel() // (2 * width), width)
        return dx


def gated(x):
    """First half of the last axis times the gelu of the second."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and library():
        return FusedGate.apply(x)
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


def conv(cin, cout, size=3, stride=1, padding=None):
    return Conv(cin, cout, size, stride, size // 2 if padding is None else padding)


def double(x):
    """Nearest-neighbour upsampling by two."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
