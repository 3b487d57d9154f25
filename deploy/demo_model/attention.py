"""softmax(q k^T / sqrt(d)) v with its gradient: attention.c on a CPU, else plain PyTorch.

PyTorch 1.13 keeps all scores in memory; at 1024 positions that is ten times slower than the
arithmetic.
"""

import torch

from native import call, library


def checked(name, tensors, *sizes):
    if not call(name, tensors, *sizes):
        raise RuntimeError("attention.c: no memory, or a depth it does not know")


class Fused(torch.autograd.Function):
    """q [heads, m, d], k and v [heads, n, d], fp32 and contiguous."""

    @staticmethod
    def forward(ctx, q, k, v):
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:2])
        sizes = (q.shape[0], q.shape[1], k.shape[1], q.shape[2])
        checked("attention_forward", (q, k, v, out, lse), *sizes)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.sizes = sizes
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, out, lse = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        checked("attention_backward", (q, k, v, out, lse, grad.contiguous(), dq, dk, dv),
                *ctx.sizes)
        return dq, dk, dv


def plain(q, k, v):
    return torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1) @ v


def attend(q, k, v, heads):
    """Multi-head attention of q [b, m, c] over k, v [b, n, c]; heads are slices of c."""
    def split(x):
        b, n, c = x.shape
        return x.view(b, n, heads, c // heads).transpose(1, 2).reshape(b * heads, n, c // heads)

    parts = [split(x) for x in (q, k, v)]
    usable = q.device.type == "cpu" and parts[0].shape[2] in (16, 32, 48, 64) and library()
    out = Fused.apply(*(p.contiguous() for p in parts)) if usable else plain(*parts)
    return out.view(q.shape[0], heads, q.shape[1], -1).transpose(1, 2).reshape(q.shape)
